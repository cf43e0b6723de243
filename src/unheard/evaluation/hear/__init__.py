"""HEAR task folders: protocols, scores and tables."""
