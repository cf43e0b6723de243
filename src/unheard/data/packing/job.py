"""Pack a corpus in tasks, by several processes; a task packs whole shards."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import ClassVar

from unheard.data.corpus import Clip, Corpus
from unheard.data.mapping import open_store
from unheard.data.pack import fingerprint_of, finished_before
from unheard.data.pack_clip import PackConfig, transformed
from unheard.data.packing.folder_jobs import FolderJob, required, shard_job, write_folder
from unheard.data.packing.shards import SHARD_BYTES, pack_shards, plan_shards, stored_record, write_header
from unheard.data.shard_layout import HEADER
from unheard.data.shard_writing import job_key, refuse_foreign, writing
from unheard.data.store import Store
from unheard.jobs.engines import Spread, worker_count
from unheard.jobs.estimate import Estimate, Measured, Size, estimate, for_a_while, sample_of
from unheard.jobs.plan import Outcome, Task
from unheard.jobs.running import TaskReport
from unheard.jobs.session import Do
from unheard.progress import Track, silent


@dataclass(frozen=True)
class PackWork:
    """What a worker needs to pack shards.

    Parameters
    ----------
    root : Path
        Folder to which the paths of clips are relative.
    config : PackConfig
    key : str
        Identifies the job.
    workers : int, optional
        Number of threads; by default one for each core of the worker.
    track : Track
        Progress over the clips of a task.
    """

    root: Path
    config: PackConfig
    key: str
    workers: int | None = None
    track: Track = silent
    advice: ClassVar[str] = "use fewer --workers or --processes"
    shared: ClassVar[tuple[str, ...]] = ()

    def open(self, worker: int, threads: int) -> Do:
        """Return the function that packs the shards of a task with ``threads`` threads."""

        def do(task: Task) -> Outcome:
            with writing(task.out):
                task.out.mkdir(parents=True, exist_ok=True)
                return self._packed(task, self.workers or threads)

        return do

    def _packed(self, task: Task, threads: int) -> Outcome:
        done = resumed = rows = 0
        skipped: list[tuple[str, str]] = []
        shards = pack_shards(self.root, task.items, self.config, self.key, task.out, threads, self.track)
        for shard in shards:
            record = shard.record
            count = len(record.clips) + len(record.skipped)
            done, resumed = done + count * (not shard.resumed), resumed + count * shard.resumed
            rows += len(record.clips)
            skipped += [(path, reason) for path, reason in record.skipped]
        return Outcome(task.number, done, resumed, rows, tuple(skipped))


@dataclass(frozen=True)
class PackJob:
    """A corpus to pack.

    Parameters
    ----------
    corpus : Corpus
    config : PackConfig
    out : Path
        Folder to write.
    workers : int, optional
        Threads of each process.
    shard_bytes : int
        Planned size of a shard.
    """

    corpus: Corpus
    config: PackConfig
    out: Path
    workers: int | None = None
    shard_bytes: int = SHARD_BYTES

    @property
    def unit(self) -> str:
        """Return what a task packs, for messages."""
        return f"shards of {self.shard_bytes / 2**20:g} MB (--shard-mb sets their size)"


def pack_in_tasks(job: PackJob, spread: Spread, track: Track = silent) -> Store | TaskReport:
    """Pack a corpus in tasks. The folder has the bytes of the one that `pack` writes with the same size of shards.

    Returns
    -------
    Store
        The packed corpus, if it is complete; otherwise the report of one task of an array.

    Raises
    ------
    ConfigError
        When there are more processes than shards, or the folder has parts of another job.
    DataError
        As `pack`, or when a task loses one worker after the other.
    """
    shards = plan_shards(job.corpus.clips, job.config, job.shard_bytes)
    fingerprint = fingerprint_of(job.corpus, job.config)
    key = job_key(fingerprint, job.shard_bytes)
    work = PackWork(job.corpus.root, job.config, key, job.workers)

    def finish() -> Store:
        records = [required(stored_record(job.out, each.number, key), job.out, each.number) for each in shards]
        write_header(job.out, job.corpus, records, fingerprint, job.config)
        return open_store(job.out)

    output = FolderJob(
        job.out,
        partial(refuse_foreign, job.out, (HEADER,), "a packed corpus"),
        lambda: finished_before(job.out, fingerprint),
        finish,
    )
    tasks = shard_job(job.out, shards, key, work, job.unit, "packing")
    return write_folder(tasks, replace(work, track=track), output, spread, track)


def estimate_pack(job: PackJob, spread: Spread) -> Estimate:
    """Pack a sample of a corpus in memory, and compute what the whole job will need. Nothing is written.

    Raises
    ------
    ConfigError
        As `pack_in_tasks`, for options that exclude each other.
    """
    clips = job.corpus.clips
    shards = len(plan_shards(clips, job.config, job.shard_bytes))
    worker_count(spread, shards, job.unit)

    def measure(threads: int) -> Measured:
        sampled, found = sample_of(clips), Measured()
        _transform(job, sampled[:1], 1)  # the first call loads libraries
        with found.timed():
            found.items = _transform(job, sampled, job.workers or threads)
        return found

    exact = job.corpus.hours * 3600 * job.config.bytes_a_second / 1e6
    measured = estimate(Size(len(clips), shards, job.unit, 1), spread, measure, "shards", copies=False)
    return replace(measured, megabytes=exact, audio_hours=job.corpus.hours)


def _transform(job: PackJob, clips: list[Clip], threads: int) -> int:
    """Pack clips in memory for a while; return their number."""
    results = transformed(job.corpus.root, clips, job.config, threads)
    return sum(1 for _ in for_a_while()(results, len(clips), "packing"))
