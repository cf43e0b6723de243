"""Exceptions a user can meet.

UnheardError
├── ConfigError      an unknown recipe, field, value or option
│   └── InUseError   an output that another process writes
├── AudioError       a file or array that is not usable sound
├── DataError        a corpus, CSV or shard that cannot be used
└── CheckpointError  a model or run folder, or a published file, that cannot be used

AudioWarning         a sound was used, but not as it should be: it is cut, or files were left out
DamageWarning        a file of a cache is damaged, and what it held is computed again

Every message says what came, what was expected and what to do. The command line prints it as one line and exits with 2.
"""

from __future__ import annotations

import unicodedata
import warnings
from importlib.util import find_spec
from pathlib import Path


class UnheardError(Exception):
    """Base class of every error this library raises on purpose."""


class ConfigError(UnheardError):
    """A configuration names something that does not exist or has a value that is not allowed."""


class InUseError(ConfigError):
    """Another process is writing the same output."""


class AudioError(UnheardError):
    """A file or an array could not be used as sound."""


class DataError(UnheardError):
    """A corpus, a label table or a shard could not be used."""


class CheckpointError(UnheardError):
    """A model folder, a run folder or a published checkpoint could not be used."""


class ModelError(UnheardError):
    """A model failed on some input; what it raised is the cause."""


class AudioWarning(UserWarning):
    """A sound or a folder is used, with something that a user should know: a file is cut, or files were left out."""


class DamageWarning(UserWarning):
    """A file of a cache differs from its checksum; what it held is computed again."""


def warn_damaged(file: Path) -> None:
    """Name a damaged file of a cache in a `DamageWarning`."""
    warnings.warn(
        DamageWarning(f"{shown(file)} is damaged: it differs from its checksum; what it held is computed again"),
        stacklevel=3,
    )


def missing_extra(package: str, extra: str) -> UnheardError:
    """The error for an optional package that is not installed, naming the command that installs it."""
    return UnheardError(
        f"this needs the package {package}, which is not installed; install it with: pip install 'unheard[{extra}]'"
    )


def require(module: str, extra: str, package: str = "") -> None:
    """Check that an optional package is installed.

    Parameters
    ----------
    package : str, optional
        The name that pip takes, where it is not that of the module.

    Raises
    ------
    UnheardError
        When it is not.
    """
    if find_spec(module) is None:
        raise missing_extra(package or module, extra)


def shown(text: object) -> str:
    """A path or another text of strangers as one line that any terminal and file can hold: bad bytes and control
    characters escaped.
    """
    return "".join(
        ascii(letter)[1:-1] if unicodedata.category(letter) in _CONTROL else letter for letter in utf8(str(text))
    )


def utf8(text: str) -> str:
    r"""A path as valid UTF-8, for tables: bytes of a file's name that are none are written as ``\xff``."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


_CONTROL = frozenset({"Cc", "Zl", "Zp"})
"""Categories of letters that move a terminal's cursor."""
