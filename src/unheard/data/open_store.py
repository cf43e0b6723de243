"""Open any source of training data as one packed store, and verify its checksums while it is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Thread
from typing import Protocol, runtime_checkable

from unheard.addresses import named
from unheard.audio.frontend_kinds import AnyFrontendConfig
from unheard.data.corpus import Corpus, Sources, listed, open_corpus
from unheard.data.mapping import open_store
from unheard.data.pack import pack
from unheard.data.pack_clip import PackConfig
from unheard.data.shard_layout import HEADER, Stores
from unheard.data.store import Store, WaveStore
from unheard.errors import ConfigError, DataError, shown
from unheard.progress import Track, silent
from unheard.remote.listing import is_file

MEMORY_BYTES = 2 * 2**30
"""Largest corpus that is kept in memory, as stored: 37 hours of float16 log-mel with 80 bands, 18 hours of 16 kHz waves
(our choice).
"""


@dataclass(frozen=True)
class Cache:
    """Storage of a corpus that is not packed.

    Parameters
    ----------
    folder : path
        Folder in which a corpus is packed that does not stay in memory.
    memory_bytes : int
        Largest corpus that stays in memory, as stored.
    """

    folder: Path
    memory_bytes: int = MEMORY_BYTES

    @classmethod
    def of(cls, folder: Path, processes: int) -> Cache:
        """Return the cache of a run. Several processes share the folder, so that audio is decoded once for all."""
        return cls(folder) if processes == 1 else cls(folder, 0)


def open_corpus_store(
    source: Sources, frontend: AnyFrontendConfig, cache: Cache, track: Track = silent, store_kind: Stores = "spec"
) -> Store:
    """Open a packed corpus, or read folders, archives, CSVs or manifests.

    Audio that is not packed is read once. A small corpus stays in memory; a larger one is packed into the folder of
    ``cache``, where a second call finds it.

    Parameters
    ----------
    store_kind : {"spec", "wav"}
        Representation from which windows are cut.

    Raises
    ------
    ConfigError
        When the front end varies its bands in training, which needs waves.
    DataError
        When nothing can be used. When a packed corpus has another kind or another front end, or is one of several
        sources.
    """
    if store_kind == "spec" and getattr(frontend, "jitters", False):
        raise ConfigError(
            "this front end varies its bands in training, which needs waves: set data.input=wav, "
            "or frontend.f_min_jitter=0 and frontend.f_max_jitter=0"
        )
    sources = listed(source)
    packed = [each for each in sources if is_file(each / HEADER)]
    if packed and len(sources) > 1:
        raise DataError(
            f"{shown(packed[0])} is a packed corpus, which cannot be read together with other sources; join packed"
            " corpora first with: unheard data join A B -o BOTH"
        )
    if packed:
        store = open_store(packed[0])
        if store.header.kind != store_kind:
            raise DataError(
                f"the packed corpus {named(packed[0])} holds {store.header.kind} shards, this recipe needs"
                f" {store_kind}; pack the audio again with --store {store_kind}, or set data.input={store.header.kind}"
            )
        check_frontend(store, frontend)
        return store.with_frontend(frontend) if isinstance(store, WaveStore) else store
    return pack_once(
        open_corpus(source, track), PackConfig(frontend, "int16" if store_kind == "wav" else "float16"), cache, track
    )


def pack_once(corpus: Corpus, packing: PackConfig, cache: Cache, track: Track = silent) -> Store:
    """Pack a corpus in memory, or a large one into the folder of ``cache``, where a second call finds it."""
    small = corpus.hours * 3600 * packing.bytes_a_second <= cache.memory_bytes
    in_memory = small and not (cache.folder / HEADER).is_file()
    return pack(corpus, packing, None if in_memory else cache.folder, track=track)


def check_frontend(store: Store, wanted: AnyFrontendConfig) -> None:
    """Refuse a store with other spectrograms than those of the wanted front end. Variation of bands in training is
    ignored.

    Raises
    ------
    DataError
        Naming the fields that differ.
    """
    have, want = asdict(store.frontend), asdict(wanted)
    names = [name for name in want if not (store.header.kind == "wav" and name.endswith("_jitter"))]
    differing = [f"{name} is {have.get(name)}, wanted {want[name]}" for name in names if have.get(name) != want[name]]
    if differing:
        raise DataError(
            f"the packed corpus {named(store.folder or '')} has another front end: {'; '.join(differing)}; pack the"
            " audio again for this recipe"
        )


@runtime_checkable
class Shards(Protocol):
    """Shards that are open for reading."""

    @property
    def folder(self) -> Path | None:
        """The folder, if the shards are files."""

    def verify(self) -> None:
        """Compare every file with its checksum."""


class Verification:
    """Reads every shard of some folders once, in its own thread, and compares it with its checksum.

    Parameters
    ----------
    stores : Shards
        What is in memory is not read.
    """

    def __init__(self, *stores: Shards) -> None:
        self._error: DataError | None = None
        self._thread = Thread(target=self._run, args=(stores,), daemon=True)
        self._thread.start()

    def check(self, wait: bool = False) -> None:
        """Raise the error found so far; with ``wait``, after all shards are read.

        Raises
        ------
        DataError
            Naming the damaged shards.
        """
        if wait:
            self._thread.join()
        if self._error is not None:
            raise self._error

    def _run(self, stores: Sequence[Shards]) -> None:
        for store in stores:
            try:
                store.verify()
            except (DataError, OSError) as error:
                self._error = (
                    error if isinstance(error, DataError) else DataError(f"{store.folder} cannot be read ({error})")
                )
                return
