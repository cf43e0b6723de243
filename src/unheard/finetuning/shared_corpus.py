"""Packed clips of tables in a folder that several runs share: packed by the first, found by the others.

Each corpus has a folder of its own, named by a hash of what it is made of. Files are compared by name, size and time of
their last change, so that a corpus that is there is found without reading a header.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from unheard.data.corpus import THREADS, Corpus
from unheard.data.label_table import Labels
from unheard.data.pack import pack
from unheard.data.packing import PackConfig
from unheard.data.shards import FORMAT
from unheard.data.store import Store
from unheard.errors import InUseError
from unheard.progress import Track, silent

BLOCK = 4096
"""Files that a thread looks at before it takes the next ones (our choice)."""
POLL_SECONDS = 2.0
"""Between two looks whether another process has packed (our choice)."""


def shared_folder(place: Path, labels: Labels, packing: PackConfig) -> Path:
    """Return the folder of the packed clips of a table.

    Its name is a hash of the clips in their order (file, start, end), of size and time of the last change of every
    file, and of the packing. Classes, splits, folds and groups are not in it.

    Parameters
    ----------
    place : Path
        The folder that runs share.
    """
    names = labels.files
    number = {name: place for place, name in enumerate(dict.fromkeys(names))}
    distinct = list(number)
    blocks = [distinct[first : first + BLOCK] for first in range(0, len(distinct), BLOCK)]
    digest = hashlib.sha256(json.dumps([FORMAT, *packing.key()]).encode())
    with ThreadPoolExecutor(THREADS) as pool:
        for text in pool.map(_states, blocks):
            digest.update(text)
    rows = zip(names, labels.start, labels.end, strict=True)
    digest.update("".join(f"{number[name]} {start} {end}\n" for name, start, end in rows).encode())
    return place / f"corpus-{digest.hexdigest()[:32]}"


def pack_shared(
    corpus: Corpus,
    packing: PackConfig,
    folder: Path,
    track: Track = silent,
    log: Callable[[str], None] = lambda text: None,
) -> Store:
    """Pack a corpus into a folder that runs share. While another process packs it, wait for that one.

    Parameters
    ----------
    say : callable
        Takes a line when there is something to wait for.

    Raises
    ------
    DataError
        As `pack`.
    """
    waiting = False
    while True:
        try:
            return pack(corpus, packing, folder, track=track)
        except InUseError as error:
            if not waiting:
                log(f"note       waits for the same packed clips: {str(error).partition(';')[0]}")
            waiting = True
            time.sleep(POLL_SECONDS)


def _states(names: list[str]) -> bytes:
    """Name, size and time of the last change of some files, one a line; no numbers for a file that is not there."""
    lines = []
    for name in names:
        try:
            state = os.stat(name)  # noqa: PTH116 - millions of names
            lines.append(f"{name}\t{state.st_size}\t{state.st_mtime_ns}\n")
        except OSError:
            lines.append(f"{name}\t\t\n")
    return "".join(lines).encode("utf-8", "surrogateescape")
