"""Embeddings and scores from trained models."""
