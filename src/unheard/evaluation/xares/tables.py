"""Table of an X-ARES evaluation: one row a task and head, one column an encoder."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from unheard.evaluation.comparison import TIED_MARK, marked_cells
from unheard.evaluation.report import Report, Result
from unheard.evaluation.results import EvaluationTable, notes, options_used
from unheard.evaluation.xares.averages import Published, coverage, published, weighted_average
from unheard.evaluation.xares.tasks import XaresTask, public_tasks, public_weights

HEADS = {"mlp": "MLP", "knn": "kNN", "knn_rows": "kNN, unit rows"}
LEGEND = (
    "MLP is the head of X-ARES: layer normalisation and one linear layer. In brackets: 95 % bootstrap intervals over"
    f" test clips, and over seeds where there are several. The best MLP of a row is bold. {TIED_MARK} marks those that"
    " are not significantly worse: paired bootstrap on the same clips, 5 % two-sided, Holm's correction. kNN has the"
    " normalisation of the reference: each dimension over all training clips. kNN with unit rows is the usual cosine"
    " similarity; X-ARES does not report it. Scores of the reference vary between runs, because its shuffles are not"
    " seeded."
)
PUBLISHED = (
    " Published averages are over the same tasks as ours, and not the averages in the README of X-ARES. Source of"
    " published scores: {}."
)
EXACT = (
    " These scores are not comparable with published ones: clips are encoded without padding, all crops are used, and"
    " no epoch is chosen on test clips."
)


def evaluation_table(report: Report, tasks: Sequence[XaresTask], exact: bool = False) -> EvaluationTable:
    """Return the table of a report.

    Parameters
    ----------
    tasks : sequence of XaresTask
        Tasks of the evaluation, which give names and weights.
    exact : bool
        Whether the scores are those of the exact protocol, which has no published scores.
    """
    compared = [] if exact or not any(task.public for task in tasks) else published()
    names = [*(each.encoder for each in report.results), *(name for _, name, _ in report.failed if name)]
    encoders = list(dict.fromkeys(names))
    header = ["task", "score", *encoders, *(f"{each.encoder} (published)" for each in compared)]
    rows = [row for task in tasks for row in _task_rows(task, report, encoders, compared)]
    rows += [row for public in (True, False) for row in _averages(report, tasks, encoders, compared, public)]
    source = PUBLISHED.format(compared[0].source) if compared else ""
    legend = " ".join([LEGEND + (EXACT if exact else source), *options_used(report.results)])
    return EvaluationTable(header, rows, [*notes(report), *_coverage_notes(report)], legend)


def _task_rows(
    task: XaresTask, report: Report, encoders: Sequence[str], compared: Sequence[Published]
) -> Iterator[list[str]]:
    column = [result for result in report.results if result.task == task.name]
    failed = {encoder for name, encoder, _ in report.failed if name == task.name}
    if not column and not failed:
        return
    first = marked_cells(column) if column else {}
    cells = [first.get(name, "failed" if name in failed else "") for name in encoders]
    yield [task.title, f"MLP {task.metric}", *cells, *(_number(each.mlp.get(task.name)) for each in compared)]
    for score in ("knn", "knn_rows"):
        values = {result.encoder: result.scores[score] for result in column if score in result.scores}
        if values:
            others = [_number(each.knn.get(task.name)) if score == "knn" else "" for each in compared]
            yield [task.title, HEADS[score], *(_number(values.get(name)) for name in encoders), *others]


def _averages(
    report: Report, tasks: Sequence[XaresTask], encoders: Sequence[str], compared: Sequence[Published], public: bool
) -> Iterator[list[str]]:
    """Yield the weighted averages over the public tasks, or over the others; none of an encoder that lacks a task."""
    weights = public_weights() if public else {task.name: task.weight for task in tasks if not task.public}
    results = [result for result in report.results if result.task in weights]
    for score, head in HEADS.items():
        of = _scores(results, score)
        covered = set().union(*of.values()) if of else set()
        if not covered:
            continue
        share = "" if not public else f", {_share(covered):.1%} of the weight"
        title = f"weighted average over {len(covered)} {'public' if public else 'own'} tasks{share}"
        ours = [_average(of.get(name, {}), covered, weights) for name in encoders]
        others = [_published_average(each, score, covered, weights) if public else "" for each in compared]
        yield [title, head, *ours, *others]


def _scores(results: Sequence[Result], score: str) -> dict[str, dict[str, float]]:
    """Return a score by encoder and task."""
    found: dict[str, dict[str, float]] = {}
    for result in results:
        value = result.value if score == "mlp" else result.scores.get(score)
        if value is not None and math.isfinite(value):
            found.setdefault(result.encoder, {})[result.task] = value
    return found


def _average(scores: Mapping[str, float], covered: set[str], weights: Mapping[str, int]) -> str:
    return _number(weighted_average(scores, weights)) if set(scores) == covered else ""


def _published_average(each: Published, score: str, covered: set[str], weights: Mapping[str, int]) -> str:
    known: Mapping[str, float] = {"mlp": each.mlp, "knn": each.knn}.get(score, {})
    return _average({task: known[task] for task in covered if task in known}, covered, weights)


def _share(covered: set[str]) -> float:
    weights = public_weights()
    return sum(weights[task] for task in covered) / sum(weights.values())


def _coverage_notes(report: Report) -> list[str]:
    """Return the line about the tasks that the averages cover."""
    covered = list(dict.fromkeys(result.task for result in report.results if result.task in public_tasks()))
    return [coverage(covered)] if covered else []


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
