"""Annotations of parts of recordings: selection tables of Raven and label files of Audacity."""
