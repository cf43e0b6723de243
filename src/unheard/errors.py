"""Exceptions a user can meet.

UnheardError
├── ConfigError      an unknown recipe, field, value or option
├── AudioError       a file or array that is not usable sound
├── DataError        a corpus, CSV or shard that cannot be used
└── CheckpointError  a model or run folder, or a published file, that cannot be used

Every message says what came, what was expected and what to do. The command line prints it as one line and exits with 2.
"""

from __future__ import annotations


class UnheardError(Exception):
    """Base class of every error this library raises on purpose."""


class ConfigError(UnheardError):
    """A configuration names something that does not exist or has a value that is not allowed."""


class AudioError(UnheardError):
    """A file or an array could not be used as sound."""


class DataError(UnheardError):
    """A corpus, a label table or a shard could not be used."""


class CheckpointError(UnheardError):
    """A model folder, a run folder or a published checkpoint could not be used."""


class ModelError(UnheardError):
    """A model failed on some input; what it raised is the cause."""


def missing_extra(package: str, extra: str) -> UnheardError:
    """The error for an optional package that is not installed, naming the command that installs it."""
    return UnheardError(f"this needs the package {package}, which is not installed; install it with: pip install 'unheard[{extra}]'")
