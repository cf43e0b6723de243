"""Detections in many recordings, by several processes.

A task has whole groups of `TOGETHER` recordings, whose windows are scored together by one process, too. So the joined
output has the bytes of the output of one process.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

from unheard.audio.waveform import info
from unheard.devices import device_of_worker
from unheard.embedding.embedder import Precision
from unheard.embedding.identity import refuse_differences
from unheard.embedding.table_files import clear_errors
from unheard.errors import AudioError, DataError, shown
from unheard.files import json_line, read_json_lines, write_text
from unheard.finetuning.predicting.groups import group_key, grouped
from unheard.finetuning.spans.classifier import WindowClassifier, open_classifier
from unheard.finetuning.spans.detecting import TOGETHER, DetectionPlan, detect_recordings
from unheard.finetuning.spans.formats import Recording, write_spans
from unheard.finetuning.spans.journal import recording_of, row_of
from unheard.finetuning.spans.merging import Share
from unheard.jobs.engines import Spread, worker_count
from unheard.jobs.estimate import Estimate, Measured, Size, estimate, for_a_while, sample_of
from unheard.jobs.plan import Outcome, Task, tasks_folder
from unheard.jobs.running import Job, Parts
from unheard.jobs.session import FEWER, Do, OpenedWork, Work
from unheard.progress import Track, silent

UNIT = f"groups of {TOGETHER} recordings"
"""What tasks hold, for messages."""


@dataclass(frozen=True)
class SpanWork:
    """What a worker needs to detect classes; the classifier is loaded by its name.

    Parameters
    ----------
    model, device, precision
        As `open_classifier` takes them.
    plan : DetectionPlan
    identity : dict
        Of the classifier; that of a worker must be the same.
    """

    model: str
    device: str
    precision: Precision
    plan: DetectionPlan
    identity: dict[str, Any]
    advice: ClassVar[str] = FEWER
    shared: ClassVar[tuple[str, ...]] = ()

    def open(self, worker: int, threads: int) -> Do:
        """Load the classifier on ``threads`` cores.

        Raises
        ------
        ConfigError
            When the classifier of this worker is not that of the job.
        """
        classifier = open_classifier(self.model, device_of_worker(self.device, worker, threads), self.precision)
        refuse_differences(f"the output of worker {worker}", self.identity, classifier.identity)
        return partial(_detect, classifier, self.plan, silent)


def opened_work(classifier: WindowClassifier, plan: DetectionPlan, track: Track) -> OpenedWork:
    """Return the work in the process that has loaded the classifier."""
    return OpenedWork(partial(_detect, classifier, plan, track))


def span_job(out: Path, files: Sequence[str], work: Work, identity: dict[str, Any]) -> Job[Work]:
    """Return the job of some recordings.

    Parameters
    ----------
    identity : dict
        That of the output.
    """
    check = partial(refuse_differences, shown(out), wanted=identity)
    groups = grouped(files, TOGETHER)
    return Job(tasks_folder(out), groups, group_key, identity, check, work, UNIT, "detecting", 1)


def stored_recordings(parts: Parts) -> Iterator[Recording]:
    """Yield the recordings of all parts, in order.

    Raises
    ------
    DataError
        When a part is damaged.
    """
    for outcome in parts.outcomes:
        part = _part(parts.plan.part(outcome.number))
        rows, damaged = read_json_lines(part)
        if damaged or len(rows) != len([file for group in parts.plan.task(outcome.number).items for file in group]):
            raise DataError(
                f"{part} is damaged; delete {part.with_suffix('.json').name} next to it, then continue with --resume"
            )
        yield from map(recording_of, rows)


def estimate_spans(classifier: WindowClassifier, files: Sequence[str], plan: DetectionPlan, spread: Spread) -> Estimate:
    """Detect classes in a sample of the recordings, and compute what the whole job will need. Nothing is written.

    Raises
    ------
    ConfigError
        When options exclude each other.
    """
    groups = -(-len(files) // TOGETHER)
    worker_count(spread, groups, UNIT)

    def measure(threads: int) -> Measured:
        sampled, found, ends = sample_of(files), Measured(), dict[str, float]()
        lengths = [_seconds(file) for file in sampled]

        def observe(path: str, share: Share) -> None:
            ends[path] = share.end

        with found.timed():
            recordings = list(detect_recordings(classifier, sampled, plan, observe, for_a_while()))
        mean = sum(lengths) / len(lengths)
        part = sum(ends.values()) / sum(lengths) if sum(lengths) else 1.0
        found.items, found.audio_hours = max(1, round(part * len(sampled))), mean * max(1, part * len(sampled)) / 3600
        with TemporaryDirectory() as place:
            out = Path(place) / "sample.csv"
            write_spans(out, "csv", recordings, classifier.sample_rate)
            size = out.stat().st_size + sum(len(json_line(row_of(each))) for each in recordings)
        found.megabytes = size * found.items / max(1, len(recordings)) / 1e6
        return found

    return estimate(Size(len(files), groups, UNIT, 1), spread, measure, "detections")


def _seconds(file: str) -> float:
    try:
        return info(file).seconds
    except AudioError:
        return 0.0


def _detect(classifier: WindowClassifier, plan: DetectionPlan, track: Track, task: Task) -> Outcome:
    """Detect classes in the recordings of a task and write their detections."""
    files = [file for group in task.items for file in group]
    found = list(detect_recordings(classifier, files, plan, None, track))
    with clear_errors(task.part):
        write_text(_part(task.part), "".join(json_line(row_of(recording)) for recording in found))
    skipped = tuple((shown(each.path), each.error) for each in found if each.error)
    return Outcome(task.number, len(found), 0, len(found), skipped)


def _part(part: Path) -> Path:
    return part.with_suffix(".jsonl")
