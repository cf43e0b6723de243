"""Measurements: one row of the performance table a module, run as ``python -m benchmarks.NAME``."""
