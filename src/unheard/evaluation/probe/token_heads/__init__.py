"""Heads of a probe that read the tokens of all layers, instead of one vector per clip."""
