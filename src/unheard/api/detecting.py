"""Detection: parts of recordings with their classes, times and scores."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from unheard.api.options import DetectOptions, SpreadOptions, documented
from unheard.jobs.addressed import tasks_at_addresses
from unheard.progress import Track, silent
from unheard.remote.outputs import uploaded

if TYPE_CHECKING:
    from unheard.embedding.embedder import Precision
    from unheard.finetuning.spans.classifier import WindowClassifier
    from unheard.finetuning.spans.job import DetectionReport
    from unheard.jobs.engines import Engine


@documented(SpreadOptions)
@documented(DetectOptions)
@tasks_at_addresses
@uploaded("out")
def detect(
    model: WindowClassifier | str | Path,
    audio: str | Path | Sequence[str | Path],
    out: str | Path | None = None,
    *,
    threshold: float | Literal["auto"] | None = None,
    min_duration: float | None = None,
    max_gap: float | None = None,
    window: float | None = None,
    hop: float | None = None,
    format: Literal["csv", "raven", "audacity"] | None = None,
    truth: str | Path | None = None,
    tolerance: float | None = None,
    engine: Engine = "local",
    processes: int | None = None,
    task: str | None = None,
    device: str = "auto",
    precision: Precision = "float32",
    resume: bool = False,
    overwrite: bool = False,
    track: Track = silent,
) -> DetectionReport:
    """Detect the classes of a fine-tuned model in recordings of any length, and write the detections.

    Parameters
    ----------
    model : path, or WindowClassifier
        A fine-tuned run, a model folder with a classifier, or an object with the attributes of `WindowClassifier`.
    audio : path, or sequence of paths
        Sound files and folders.
    out : path, optional
        Output file or folder, also at an address. Default: nothing is written.
    device : str
        Device of a model given by its path.
    precision : {"float32", "bf16"}
        Of the matrix products of the encoder of such a model.
    resume, overwrite : bool
        Continue or extend an earlier output, or replace it; otherwise an existing one is refused.
    track : Track
        Progress over the windows of all recordings.

    Returns
    -------
    DetectionReport
        ``spans``: the detections with path, start, end, label and score; ``skipped``: recordings that could not be read
        to their end; ``scores``: with ``truth``. ``task``: with that option, while other tasks are missing.

    Raises
    ------
    ConfigError
        When an option is invalid, the output exists, the model has no classifier, or a precision or several processes
        are given for a loaded one.
    DataError
        When no recording can be read, or the annotations cannot be used.

    Examples
    --------
    >>> import unheard
    >>> unheard.detect("runs/clf", "recordings/", "spans.csv", threshold="auto").spans[0]  # doctest: +SKIP
    Span(path='recordings/night.wav', start=312.5, end=314.0, label='owl', score=0.97)
    """
    from unheard.errors import ConfigError
    from unheard.finetuning.spans.classifier import open_classifier
    from unheard.finetuning.spans.detecting import THRESHOLD, plan_detection
    from unheard.finetuning.spans.job import DetectionOutput, detect_in_tasks, run_detection
    from unheard.finetuning.spans.scoring import TOLERANCE
    from unheard.finetuning.spans.tasks import SpanWork
    from unheard.jobs.engines import Spread
    from unheard.jobs.plan import tasks_folder

    if tolerance is not None and truth is None:
        raise ConfigError("a tolerance needs annotations to compare with; give --truth, or leave --tolerance out")
    if precision != "float32" and not isinstance(model, str | Path):
        raise ConfigError("the classifier is loaded already; give its path, or leave precision out")
    opened = open_classifier(model, device, precision) if isinstance(model, str | Path) else model
    plan = plan_detection(
        opened,
        THRESHOLD if threshold is None else threshold,
        min_duration=min_duration or 0.0,
        max_gap=max_gap or 0.0,
        window=window,
        hop=hop,
    )
    output = DetectionOutput(None if out is None else Path(out), format, resume, overwrite)
    sources, spread = [audio] if isinstance(audio, str | Path) else list(audio), Spread(engine, processes, task)
    if spread != Spread() or (out is not None and tasks_folder(Path(out)).exists()):
        if not isinstance(model, str | Path):
            raise ConfigError("a loaded classifier exists in this process only; give its path for several processes")
        if truth is not None:
            raise ConfigError("annotations need all windows in one process; leave --truth out with several processes")
        work = SpanWork(str(model), device, precision, plan, opened.identity)
        return detect_in_tasks(opened, sources, work, output, spread, track)
    return run_detection(
        opened, sources, plan, output, truth=truth, tolerance=TOLERANCE if tolerance is None else tolerance, track=track
    )
