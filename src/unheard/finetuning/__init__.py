"""From an encoder and a table of labels to a classifier."""
