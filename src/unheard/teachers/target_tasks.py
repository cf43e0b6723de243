"""Targets of a packed corpus in tasks, by several processes; a task computes whole shards.

The projection of ``--pca`` is computed once, before the tasks; every process reads it from the folder.
"""

from __future__ import annotations

import time
from copy import copy
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ClassVar

from unheard.data.corpus import Sources, brief, listed
from unheard.data.mapping import open_store
from unheard.data.packing.folder_jobs import FolderJob, required, shard_job, write_folder
from unheard.data.shard_layout import shard_name
from unheard.data.shard_writing import finished_shard, remove_leftovers, writing
from unheard.devices import device_of_worker, torch_device
from unheard.errors import ConfigError, InUseError
from unheard.jobs.engines import Spread, worker_count
from unheard.jobs.estimate import Estimate, Measured, Size, estimate, for_a_while, sample_of
from unheard.jobs.plan import Outcome, Task
from unheard.jobs.running import TaskReport
from unheard.jobs.session import FEWER, Do, OpenedWork
from unheard.outputs import locked_file
from unheard.progress import Track, silent
from unheard.teachers.load import load_teacher
from unheard.teachers.projection import FILE
from unheard.teachers.stored import HEADER, StoredTargets
from unheard.teachers.storing import (
    SHARD_SECONDS,
    TargetsConfig,
    TargetShard,
    TargetsJob,
    is_packed,
    refuse_spectrograms,
)

UNIT = f"shards of {SHARD_SECONDS / 60:g} minutes"
"""What a task computes, for messages."""


@dataclass(frozen=True)
class TargetWork:
    """What a worker needs to compute targets; the teacher is loaded by its name.

    Parameters
    ----------
    data : path
        The packed corpus.
    config : TargetsConfig
    device : str
    key : str
        Identifies the job; that of a worker must be the same.
    track : Track
        Progress over the clips of a task.
    """

    data: Sources
    config: TargetsConfig
    device: str
    key: str
    track: Track = silent
    advice: ClassVar[str] = FEWER
    shared: ClassVar[tuple[str, ...]] = (FILE,)

    def open(self, worker: int, threads: int) -> Do:
        """Load the teacher on ``threads`` cores.

        Raises
        ------
        ConfigError
            When the teacher or the corpus of this worker is not that of the job.
        """
        job = opened_job(self.data, self.config, Path(), device_of_worker(self.device, worker, threads))
        if job.key != self.key:
            raise ConfigError(
                f"worker {worker} has another teacher or corpus than the first process; give the same files and the"
                " same version of unheard on every machine"
            )
        return partial(compute, job, self.track)


def compute(job: TargetsJob, track: Track, task: Task) -> Outcome:
    """Compute the shards of a task that are missing."""
    done = resumed = 0
    job = copy(job)
    job.folder, job.projection = task.out, None  # the output of the worker
    with writing(job.folder):
        job.folder.mkdir(parents=True, exist_ok=True)
        prepare(job)
        for shard, (_, earlier) in zip(task.items, job.write(task.items, track), strict=True):
            done, resumed = done + len(shard.clips) * (not earlier), resumed + len(shard.clips) * earlier
    return Outcome(task.number, done, resumed, done + resumed)


def prepare(job: TargetsJob, track: Track = silent) -> None:
    """Compute or read the projection; only one process computes it, and others wait for it."""
    while job.config.pca is not None and job.projection is None:
        try:
            with locked_file(job.folder / FILE):
                job.prepare(track)
        except InUseError:
            time.sleep(0.5)


def opened_job(data: Sources, config: TargetsConfig, folder: Path, device: str) -> TargetsJob:
    """Return the job of a packed corpus, with the teacher on a device.

    Raises
    ------
    ConfigError
        When the corpus is not packed.
    DataError
        When it holds no waves.
    """
    if not is_packed(data):
        raise ConfigError(
            f"{brief(data)} is not packed, and several processes would each decode it; pack it first: unheard data pack"
            f" {brief(data)} -o PACKED --store wav"
        )
    teacher = load_teacher(config.name, stage=config.stage, projected=config.projected).to(device)
    return TargetsJob(folder, refuse_spectrograms(data, open_store(listed(data)[0])), teacher, config)


def store_in_tasks(
    data: Sources, config: TargetsConfig, out: Path, device: str, spread: Spread, track: Track = silent
) -> StoredTargets | TaskReport:
    """Compute the targets of a packed corpus in tasks. The folder has the content that `store_targets` writes.

    Returns
    -------
    StoredTargets
        If they are complete; otherwise the report of one task of an array.

    Raises
    ------
    ConfigError
        When the corpus is not packed, there are more processes than shards, or the folder has parts of another job.
    DataError, CheckpointError
        As `store_targets`, or when a task loses one worker after the other.
    """
    job = opened_job(data, config, out, torch_device(device))
    shards = job.plan()
    work = TargetWork(data, config, device, job.key)

    def finish() -> StoredTargets:
        prepare(job)
        found = ((finished_shard(out, shard.number, job.key, verify=False), shard.number) for shard in shards)
        return job.finish(required(record, out, number) for record, number in found)

    def finished() -> StoredTargets | None:
        if (out / HEADER).is_file():
            remove_leftovers(out)
        return job.finished_before()

    output = FolderJob(out, job.refuse, finished, finish, partial(prepare, job, track))
    tasks = shard_job(out, shards, job.key, work, UNIT, "computing targets")
    return write_folder(tasks, OpenedWork(partial(compute, job, track)), output, spread, track)


def estimate_targets(data: Sources, config: TargetsConfig, device: str, spread: Spread) -> Estimate:
    """Compute the targets of a sample of a packed corpus, and what the whole job will need. Nothing is kept.

    Without the time for the projection of ``pca``.

    Raises
    ------
    ConfigError, DataError, CheckpointError
        As `store_in_tasks`.
    """
    with TemporaryDirectory() as place:
        job = opened_job(data, replace(config, pca=None), Path(place), torch_device(device))
        shards = job.plan()
        worker_count(spread, len(shards), UNIT)
        width = 1.0 if config.pca is None else config.pca / job.teacher.dim

        def measure(threads: int) -> Measured:
            clips, found = sample_of(range(len(job.store))), Measured()
            list(job.write([TargetShard(0, range(clips[0], clips[0] + 1))]))  # the first call of torch is slow
            with found.timed():
                for number in for_a_while()(clips, len(clips), "computing targets"):
                    list(job.write([TargetShard(1 + found.items, range(number, number + 1))]))
                    found.items += 1
            files = [file for file in Path(place).glob("shard-*.bin") if file.name != shard_name(0)]
            found.megabytes = width * sum(file.stat().st_size for file in files) / 1e6
            return found

        size = Size(len(job.store), len(shards), UNIT, 1)
        return replace(
            estimate(size, spread, measure, "targets", copies=False), audio_hours=job.store.seconds_total / 3600
        )
