"""Scores of a labelled table while a run trains."""
