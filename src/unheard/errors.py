"""Exceptions of the library.

UnheardError
├── ConfigError      an unknown recipe, field, value or option
│   └── InUseError   an output that another process writes
├── AudioError       a file or array that is not usable sound
├── DataError        a corpus, CSV or shard that cannot be used
│   └── RemoteError  a file at an address, such as s3://bucket/a.wav, that cannot be read or written; also an OSError
└── CheckpointError  a model or run folder, or a published file, that cannot be used

AudioWarning         a sound was used although it is truncated, or files were left out
DamageWarning        a file of a cache is damaged, and its content is recomputed
JobWarning           a worker of a job was lost, and its task is continued; or a task met the work of another one

Every message states what is wrong, where, what is accepted and how to fix it. The command line prints it as one line
and exits with status 2.
"""

from __future__ import annotations

import unicodedata
import warnings
from importlib import import_module
from pathlib import Path, PurePath

from unheard.addresses import named


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


class RemoteError(DataError, OSError):
    """A file at an address could not be read or written; as an `OSError`, it is handled like an error of a disk."""


class CheckpointError(UnheardError):
    """A model folder, a run folder or a published checkpoint could not be used."""


class ModelError(UnheardError):
    """A model raised an error on an input; that error is the cause."""


class AudioWarning(UserWarning):
    """A sound or a folder is used with a limitation: a file is truncated, or files were left out."""


class DamageWarning(UserWarning):
    """A file of a cache differs from its checksum; its content is recomputed."""


class JobWarning(UserWarning):
    """A worker of a job was lost; its task is continued by another one."""


def warn_audio(text: str) -> None:
    """Warn about a sound that is used nevertheless, or about files that are left out."""
    warnings.warn(AudioWarning(text), stacklevel=3)


def warn_damaged(file: Path) -> None:
    """Issue a `DamageWarning` that names a damaged file of a cache."""
    warnings.warn(
        DamageWarning(f"{shown(file)} is damaged: it differs from its checksum; its content is recomputed"),
        stacklevel=3,
    )


def warn_job(text: str) -> None:
    """Warn about a worker that was lost, or about parts of a job that are used or left out."""
    warnings.warn(JobWarning(text), stacklevel=3)


def missing_extra(package: str, extra: str, install: str = "") -> UnheardError:
    """Return the error for a missing optional package, with the command that installs it."""
    command = install or f"pip install 'unheard[{extra}]'"
    return UnheardError(f"this needs the package {package}, which is not installed; install it with: {command}")


def require(module: str, extra: str = "", package: str = "", install: str = "") -> None:
    """Import an optional package.

    Parameters
    ----------
    extra : str
        The extra that it belongs to.
    package : str, optional
        The name for pip, if it differs from that of the module.
    install : str, optional
        The command that installs it, if it belongs to no extra.

    Raises
    ------
    UnheardError
        When it is not installed, or cannot be imported; the message has the reason.
    """
    try:
        import_module(module)
    except Exception as error:  # a broken package may raise anything while it is imported
        name = package or module
        if isinstance(error, ModuleNotFoundError) and error.name == module:
            raise missing_extra(name, extra, install) from error
        raise UnheardError(
            f"the package {name} is installed but cannot be imported ({type(error).__name__}:"
            f" {' '.join(str(error).split())}); reinstall it with: pip install --force-reinstall {name}"
        ) from error


def shown(text: object) -> str:
    """Return an untrusted text as one line for a terminal: invalid bytes and control characters escaped.

    A path that is an address is shown as the address.
    """
    plain = named(text) if isinstance(text, PurePath) else str(text)
    return "".join(
        ascii(letter)[1:-1] if unicodedata.category(letter) in _CONTROL else letter for letter in utf8(plain)
    )


def utf8(text: str) -> str:
    r"""Return a path as valid UTF-8, for tables: invalid bytes of a file name are written as ``\xff``."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


_CONTROL = frozenset({"Cc", "Zl", "Zp"})
"""Unicode categories of characters that move a terminal's cursor."""
