"""Packing: audio to shards in one parallel pass that can be interrupted.

The shard of a clip depends on the corpus alone. Clips are written in order, whatever thread finishes first, so the
bytes do not depend on the number of workers. A finished shard has a small record file in the same folder; a second run
continues after it.
"""

from __future__ import annotations

import os
from contextlib import nullcontext
from pathlib import Path

from unheard.addresses import address_of, named
from unheard.audio.frontend_kinds import AnyFrontendConfig
from unheard.data.corpus import Corpus
from unheard.data.mapping import open_store
from unheard.data.pack_clip import PackConfig
from unheard.data.packing.shards import SHARD_BYTES, pack_shards, plan_shards, summary, write_header
from unheard.data.shard_layout import FORMAT, HEADER, INDEX
from unheard.data.shard_writing import job_key, refuse_foreign, remove_leftovers, writing
from unheard.data.store import Store, make_store
from unheard.errors import DataError
from unheard.files import remove_unfinished
from unheard.outputs import locked_folder
from unheard.progress import Track, silent
from unheard.remote.listing import exists, files_below, is_file
from unheard.remote.outputs import local_output


def pack(
    corpus: Corpus,
    packing: PackConfig | AnyFrontendConfig,
    out: str | Path | None = None,
    workers: int | None = None,
    track: Track = silent,
    shard_bytes: int = SHARD_BYTES,
) -> Store:
    """Pack a corpus as spectrograms or waves.

    Files that cannot be read are skipped and listed in the store. Silence is kept.

    Parameters
    ----------
    corpus : Corpus
    packing : PackConfig or front end configuration
        A front end alone means float16 spectrograms.
    out : path, optional
        Folder to write; a partly packed folder of the same corpus is completed. One at an address is packed locally,
        then uploaded, the header last. Default: keep everything in memory.
    workers : int, optional
        Threads. Default: one a core.
    shard_bytes : int
        Planned size of a shard.

    Raises
    ------
    DataError
        When no clip can be read, the disk is full, or ``out`` holds another corpus.
    """
    config = packing if isinstance(packing, PackConfig) else PackConfig(packing)
    fingerprint = fingerprint_of(corpus, config)
    folder = None if out is None else Path(out)
    if folder is not None and address_of(folder):
        if is_file(folder / HEADER):
            return _of_job(folder, fingerprint)
        _refuse_foreign_address(folder)
        with local_output(folder, kind="folder", overwrite=True) as place:
            pack(corpus, packing, place, workers, track, shard_bytes)
        return open_store(folder)
    if folder is not None and (finished := finished_before(folder, fingerprint)) is not None:
        return finished
    with writing(folder), nullcontext() if folder is None else locked_folder(folder):
        if folder is not None:
            if (folder / HEADER).exists():  # another process has packed it since
                return _of_job(folder, fingerprint)
            refuse_foreign(folder, (HEADER,), "a packed corpus")
            remove_unfinished(folder)
        plan, key = plan_shards(corpus.clips, config, shard_bytes), job_key(fingerprint, shard_bytes)
        threads = workers or os.cpu_count() or 1
        written = list(pack_shards(corpus.root, plan, config, key, folder, threads, track))
        records = [shard.record for shard in written]
        if folder is None:
            kept = [shard.values for shard in written if shard.values is not None]
            return make_store(*summary(corpus, records, fingerprint, config), kept)
        write_header(folder, corpus, records, fingerprint, config)
    return open_store(folder)


def _refuse_foreign_address(folder: Path) -> None:
    """Refuse an address with other files than those of an interrupted upload."""
    for name in files_below(folder) if exists(folder) else ():
        if not name.startswith(("shard-", INDEX)):
            raise DataError(f"{named(folder)} holds other files ({name}); choose an empty folder for the packed corpus")


def fingerprint_of(corpus: Corpus, config: PackConfig) -> str:
    """Return the hash of a corpus and of the way in which it is packed."""
    return job_key(FORMAT, corpus.fingerprint(), *config.key())


def finished_before(folder: Path, fingerprint: str) -> Store | None:
    """Open a packed corpus that is complete; None if there is none. What a killed process left is deleted.

    Raises
    ------
    DataError
        When it is that of another job, or damaged.
    """
    if not (folder / HEADER).exists():
        return None
    remove_leftovers(folder)
    return _of_job(folder, fingerprint)


def _of_job(folder: Path, fingerprint: str) -> Store:
    store = open_store(folder)
    if store.fingerprint != fingerprint:
        raise DataError(f"{named(folder)} holds another packed corpus; choose another folder, or delete it")
    return store
