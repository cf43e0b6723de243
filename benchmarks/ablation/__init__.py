"""A sweep of objectives on equal data: ``python -m benchmarks.ablation --help``."""
