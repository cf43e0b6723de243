"""Packed clips of a labelled table, as input of fine-tuning."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from unheard.audio.frontend_kinds import AnyFrontendConfig
from unheard.audio.waveform import Channel
from unheard.data.class_sets import AnnotatedClasses, ClassSets, Index
from unheard.data.corpus import Clip, Corpus, Skipped, scan_files
from unheard.data.label_table import Labels
from unheard.data.mapping import open_store
from unheard.data.open_store import Cache, Verification, pack_once
from unheard.data.pack_clip import PackConfig
from unheard.data.shard_layout import HEADER
from unheard.data.store import WaveStore
from unheard.data.windows.order import Indices
from unheard.errors import DataError
from unheard.finetuning.shared_corpus import pack_shared, shared_folder
from unheard.progress import Track, silent


@dataclass(frozen=True)
class PackedLabelledClips:
    """Packed clips of a table with their labels, in the order of the store.

    Parameters
    ----------
    store : WaveStore
    rows : Int64[ndarray, "n"]
        Row of each clip in the table; rows that could not be read are missing.
    target : ClassSets
        Classes of each clip.
    known : AnnotatedClasses, optional
        Annotated classes of each clip; None: all classes are annotated.
    """

    store: WaveStore
    rows: Indices
    target: ClassSets
    known: AnnotatedClasses | None = None

    @cached_property
    def verification(self) -> Verification:
        """Verification of the packed clips against their checksums; starts on first access."""
        return Verification(self.store)

    def marks(self, clips: Indices) -> tuple[Float32[np.ndarray, "k C"], Float32[np.ndarray, "k C"]]:
        """Return the classes of clips, and which classes are annotated, as 0 and 1."""
        target = self.target[clips].astype(np.float32)
        return target, np.ones_like(target) if self.known is None else self.known[clips].astype(np.float32)

    def at(self, rows: Index) -> Index:
        """Return the clips of the store for rows of the table, without those that could not be read."""
        return np.flatnonzero(np.isin(self.rows, rows))


def open_sounds(
    labels: Labels,
    frontend: AnyFrontendConfig,
    channel: Channel,
    cache: Cache,
    track: Track = silent,
    *,
    shared: Path | None = None,
    log: Callable[[str], None] = lambda text: None,
) -> PackedLabelledClips:
    """Read one channel of the clips of a table into packed waveforms.

    Parameters
    ----------
    cache : Cache
        Storage of the packed waveforms.
    shared : Path, optional
        Folder of packed clips of several runs, used instead of ``cache``; see `shared_folder`.
    log : callable
        Receives a line about a shared corpus.

    Raises
    ------
    DataError
        When none of the clips can be read.
    """
    packing = PackConfig(frontend, "int16", channel=channel)
    folder = None if shared is None else shared_folder(shared, labels, packing)
    if folder is not None and (folder / HEADER).is_file():
        log(f"corpus     uses the packed clips in {folder}")
        store = open_store(folder)
    elif folder is not None:
        store = pack_shared(_corpus(labels, track), packing, folder, track, log)
    else:
        store = pack_once(_corpus(labels, track), packing, cache, track)
    if not isinstance(store, WaveStore):
        raise DataError(f"{store.folder or cache.folder} contains no waveforms; delete it and run again")
    texts, numbers = store.categories("label")  # the rows of the table, see _corpus
    rows = np.array([int(row) for row in texts], np.int64)[numbers]
    return PackedLabelledClips(
        store, rows, labels.target.take(rows), None if labels.known is None else labels.known.take(rows)
    )


def _corpus(labels: Labels, track: Track) -> Corpus:
    """Return the clips of a table, labelled with their row numbers."""
    clips, skipped = [], []
    names = labels.files
    files = scan_files(Path(), dict.fromkeys(names), track)
    for row, (name, start, end) in enumerate(zip(names, labels.start, labels.end, strict=True)):
        found, begin = files[name], start or 0.0
        if isinstance(found, str):
            skipped.append(Skipped(name, f"{name}: {found}"))
            continue
        length, size, content = found
        seconds = min(length, np.inf if end is None else end) - begin
        if seconds <= 0:
            skipped.append(Skipped(name, f"{name}: has no samples after {begin:g} s"))
            continue
        clips.append(Clip(name, seconds, start=begin, end=end, size=size, content=content, label=str(row)))
    if not clips:
        raise DataError(f"none of the {len(labels)} clips of the table can be read; the first one: {skipped[0].reason}")
    return Corpus(Path(), tuple(clips), tuple(skipped))
