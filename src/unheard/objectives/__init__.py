"""Losses computed from a masked pass, one in each file."""
