"""Sound in, vectors out."""
