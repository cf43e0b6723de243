"""Run folders at addresses."""
