"""Detection: parts of recordings in which a classifier finds its classes, with times and scores."""
