"""Model folders and published checkpoints."""
