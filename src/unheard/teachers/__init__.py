"""Frozen teachers, whose features a student learns to predict."""
