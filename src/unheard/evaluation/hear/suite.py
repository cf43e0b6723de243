"""Evaluation of several encoders on several tasks: embed, fit, score, and store the results.

OUT/embeddings/ENCODER/TASK/  OUT/fits/MODE/ENCODER/TASK/ (until finished)  OUT/scores/MODE/ENCODER/TASK.json
OUT/failures/MODE/TASK, ENCODER.txt (tracebacks of failures)

If labels or audio have changed, new embeddings are written to OUT/fits/embeddings/ENCODER/TASK/. The old ones are kept
until the new ones are complete.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal, get_args

from unheard.bootstrap import bc_interval
from unheard.errors import ConfigError, DataError, require
from unheard.evaluation.comparison import mean
from unheard.evaluation.encoders.choose import Encoder, PrecomputedEmbeddings, folder_name
from unheard.evaluation.encoders.own_encoder import DEFAULT, Runtime
from unheard.evaluation.failures import FAILURES, report_failure
from unheard.evaluation.hear import heareval, robust
from unheard.evaluation.hear.embeddings import PROVENANCE_FILE, damaged_files, embed_task
from unheard.evaluation.hear.fit_cache import DiskFitCache
from unheard.evaluation.hear.head import GRID_POINTS, grid
from unheard.evaluation.hear.heareval import SplitResult
from unheard.evaluation.hear.paired_bootstrap import bootstrap_scores
from unheard.evaluation.hear.provenance import audio_rate, clips_digest, input_digest, is_stale, stored_origin
from unheard.evaluation.hear.rows import file_order, read_splits, untrained_labels
from unheard.evaluation.hear.scores import SCORES
from unheard.evaluation.hear.task_folder import Task, find_tasks, read_task
from unheard.evaluation.report import Report, Result, load_result, save_result
from unheard.progress import Item, Track, silent

SCORING_VERSION = 4  # version of scores and intervals; results of other versions are recomputed

Mode = Literal["heareval", "robust"]


@dataclass(frozen=True)
class EvaluationConfig:
    """Configuration of an evaluation.

    Parameters
    ----------
    mode : {"heareval", "robust"}
        Published or robust protocol.
    num_grid_points : int
        Number of grid points.
    seeds : int
        Number of seeds of the robust protocol; heareval has one.
    names : tuple of str
        Prefixes of task names; all tasks if empty.
    device : str
        Device of models given by name, and of the heads of the robust protocol.
    runtime : Runtime
        Embedding options of all models and baselines.
    """

    mode: Mode = "heareval"
    num_grid_points: int = GRID_POINTS
    seeds: int = 3
    names: tuple[str, ...] = ()
    device: str = "cpu"
    runtime: Runtime = DEFAULT


def choose_tasks(folder: str | Path, names: Sequence[str] = ()) -> list[Path]:
    """Return the task folders whose name starts with one of ``names``, or all.

    Raises
    ------
    ConfigError
        When a name matches no task.
    """
    found = find_tasks(folder)
    for name in names:
        if not any(path.name.startswith(name) for path in found):
            raise ConfigError(
                f"there is no task {name} in {folder}; available: {', '.join(path.name for path in found)}"
            )
    return [path for path in found if not names or any(path.name.startswith(name) for name in names)]


def evaluate(
    encoders: Sequence[Encoder],
    tasks: Sequence[Path],
    out: Path,
    plan: EvaluationConfig = EvaluationConfig(),
    track: Track = silent,
    log: Callable[[str], None] = lambda text: None,
) -> Report:
    """Evaluate encoders on tasks. Failed tasks are reported, and the others continue.

    Parameters
    ----------
    out : Path
        Output folder; existing results are reused.
    log : callable
        Receives messages about resampling, failures, recomputed scores and caveats.

    Raises
    ------
    UnheardError
        When scipy or threadpoolctl is not installed.
    """
    require("threadpoolctl", "eval")
    from threadpoolctl import threadpool_limits

    report, traces = Report(), out / FAILURES / plan.mode
    for path in tasks:
        with report_failure(report, path.name, "", traces, log):
            task = read_task(path)
            grid(task, plan.num_grid_points)  # before anything is embedded
            for remark in untrained_labels(task):
                report.remarks.append(remark)
                log(remark)
            for encoder in encoders:
                with (
                    report_failure(report, task.name, encoder.name, traces, log),
                    threadpool_limits(limits=1, user_api="blas"),
                ):
                    report.results.append(_result(task, encoder, out, plan, track, log))
    return report


def _result(
    task: Task, encoder: Encoder, out: Path, plan: EvaluationConfig, track: Track, log: Callable[[str], None]
) -> Result:
    """Return the stored or computed result of one encoder on one task."""
    folder, made_from = _embedded(task, encoder, out, track, log)
    seeds = plan.seeds if plan.mode == "robust" else 1
    stamp = hashlib.sha256(
        repr((made_from, plan.mode, plan.num_grid_points, seeds, SCORING_VERSION)).encode()
    ).hexdigest()
    protocol = {"clips": clips_digest(task), "seeds": seeds, "grid points": plan.num_grid_points}
    protocol["version of scores"] = SCORING_VERSION
    kept = out / "scores" / plan.mode / folder_name(encoder) / f"{task.name}.json"
    if (before := load_result(kept, stamp)) is not None:
        return replace(before, protocol=protocol)
    if kept.is_file():
        log(
            f"{task.name}: {encoder.name} was scored with other inputs, settings or another version, or {kept} is"
            " damaged; scoring it again"
        )
    fits = out / "fits" / plan.mode / folder_name(encoder) / task.name / stamp[:12]
    splits, named = read_splits(folder, task), _naming(track, task, encoder)
    runs: Sequence[Sequence[SplitResult]]
    if plan.mode == "heareval":
        runs, unfound = (
            [heareval.evaluate(task, splits, plan.num_grid_points, DiskFitCache(fits), named).tested],
            heareval.UNFOUND,
        )
    else:
        runs, unfound = (
            robust.evaluate(task, splits, plan.num_grid_points, plan.seeds, DiskFitCache(fits), named, plan.device),
            robust.ZERO_DIVISION,
        )
    replicates = bootstrap_scores(task, splits, file_order(folder, task), runs, unfound)
    found = replace(_summed(task, encoder, plan, runs, replicates), protocol=protocol)
    save_result(kept, stamp, found)
    shutil.rmtree(fits, ignore_errors=True)
    return found


def _embedded(
    task: Task, encoder: Encoder, out: Path, track: Track, log: Callable[[str], None]
) -> tuple[Path, list[bytes]]:
    """Return the folder with complete embeddings of a task, and the inputs that identify them."""
    if isinstance(encoder, PrecomputedEmbeddings):
        folder = encoder.folder / task.name
        if damaged := damaged_files(folder):
            raise DataError(
                f"{folder}: {', '.join(damaged)} differ from their checksums; embed the task again, or restore a copy"
            )
        return folder, [encoder.identity.encode(), *stored_origin(task, folder)]
    folder = out / "embeddings" / folder_name(encoder) / task.name
    if (came := audio_rate(task, encoder.sample_rate)) != encoder.sample_rate:
        log(f"{task.name}: resampling from {came} Hz, there is no audio of {encoder.sample_rate} Hz")
    if is_stale(task, folder, encoder.sample_rate):
        log(
            f"{task.name}: labels or files have changed since {encoder.name} embedded them; embedding and scoring them"
            " again"
        )
        _reembed(task, encoder, folder, out, track)
    elif damaged := damaged_files(folder):
        log(
            f"{task.name}: {', '.join(damaged)} of {encoder.name} differ from their checksums; embedding the task again"
        )
        _reembed(task, encoder, folder, out, track)
    embed_task(task, encoder, folder, track)
    return folder, [(folder / PROVENANCE_FILE).read_bytes(), *input_digest(task, folder)]


def _reembed(task: Task, encoder: Encoder, folder: Path, out: Path, track: Track) -> None:
    """Embed into a new folder, then replace the old embeddings and delete their fits and scores."""
    fresh = out / "fits" / "embeddings" / folder_name(encoder) / task.name
    if is_stale(task, fresh, encoder.sample_rate) or damaged_files(fresh):
        shutil.rmtree(fresh)
    embed_task(task, encoder, fresh, track)
    old = fresh.with_name(f"{task.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    folder.rename(old)
    fresh.rename(folder)
    for mode in get_args(Mode):
        shutil.rmtree(out / "fits" / mode / folder_name(encoder) / task.name, ignore_errors=True)
        (out / "scores" / mode / folder_name(encoder) / f"{task.name}.json").unlink(missing_ok=True)
    shutil.rmtree(old)


def _naming(track: Track, task: Task, encoder: Encoder) -> Track:
    """Return a progress function whose descriptions include the encoder."""

    def named(items: Iterable[Item], total: int, description: str) -> Iterator[Item]:
        return track(items, total, f"{task.name}, {encoder.name}{description.removeprefix(task.name)}")

    return named


def _summed(
    task: Task, encoder: Encoder, plan: EvaluationConfig, runs: Sequence[Sequence[SplitResult]], replicates: list[float]
) -> Result:
    tests = [tested for run in runs for tested in run]
    means = {name: mean([tested.scores[name] for tested in tests]) for name in tests[0].scores}
    splits = [{"split": tested.split, "seed": seed, **tested.scores} for seed, run in enumerate(runs) for tested in run]
    chosen = {
        **asdict(tests[0].fit.hyper),
        **(asdict(tests[0].fit.postprocessing) if tests[0].fit.postprocessing else {}),
    }
    name = task.scores[0]
    low, high = bc_interval(replicates, means[name])
    return Result(
        task.name,
        encoder.name,
        plan.mode,
        name,
        means[name],
        low,
        high,
        means,
        splits,
        chosen,
        encoder.options,
        replicates,
        SCORES[name].smaller,
    )
