"""Addresses of files that are not on a disk of this machine, such as ``s3://bucket/folder/a.wav``.

An address may be a text or a `Path`, like the name of a local file. `Path` joins two slashes to one, and joins an
address to a folder: ``s3:/bucket/a.wav`` and ``/data/s3:/bucket/a.wav`` are the address ``s3://bucket/a.wav``, too. So
an address in a table is absolute, whatever the folder of the table, and it is never a local folder called ``s3:``.
"""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePath

LOCAL = frozenset({"file", "local"})
"""Schemes of the file system of this machine."""

SCHEMES = LOCAL | frozenset({"s3", "s3a", "gs", "gcs", "hf", "az", "abfs", "abfss", "adl", "oss", "oci"}) | frozenset(
    {"http", "https", "ftp", "sftp", "ssh", "smb", "hdfs", "webhdfs", "webdav", "dropbox", "gdrive", "memory"}
)  # fmt: skip
"""Schemes that are recognised wherever they stand in a path; others only at its begin and with two slashes."""

HF_KINDS = ("datasets/", "spaces/")
"""What an address of the Hugging Face Hub begins with where its two slashes were joined to one: ``hf:/DIR`` is the
Hugging Face folder ``/DIR`` of this machine.
"""

_INSIDE = re.compile(rf"(?:^|/)({'|'.join(sorted(SCHEMES))}):/+(?=[^/])")
_BEGIN = re.compile(r"([a-z][a-z0-9+.-]+)://+(?=[^/])")
_UNKNOWN = re.compile(r"([a-z][a-z0-9+.-]+):/(?=[^/])")


def address_of(path: str | os.PathLike[str]) -> str:
    """Return the address that a path names, as ``SCHEME://PLACE``; empty if it names a local file.

    Parameters
    ----------
    path : str or path
        A scheme that is not in `SCHEMES` is recognised at the begin, if there is no local folder of this name.
    """
    text = os.fspath(path)
    if ":/" not in text:
        return ""
    found = None
    for found in _INSIDE.finditer(text):  # noqa: B007 - the last one, as of absolute paths that are joined
        pass
    found = found or _BEGIN.match(text)
    if found is None and isinstance(path, PurePath) and (found := _UNKNOWN.match(text)):
        found = None if Path(f"{found[1]}:").is_dir() else found
    if found is None:
        return ""
    scheme, place = found[1], text[found.end() :]
    if scheme == "hf" and "hf://" not in text and not place.startswith(HF_KINDS):
        return ""
    return f"{scheme}://{'/' if scheme in LOCAL else ''}{place}"


def scheme_of(address: str) -> str:
    """Return the scheme of an address."""
    return address.partition("://")[0]


def located(path: str | os.PathLike[str]) -> str:
    """Return the address, or the absolute path of a local file with its links resolved."""
    return address_of(path) or str(Path(path).resolve())


def named(path: str | os.PathLike[str]) -> str:
    """Return an address as the user writes it, and the name of a local file as it is."""
    return address_of(path) or os.fspath(path)
