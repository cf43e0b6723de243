"""Sounds inside archives, which are read without unpacking."""
