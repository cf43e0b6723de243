"""Several runs: a list of the runs below a folder, and a page that compares two."""
