"""A detection job: recordings in, one output and scores out."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from unheard.audio.standard_input import is_standard_input
from unheard.embedding.table_jobs.inputs import expand
from unheard.embedding.tables import absolute
from unheard.errors import ConfigError, DataError, shown
from unheard.finetuning.spans.classifier import WindowClassifier
from unheard.finetuning.spans.detecting import TOGETHER, DetectionPlan, detect_recordings
from unheard.finetuning.spans.formats import Recording, SpanFormat, format_of
from unheard.finetuning.spans.journal import DetectionJournal
from unheard.finetuning.spans.merging import Span
from unheard.finetuning.spans.scoring import TOLERANCE, SpanScores, Truth
from unheard.finetuning.spans.tasks import UNIT, SpanWork, opened_work, span_job, stored_recordings
from unheard.jobs.engines import Spread, refuse_overwrite, worker_count
from unheard.jobs.plan import Plan, tasks_folder
from unheard.jobs.running import Parts, TaskReport, do_array_task, do_tasks, refuse_interrupted
from unheard.outputs import locked_file
from unheard.progress import Track, silent
from unheard.version import __version__


@dataclass(frozen=True)
class DetectionReport:
    """Result of a detection job.

    Parameters
    ----------
    out : Path, optional
        The output; None if none was written.
    recordings : tuple of Recording
        In the order in which they were given.
    resumed : int
        Number of recordings that an earlier job had finished.
    plan : DetectionPlan
        Thresholds, window and hop.
    scores : SpanScores, optional
        Scores against annotations, if some were given.
    task : TaskReport, optional
        What one task of an array did while others are missing; there are no recordings then.
    """

    out: Path | None
    recordings: tuple[Recording, ...]
    resumed: int
    plan: DetectionPlan
    scores: SpanScores | None = None
    task: TaskReport | None = None

    @property
    def spans(self) -> list[Span]:
        """Return the detections of all recordings."""
        return [span for recording in self.recordings for span in recording.spans]

    @property
    def skipped(self) -> tuple[tuple[str, str], ...]:
        """Return path and reason of every recording that could not be read to its end."""
        if self.task is not None:
            return self.task.outcome.skipped
        return tuple((shown(each.path), each.error) for each in self.recordings if each.error)

    @property
    def thresholds(self) -> dict[str, float]:
        """Return the threshold of each class."""
        decision = self.plan.decision
        return dict(zip(decision.labels, decision.thresholds.tolist(), strict=True))


@dataclass(frozen=True)
class DetectionOutput:
    """Where a job writes.

    Parameters
    ----------
    out : Path, optional
        File or folder; None: nothing is written.
    format : {"csv", "raven", "audacity"}, optional
        Default: that of the suffix.
    resume, overwrite : bool
        Continue or extend an earlier output, or replace it. With neither, an existing one is refused.
    """

    out: Path | None = None
    format: SpanFormat | None = None
    resume: bool = False
    overwrite: bool = False


def run_detection(
    classifier: WindowClassifier,
    sources: Sequence[str | Path],
    plan: DetectionPlan,
    output: DetectionOutput = DetectionOutput(),
    *,
    truth: str | Path | None = None,
    tolerance: float = TOLERANCE,
    track: Track = silent,
) -> DetectionReport:
    """Detect the classes of a classifier in recordings, write the detections, and score them.

    Raises
    ------
    ConfigError
        When the output exists, its format is unclear, or options exclude each other.
    DataError
        When there is no audio, or none can be read, or the annotations cannot be used.
    """
    files = expand(sources)
    if output.out is None and (output.resume or output.overwrite or output.format):
        raise ConfigError("without an output there is nothing to continue, replace or format; give -o")
    if output.resume and (truth is not None or any(map(is_standard_input, files))):
        raise ConfigError("annotations and the standard input need all windows of every recording; leave --resume out")
    if not tolerance > 0:
        raise ConfigError(f"the tolerance must be above 0 seconds; got {tolerance:g}")
    annotated = None if truth is None else Truth(truth, classifier.labels, files)
    observe = None if annotated is None else annotated.observe
    if output.out is None:
        recordings = tuple(detect_recordings(classifier, files, plan, observe, track))
        _refuse_unreadable(recordings)
        report = DetectionReport(None, recordings, 0, plan)
    else:
        kind = format_of(output.out, output.format, len(files))
        identity = {**_identity(classifier, plan), "format": kind}
        with DetectionJournal(output.out, identity, output.resume, output.overwrite) as journal:
            earlier = dict(journal.earlier)
            todo = [file for file in files if absolute(file) not in earlier]
            found = dict(earlier)
            for recording in detect_recordings(classifier, todo, plan, observe, track):
                journal.add(recording)
                found[absolute(recording.path)] = recording
            recordings = _in_order(found, files)
            _refuse_unreadable(recordings)
            format_of(output.out, kind, len(recordings))
            journal.finish(kind, list(recordings), classifier.sample_rate)
        report = DetectionReport(output.out, recordings, len(files) - len(todo), plan)
    scores = None if annotated is None else annotated.score(report.recordings, tolerance)
    return DetectionReport(report.out, report.recordings, report.resumed, plan, scores)


def detect_in_tasks(
    classifier: WindowClassifier,
    sources: Sequence[str | Path],
    work: SpanWork,
    output: DetectionOutput,
    spread: Spread,
    track: Track = silent,
) -> DetectionReport:
    """Detect the classes of a classifier in recordings in tasks, by several processes, and join the parts.

    Returns
    -------
    DetectionReport
        With `task` if the output waits for other tasks of an array.

    Raises
    ------
    ConfigError
        When the output exists or an interrupted job is another one, or options exclude each other.
    DataError
        When no recording can be read, or a task loses one worker after the other.
    """
    files, out = expand(sources), output.out
    if out is None:
        raise ConfigError("several processes write their detections; give -o")
    if any(map(is_standard_input, files)):
        raise ConfigError("the standard input is read by one process; leave --engine, --processes and --task out")
    refuse_overwrite(spread, output.overwrite)
    worker_count(spread, -(-len(files) // TOGETHER), UNIT)
    kind, folder = format_of(out, output.format, len(files)), tasks_folder(out)
    identity = {**_identity(classifier, work.plan), "format": kind}
    if spread.task is not None:
        refuse_interrupted(out, resume=folder.exists(), overwrite=False)

        def join(parts: Parts) -> DetectionReport:
            with DetectionJournal(out, identity, overwrite=True) as journal:  # of this job, if there is one
                return _finished(classifier, work.plan, journal, parts, files)

        here, job = opened_work(classifier, work.plan, track), span_job(out, files, work, identity)
        found = do_array_task(job, here, spread, len(job.items), lambda: locked_file(folder), join)
        return DetectionReport(out, (), 0, work.plan, task=found) if isinstance(found, TaskReport) else found
    if folder.exists() or not output.resume:
        refuse_interrupted(out, output.resume, output.overwrite)
    with DetectionJournal(out, identity, output.resume, output.overwrite) as journal:
        left = [file for file in files if absolute(file) not in journal.earlier]
        if output.overwrite or not left:  # nothing is left after a kill between the join and the end, too
            shutil.rmtree(folder, ignore_errors=True)
        parts = do_tasks(span_job(out, left, work, identity), spread, track) if left else Parts(Plan(folder, [], 0))
        return _finished(classifier, work.plan, journal, parts, files)


def _finished(
    classifier: WindowClassifier, plan: DetectionPlan, journal: DetectionJournal, parts: Parts, files: Sequence[str]
) -> DetectionReport:
    """Write the recordings of earlier jobs and of all parts, and delete the parts."""
    earlier = list(journal.earlier.values())
    found = {absolute(each.path): each for each in (*earlier, *stored_recordings(parts))}
    recordings = _in_order(found, files)
    _refuse_unreadable(recordings)
    kind = journal.identity["format"]
    format_of(journal.out, kind, len(recordings))
    journal.finish(kind, list(recordings), classifier.sample_rate)
    parts.plan.discard()
    return DetectionReport(journal.out, recordings, parts.resumed + len(earlier), plan)


def _in_order(found: Mapping[str, Recording], files: Sequence[str]) -> tuple[Recording, ...]:
    """Return recordings by absolute path in the order of the files, after those of earlier jobs of other files."""
    now = dict.fromkeys(map(absolute, files))
    return tuple(found[path] for path in (*(path for path in found if path not in now), *now) if path in found)


def _identity(classifier: WindowClassifier, plan: DetectionPlan) -> dict[str, object]:
    decision = plan.decision
    return {
        "unheard": __version__,
        **classifier.identity,
        "labels": list(decision.labels),
        "thresholds": decision.thresholds.tolist(),
        "min_duration": decision.min_duration,
        "max_gap": decision.max_gap,
        "window": plan.window,
        "hop": plan.hop,
    }


def _refuse_unreadable(recordings: Sequence[Recording]) -> None:
    if recordings and not any(recording.seconds for recording in recordings):
        raise DataError(
            f"none of the {len(recordings)} recordings can be read; the first one: {shown(recordings[0].path)}:"
            f" {recordings[0].error}"
        )
