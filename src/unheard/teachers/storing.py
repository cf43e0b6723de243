"""Compute the targets of a corpus once: run a teacher on every clip and store its maps.

The work is done shard by shard, in an order that depends on the corpus alone. A second run of the same job continues
after the finished shards.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Float16, Float64
from torch import Tensor

from unheard.audio.frontend import LogMelConfig
from unheard.data.corpus import Sources, brief, listed, open_corpus
from unheard.data.mapping import open_store
from unheard.data.open_store import MEMORY_BYTES
from unheard.data.pack import pack
from unheard.data.pack_clip import PackConfig
from unheard.data.packing.shards import mean_and_deviation
from unheard.data.shard_layout import HEADER as CORPUS
from unheard.data.shard_layout import sounds_fingerprint
from unheard.data.shard_writing import (
    finished_shard,
    job_key,
    other_key,
    refuse_foreign,
    remove_leftovers,
    write_record,
    write_shard,
    write_summary,
    writing,
)
from unheard.data.store import Store, WaveStore
from unheard.errors import DataError, shown, warn_audio
from unheard.files import remove_unfinished
from unheard.outputs import locked_folder
from unheard.progress import Track, silent
from unheard.remote.listing import is_file
from unheard.teachers.chunks import CHUNK, OVERLAP, SHORTEST, Chunk, chunks_of, clip_maps, rounded
from unheard.teachers.load import load_teacher
from unheard.teachers.projection import FILE, Projection, fit
from unheard.teachers.shard_record import ShardRecord
from unheard.teachers.stored import FORMAT, HEADER, StoredTargets, TargetsHeader, TargetsIndex, open_targets
from unheard.teachers.teacher import FrozenTeacher

SHARD_SECONDS = 600.0
"""Planned length of a shard: an interruption loses at most the work on ten minutes of audio (our choice)."""

SAMPLED_CHUNKS, SAMPLED_POSITIONS = 1000, 64
"""For the projection: most chunks, one a clip, and most positions of each, chosen with a fixed seed (our choice)."""


@dataclass(frozen=True)
class TargetsConfig:
    """What is stored of a teacher."""

    name: str
    """Name of the teacher, as `load_teacher` takes it."""
    stage: Literal["final", "middle"] = "final"
    """Feature map of CLAP."""
    projected: bool = False
    """Project CLAP's map into the space of audio and text."""
    pca: int | None = None
    """Channels to keep; null: all."""


def store_targets(
    data: Sources, config: TargetsConfig, out: str | Path, device: str = "cpu", track: Track = silent
) -> StoredTargets:
    """Store the targets of every clip of a corpus; partly stored targets of the same corpus and teacher are completed.

    Parameters
    ----------
    data : path, or sequence of path
        A corpus packed as waves; or folders, archives and tables of sounds of at most `MEMORY_BYTES` as waves, which
        are one corpus, in their order.
    out : path
        Folder to write.

    Raises
    ------
    DataError
        When the corpus holds no waves, ``out`` holds other targets or files, the disk is full, or the teacher returns
        values that cannot be stored.
    CheckpointError
        When the teacher cannot be loaded.
    ConfigError
        When the projection needs more channels.
    """
    folder, teacher = Path(out), load_teacher(config.name, stage=config.stage, projected=config.projected).to(device)
    store = _waves(data, teacher, track)
    job = TargetsJob(folder, store, teacher, config)
    if (folder / HEADER).is_file():
        remove_leftovers(folder)
    if (stored := job.finished_before()) is not None:
        return stored
    with writing(folder), locked_folder(folder):
        if (stored := job.finished_before()) is not None:  # another process has stored them since
            return stored
        job.refuse()
        remove_unfinished(folder)
        return job.run(track)


def _waves(data: Sources, teacher: FrozenTeacher, track: Track) -> WaveStore:
    """Open the waves of a corpus."""
    if is_packed(data):
        store = open_store(listed(data)[0])
    else:
        corpus, packing = open_corpus(data, track), PackConfig(LogMelConfig(), "int16", teacher.sample_rate)
        if corpus.hours * 3600 * packing.bytes_a_second > MEMORY_BYTES:
            raise DataError(
                f"{brief(data)} is too long to keep in memory ({corpus.hours:.0f} hours); pack it first: unheard data"
                f" pack {brief(data)} -o PACKED --store wav"
            )
        store = pack(corpus, packing, track=track)
        for note in store.header.notes:
            warn_audio(f"{brief(data)}: {note}")
    return refuse_spectrograms(data, store)


def is_packed(data: Sources) -> bool:
    """Return whether sources are one packed corpus, here or at an address."""
    found = listed(data)
    return len(found) == 1 and is_file(found[0] / CORPUS)


def refuse_spectrograms(data: Sources, store: Store) -> WaveStore:
    """Return a store of waves; refuse another one.

    Raises
    ------
    DataError
        When it holds spectrograms.
    """
    if not isinstance(store, WaveStore):
        raise DataError(
            f"{brief(data)} holds spectrograms, and a teacher needs waveforms; pack the corpus with --store wav. The"
            " targets fit every packed corpus of the same sounds"
        )
    return store


@dataclass(frozen=True)
class TargetShard:
    """The clips of a shard, by their numbers in the corpus."""

    number: int
    clips: range


class TargetsJob:
    """The work of `store_targets`: one folder, corpus, teacher and configuration."""

    def __init__(self, folder: Path, store: WaveStore, teacher: FrozenTeacher, config: TargetsConfig) -> None:
        self.folder, self.store, self.teacher, self.config = folder, store, teacher, config
        self.sounds = sounds_fingerprint(store.header, store.index)
        self.key = job_key(
            FORMAT, self.sounds, store.sample_rate, teacher.fingerprint, config.pca, (CHUNK, OVERLAP, SHORTEST)
        )
        self.projection: Projection | None = None

    def other(self) -> str:
        """Return the message for a folder with the targets of another job."""
        return (
            f"{self.folder} holds targets of another corpus or teacher, or with another --pca; choose another folder,"
            " or delete it"
        )

    def refuse(self) -> None:
        """Refuse a folder that holds other files, or the shards of another job."""
        refuse_foreign(self.folder, (HEADER, FILE), "stored targets")
        if other_key(self.folder, self.key):
            raise DataError(self.other())

    def finished_before(self) -> StoredTargets | None:
        """Open finished targets, if they are those of this job; None if they are not finished."""
        if not (self.folder / HEADER).is_file():
            return None
        stored = open_targets(self.folder)
        if stored.header.key != self.key:
            raise DataError(self.other())
        return stored

    def prepare(self, track: Track = silent) -> None:
        """Read the projection of an earlier run, or compute it from a sample of the corpus and store it."""
        if self.config.pca is None:
            return
        self.projection = Projection.load(self.folder, self.key)
        if self.projection is None:
            generator = np.random.default_rng(0)
            chosen = generator.permutation(len(self.store))[:SAMPLED_CHUNKS].tolist()
            samples = (self._positions(clip, generator) for clip in track(chosen, len(chosen), "sampling for --pca"))
            self.projection = fit(samples, self.config.pca)
            self.projection.save(self.folder, self.key)

    def run(self, track: Track) -> StoredTargets:
        """Compute the shards that are missing, then write index and header."""
        self.prepare(track)
        return self.finish(record for record, _ in self.write(self.plan(), track))

    def write(self, shards: Sequence[TargetShard], track: Track = silent) -> Iterator[tuple[dict[str, Any], bool]]:
        """Compute shards that are missing. Yield the record of each, in order, and whether an earlier run wrote it."""
        records = [finished_shard(self.folder, shard.number, self.key) for shard in shards]
        todo = [clip for shard, found in zip(shards, records, strict=True) if found is None for clip in shard.clips]
        clips = iter(track(todo, len(todo), "computing targets"))
        for shard, found in zip(shards, records, strict=True):
            if found is not None:
                yield found, True
                continue
            computed = ShardRecord()
            checksum = write_shard(self.folder, shard.number, self._shard(clips, len(shard.clips), computed))
            record = {"key": self.key, "checksum": checksum, **asdict(computed)}
            write_record(self.folder, shard.number, record)
            yield record, False
        next(clips, None)  # requests the end of the iterator, so that the progress shows the last clip as done

    def _shard(self, clips: Iterator[int], count: int, computed: ShardRecord) -> Iterator[Float16[np.ndarray, "n f C"]]:
        """Yield the stored values of the next clips."""
        for _ in range(count):
            clip = next(clips)
            computed.columns.append(0)
            try:
                for maps, times in self._maps(clip, self._chunks(clip)):
                    values = rounded(maps if self.projection is None else self.projection(maps))
                    computed.add(values, times)
                    yield values
            except DataError as error:
                raise DataError(
                    f"{shown(self.store.names[clip])}: {error}; finished shards stay in {self.folder}"
                ) from error

    def _positions(self, clip: int, generator: np.random.Generator) -> Float64[np.ndarray, "n C"]:
        """Return the channels at some positions of one chunk of a clip."""
        chunks = self._chunks(clip)
        maps, _ = next(self._maps(clip, [chunks[int(generator.integers(len(chunks)))]]))
        flat = maps.flatten(0, 1).cpu().double().numpy()
        return np.asarray(flat[generator.permutation(len(flat))[:SAMPLED_POSITIONS]])

    def _chunks(self, clip: int) -> list[Chunk]:
        return chunks_of(int(self.store.index.rows[clip]), self.store.sample_rate)

    def _maps(
        self, clip: int, chunks: list[Chunk]
    ) -> Iterator[tuple[Float[Tensor, "n f C"], Float64[np.ndarray, " n"]]]:
        return clip_maps(self.teacher, self.store.samples(clip), self.store.sample_rate, chunks)

    def plan(self) -> list[TargetShard]:
        """Assign clips to shards of `SHARD_SECONDS`, in order."""
        plan: list[TargetShard] = []
        first, seconds = 0, 0.0
        for number, length in enumerate(self.store.index.seconds.tolist()):
            seconds += length
            if seconds >= SHARD_SECONDS or number == len(self.store) - 1:
                plan.append(TargetShard(len(plan), range(first, number + 1)))
                first, seconds = number + 1, 0.0
        return plan

    def finish(self, records: Iterable[dict[str, Any]]) -> StoredTargets:
        """Write index and header from the records of all shards, in order, and open the targets."""
        kept, per_shard, times = [], [], []
        for record in records:
            if "times" not in record:
                raise DataError(f"{self.folder} was begun by an earlier version of unheard; delete it and start again")
            per_shard.append(np.array(record.pop("columns"), np.int64))
            times.append(np.array(record.pop("times"), np.float64))
            kept.append(record)
        index = TargetsIndex(
            np.repeat(np.arange(len(kept)), [len(part) for part in per_shard]),
            np.concatenate([np.cumsum(part) - part for part in per_shard]),
            np.concatenate(per_shard),
            np.concatenate(times),
        )
        total, squares = (np.sum([record[name] for record in kept], axis=0) for name in ("total", "squares"))
        header = TargetsHeader(
            name=self.config.name,
            teacher=self.teacher.name,
            key=self.key,
            sounds=self.sounds,
            clips=len(self.store),
            seconds=self.store.seconds_total,
            dim=self.config.pca or self.teacher.dim,
            edges=tuple(self.teacher.axes(CHUNK * self.teacher.sample_rate).edges),
            statistics=mean_and_deviation(total, squares, sum(record["count"] for record in kept)),
            stage=self.config.stage,
            projected=self.config.projected,
            pca=self.config.pca,
            explained=None if self.projection is None else self.projection.explained,
        )
        arrays = {name: getattr(index, name) for name in ("shard", "offset", "columns", "times")}
        content = (HEADER, {"format": FORMAT, "header": asdict(header)})
        others = [] if self.projection is None else [FILE]
        write_summary(self.folder, content, arrays, [record["checksum"] for record in kept], others)
        return open_targets(self.folder)
