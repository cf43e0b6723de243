"""Recompute stored reference outputs and compare."""
