"""Labelled data on disk: packages, generated sounds, importers, task folders."""
