"""Corpora, shards, windows, batches."""
