"""How good an embedding is."""
