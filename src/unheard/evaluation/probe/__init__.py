"""Probes on frozen embeddings of a labels CSV."""
