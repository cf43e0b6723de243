"""Scores of classes for whole files: with fine-tuned models or with labels in words, in one process or in tasks."""
