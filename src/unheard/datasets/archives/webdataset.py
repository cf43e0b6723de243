"""Annotations of the sounds in WebDataset tar files.

The members of a sample have one name up to the first dot of the file name: a sound, and its annotations in ``.json``
(an object), ``.cls`` (a label) and ``.txt`` (a caption). A field of the object has precedence. Other members are
ignored.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from unheard.audio.archives.archive import Archive
from unheard.errors import DataError, UnheardError, shown

TEXTS = ((".cls", "label"), (".txt", "caption"))
"""Endings of members with one text, and the field that it stands for."""

MOST_BYTES = 1 << 24
"""Largest annotation that is read (our choice)."""


def read_samples(archive: Archive, sounds: list[str]) -> Iterator[dict[str, Any] | UnheardError]:
    """Yield the annotations of sounds, in their order; empty for a sound without any.

    An error is yielded instead when an annotation cannot be read, is not an object in JSON, or not text.
    """
    for name in sounds:
        try:
            yield _sample(archive, sample_key(name))
        except UnheardError as error:
            yield error


def _sample(archive: Archive, key: str) -> dict[str, Any]:
    """Return the annotations of one sample."""
    record = _object(archive, f"{key}.json") if f"{key}.json" in archive else {}
    for ending, field in TEXTS:
        if key + ending in archive and record.get(field) in (None, ""):
            record[field] = _text(archive, key + ending).strip()
    return record


def sample_key(name: str) -> str:
    """Return the name of a member up to the first dot of its file name."""
    folder, slash, file = name.rpartition("/")
    return folder + slash + file.partition(".")[0]


def _object(archive: Archive, name: str) -> dict[str, Any]:
    try:
        found = json.loads(_text(archive, name))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{shown(name)} is not JSON ({error})") from error
    if not isinstance(found, dict):
        raise DataError(f"{shown(name)} holds {type(found).__name__}, not an object")
    return found


def _text(archive: Archive, name: str) -> str:
    if archive.size(name) > MOST_BYTES:
        raise DataError(f"{shown(name)} has {archive.size(name)} bytes; annotations have at most {MOST_BYTES}")
    with archive.open(name) as file:
        content = file.read()
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{shown(name)} is not text in UTF-8 ({error})") from error
