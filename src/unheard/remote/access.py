"""Calls to the file system of an address, tried again after an error that may pass, with clear errors.

fsspec and its file systems (s3fs, gcsfs, huggingface_hub, ...) try some calls again themselves. `attempt` tries the
whole call again, and names the address when it gives up. Credentials and endpoints are those of the file system: its
environment variables, its files, and those of fsspec (``FSSPEC_S3_ENDPOINT_URL``, ``~/.config/fsspec``).
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from unheard.addresses import scheme_of
from unheard.errors import ConfigError, RemoteError, missing_extra, shown

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

Result = TypeVar("Result")

TRIES = 3
"""Calls before an error is raised (our choice); s3fs tries each of them up to five times itself."""
PAUSE = 0.5
"""Seconds before the second call; doubled each time (our choice)."""
S3_CLIENT: dict[str, Any] = {"connect_timeout": 10, "read_timeout": 30, "retries": {"max_attempts": 0}}
"""Options of botocore (our choice): seconds to wait for a connection and for the next bytes, so that a store that does
not answer is named after minutes; further attempts are those of s3fs.
"""

PACKAGES = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "hf": "huggingface_hub", "az": "adlfs"}
"""Package with the file system of a scheme."""

_CREDENTIALS = frozenset(
    {"NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError", "ProfileNotFound"}
    | {"DefaultCredentialsError", "LocalTokenNotFoundError", "NoAuthTokenError"}
)
"""Names of errors of file systems that lack credentials."""
_WAYS = {
    "s3fs": "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE; for a public bucket, FSSPEC_S3_ANON=true",
    "gcsfs": "run gcloud auth application-default login; for a public bucket, set FSSPEC_GS_TOKEN=anon",
    "huggingface_hub": "set HF_TOKEN",
}
"""How to give credentials to the file system of a package."""


def file_system(address: str) -> tuple[AbstractFileSystem, str]:
    """Return the file system of an address, and the place in it.

    Raises
    ------
    ConfigError
        When the scheme is unknown.
    UnheardError
        When the package of its file system is missing.
    """
    import fsspec
    from fsspec.core import url_to_fs

    scheme = scheme_of(address)
    package = PACKAGES.get(scheme, "")
    options: dict[str, Any] = {"use_listings_cache": False}
    if package == "s3fs" and "config_kwargs" not in fsspec.config.conf.get("s3", {}):
        options["config_kwargs"] = S3_CLIENT
    try:
        return url_to_fs(address, **options)  # type: ignore[no-any-return]
    except ImportError as error:
        name = package or str(error)
        raise (
            missing_extra(name, "remote")
            if name == "s3fs"
            else missing_extra(name, "", f"pip install {package or f'the package that serves {scheme}://'}")
        ) from error
    except ValueError as error:
        if "Protocol not known" not in str(error):
            raise RemoteError(f"{shown(address)}: {error}") from error
        raise ConfigError(
            f"{shown(address)}: the scheme {scheme}:// is unknown; give a local path, or an address of a known"
            " scheme, such as s3://BUCKET/NAME, gs://BUCKET/NAME or hf://datasets/USER/NAME"
        ) from error


def attempt(address: str, verb: str, call: Callable[[AbstractFileSystem, str], Result]) -> Result:
    """Call the file system of an address. Errors that may pass are tried again, after growing pauses.

    Parameters
    ----------
    address : str
    verb : str
        What the call does to the address, as a participle for the message, such as "read".
    call : callable
        Takes the file system and the place in it; it may be called several times.

    Raises
    ------
    FileNotFoundError
        When there is no such file.
    RemoteError
        When there are no credentials or no permission, or the last call failed, too.
    """
    system, place = file_system(address)
    for number in range(TRIES):
        try:
            return call(system, place)
        except (FileNotFoundError, RemoteError):
            raise
        except NotADirectoryError as error:  # a place below a file
            raise FileNotFoundError(*error.args) from error
        except Exception as error:  # each file system has errors of its own
            if (final := _final(address, verb, error)) is not None:
                raise final from error
            if number == TRIES - 1:
                raise RemoteError(
                    f"{shown(address)}: could not be {verb} in {TRIES} attempts ({_reason(error)}); run the command"
                    " again when the network or the store works again"
                ) from error
        time.sleep(PAUSE * 2**number)
    raise AssertionError("the last attempt returns or raises")


def _final(address: str, verb: str, error: Exception) -> Exception | None:
    """Return the error to raise at once; None for an error that may pass."""
    names = {kind.__name__ for kind in type(error).__mro__}
    if names & _CREDENTIALS:
        ways = _WAYS.get(PACKAGES.get(scheme_of(address), ""), "see the documentation of its file system")
        return RemoteError(f"{shown(address)}: there are no credentials for this store; {ways}")
    if isinstance(error, PermissionError):
        return RemoteError(
            f"{shown(address)}: must not be {verb} with the credentials in use ({_reason(error)}); check them, and the"
            " permissions of the bucket"
        )
    if isinstance(error, NotImplementedError):
        return RemoteError(f"{shown(address)}: files of {scheme_of(address)}:// cannot be {verb}; use another store")
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return error
    if isinstance(error, IsADirectoryError | NotADirectoryError | TypeError | AttributeError | KeyError):
        return RemoteError(f"{shown(address)}: cannot be {verb} ({type(error).__name__}: {_reason(error)})")
    return None


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())
    return shown(text[:200]) or type(error).__name__
