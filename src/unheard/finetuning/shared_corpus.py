"""Packed clips in a folder that several runs share: the first run packs them, later runs reuse them.

Each corpus has its own folder, named by a hash of its content. Files are compared by name, size and modification time,
so that an existing corpus is found without reading audio headers.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from unheard.audio.archives.members import file_state
from unheard.data.corpus import THREADS, Corpus
from unheard.data.label_table import Labels
from unheard.data.pack import pack
from unheard.data.pack_clip import PackConfig
from unheard.data.shard_layout import FORMAT
from unheard.data.store import Store
from unheard.errors import InUseError
from unheard.progress import Track, silent

BLOCK = 4096
"""Number of files per task of a thread (our choice)."""
POLL_SECONDS = 2.0
"""Seconds between two checks whether another process has finished packing (our choice)."""


def shared_folder(shared: Path, labels: Labels, packing: PackConfig) -> Path:
    """Return the folder of the packed clips of a table.

    Its name is a hash of the clips in their order (file, start, end), of size and modification time of every file, and
    of the packing. Classes, splits, folds and groups are not part of it.

    Parameters
    ----------
    shared : Path
        Folder that the runs share.
    labels : Labels
    packing : PackConfig
    """
    names = labels.files
    number = {name: index for index, name in enumerate(dict.fromkeys(names))}
    distinct = list(number)
    blocks = [distinct[first : first + BLOCK] for first in range(0, len(distinct), BLOCK)]
    digest = hashlib.sha256(json.dumps([FORMAT, *packing.key()]).encode())
    with ThreadPoolExecutor(THREADS) as pool:
        for text in pool.map(_states, blocks):
            digest.update(text)
    rows = zip(names, labels.start, labels.end, strict=True)
    digest.update("".join(f"{number[name]} {start} {end}\n" for name, start, end in rows).encode())
    return shared / f"corpus-{digest.hexdigest()[:32]}"


def pack_shared(
    corpus: Corpus,
    packing: PackConfig,
    folder: Path,
    track: Track = silent,
    log: Callable[[str], None] = lambda text: None,
) -> Store:
    """Pack a corpus into a shared folder. If another process is packing it, wait until that is done.

    Parameters
    ----------
    log : callable
        Receives a line when this process waits.

    Raises
    ------
    DataError
        See `pack`.
    """
    waiting = False
    while True:
        try:
            return pack(corpus, packing, folder, track=track)
        except InUseError as error:
            if not waiting:
                log(f"note       waiting for another process that packs the same clips: {str(error).partition(';')[0]}")
            waiting = True
            time.sleep(POLL_SECONDS)


def _states(names: list[str]) -> bytes:
    """Return name, size and modification time of files, one per line; without numbers for a missing file."""
    lines = []
    for name in names:
        try:
            size, modified = file_state(name)
            lines.append(f"{name}\t{size}\t{modified}\n")
        except OSError:
            lines.append(f"{name}\t\t\n")
    return "".join(lines).encode("utf-8", "surrogateescape")
