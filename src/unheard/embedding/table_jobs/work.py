"""One task of an embedding job: a part of the table, written by the functions that write a whole one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from unheard.devices import device_of_worker
from unheard.embedding.bulk import embed_files, embed_rows
from unheard.embedding.embedder import Precision
from unheard.embedding.embedding_model import EmbeddingModel
from unheard.embedding.identity import refuse_differences
from unheard.embedding.job import Options
from unheard.embedding.loading import load
from unheard.embedding.table_jobs.inputs import table_identity
from unheard.embedding.table_jobs.report import NothingReadError
from unheard.jobs.plan import Outcome, Task
from unheard.jobs.session import Do
from unheard.progress import Track, silent
from unheard.read_ahead import reader_count

SUFFIX = ".parquet"
"""Format of the parts: float32 values as they are, with checksums."""


@dataclass(frozen=True)
class EmbedWork:
    """What a worker needs to embed; it is sent to other processes, where the model is loaded by its name.

    Parameters
    ----------
    model, device, precision
        As `unheard.load` takes them.
    workers, batch_size : int, optional
        As `EmbeddingModel.set_speed` takes them; by default one thread for each core of the worker.
    options : Options
        Complete options of the table.
    segments : bool
        The items are segments instead of files.
    identity : dict
        Identity of the table; the model of a worker must have the same.
    """

    model: str
    device: str
    precision: Precision
    workers: int | None
    batch_size: int | None
    options: Options
    segments: bool
    identity: dict[str, Any]
    advice: ClassVar[str] = "use a smaller --batch-size or fewer --processes"
    shared: ClassVar[tuple[str, ...]] = ()

    def open(self, worker: int, threads: int) -> Do:
        """Load the model on ``threads`` cores; of several GPUs, workers take one after the other.

        Raises
        ------
        ConfigError
            When the model of this worker is not that of the job.
        """
        model = load(self.model, device_of_worker(self.device, worker, threads), self.precision)
        model.set_speed(min(threads, reader_count()) if self.workers is None else self.workers, self.batch_size)
        refuse_differences(
            f"the table of worker {worker}", self.identity, table_identity(model, self.options, self.segments)
        )
        return self.doing(model)

    def doing(self, model: EmbeddingModel, track: Track = silent) -> Do:
        """Return the function that does tasks with a loaded model."""

        def do(task: Task) -> Outcome:
            part = task.part.with_suffix(SUFFIX)
            try:
                report = (
                    embed_rows(model, list(task.items), part, self.options, resume=True, track=track)
                    if self.segments
                    else embed_files(model, list(task.items), part, self.options, resume=True, track=track)
                )
            except NothingReadError as error:
                return Outcome(task.number, 0, 0, 0, error.skipped)
            return Outcome(task.number, report.embedded, report.resumed, report.rows, report.skipped)

        return do


def part_file(part: Path) -> Path:
    """Return the table of a part."""
    return part.with_suffix(SUFFIX)
