"""What several processes of one run share: parts of batches, and weights."""
