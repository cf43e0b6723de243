"""Which windows of which clips a batch has."""
