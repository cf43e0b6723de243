"""Suffixes of sound files, in lower case."""

AUDIO_SUFFIXES = frozenset(
    {".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".aifc", ".au", ".snd", ".w64", ".caf"}
)
"""Suffixes of sound files that are read without extras."""

AV_SUFFIXES = frozenset(
    {".m4a", ".mp4", ".aac", ".webm", ".wma", ".mka", ".mkv", ".mov", ".amr", ".ac3", ".3gp", ".m4b"}
)
"""Suffixes of sound files that need the extra ``av``."""
