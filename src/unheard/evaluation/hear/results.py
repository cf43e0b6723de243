"""Results of an evaluation as text: a CSV of scores, and a table of encoders, tasks and published numbers."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.resources import files

from unheard.evaluation.hear.paired_bootstrap import significantly_worse
from unheard.evaluation.hear.report import Report, Result, plain
from unheard.evaluation.hear.scores import SCORES

BEST, TIED_MARK = "**", "≈"
UNSTATED = ("beehive_states", "nsynth_pitch", "speech_commands")  # tasks of HEAR that come in two versions
LEGEND = (
    "In brackets: 95 % bootstrap intervals over test files, and over seeds where there are several. The best of our"
    f" rows in a column is bold. {TIED_MARK} marks rows that are not significantly worse: paired bootstrap on the same"
    " files, 5 % two-sided, Holm's correction for the number of rows. Published numbers come from other protocols and"
    " weights where the last column names them."
)


@dataclass(frozen=True)
class Published:
    """A published number in percent, with its uncertainty if stated, its protocol and its source."""

    model: str
    task: str
    score: str
    percent: float
    plus_minus: float | None
    protocol: str
    source: str

    @property
    def formatted(self) -> str:
        """The score as a fraction, with its uncertainty if stated."""
        spread = f" ± {self.plus_minus / 100:.3f}" if self.plus_minus is not None else ""
        return f"{self.percent / 100:.3f}{spread}"


def published() -> list[Published]:
    """Return the published numbers in ``published.csv``."""
    text = files("unheard.evaluation.hear").joinpath("published.csv").read_text(encoding="utf-8")
    return [
        Published(
            row["model"],
            row["task"],
            row["score"],
            float(row["percent"]),
            float(row["plus_minus"]) if row["plus_minus"] else None,
            row["protocol"],
            row["source"],
        )
        for row in csv.DictReader(io.StringIO(text))
    ]  # fmt: skip


def as_json(report: Report) -> dict[str, object]:
    """Return a report as values for JSON, without the replicates; see `plain`."""
    failed = [{"task": task, "encoder": encoder, "error": error} for task, encoder, error in report.failed]
    results = [
        {name: value for name, value in asdict(result).items() if name != "replicates"} for result in report.results
    ]
    return {"results": plain(results), "failed": failed, "remarks": report.remarks}


def to_csv(results: Sequence[Result]) -> str:
    """Return a CSV with a row for each score of each test split, and for each mean (split empty)."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["task", "encoder", "mode", "split", "seed", "score", "value", "low", "high"])
    for result in results:
        place = (result.task, result.encoder, result.mode)
        for name, value in result.scores.items():
            first = name == result.score
            rows.writerow([*place, "", "", name, value, result.low if first else "", result.high if first else ""])
        for split in result.splits:
            rows.writerows([*place, split["split"], split["seed"], key, split[key], "", ""] for key in result.scores)
    return text.getvalue()


def markdown(report: Report) -> str:
    """Return a report as Markdown: notes, then the table of encoders, tasks and published numbers."""
    header, rows = table(report)
    lines = [f"- {line}" for line in notes(report)]
    lines += [""] * bool(lines)
    lines += ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([*lines, "", legend(report)]) + "\n"


def notes(report: Report) -> list[str]:
    """Return a line for each failed task or encoder, and for each caveat."""
    failed = [f"{' '.join(filter(None, (task, encoder)))} failed: {error}" for task, encoder, error in report.failed]
    return [*failed, *report.remarks]


def legend(report: Report) -> str:
    """Return the explanation of the marks, the options of the embeddings, and caveats of published numbers."""
    unclear = sorted({_slug(result.task) for result in report.results}.intersection(UNSTATED))
    text = LEGEND + (
        f" The papers do not state the version of {', '.join(unclear)} that their numbers are for." if unclear else ""
    )
    return " ".join([text, *_options(report.results)])


def _options(results: Sequence[Result]) -> Iterator[str]:
    """Yield a sentence for each set of embedding options, with the encoders that used it."""
    ways: dict[str, dict[str, None]] = {}
    for result in results:
        if result.options:
            words = ", ".join(
                f"{name} {'default' if value is None else value}" for name, value in result.options.items()
            )
            ways.setdefault(words, {})[result.encoder] = None
    for words, names in ways.items():
        yield f"Options of the embeddings of {', '.join(names)}: {words}."


def table(report: Report) -> tuple[list[str], list[list[str]]]:
    """Return the header and the rows: encoders with their scores, then published models with the source of their
    numbers.
    """
    results = report.results
    tasks = {result.task: result.score for result in results}
    failed = {(encoder, task) for task, encoder, _ in report.failed if encoder}
    encoders = dict.fromkeys(
        [*(result.encoder for result in results), *(encoder for _, encoder, _ in report.failed if encoder)]
    )
    cells = {task: _cells([result for result in results if result.task == task]) for task in tasks}
    rows = [
        [encoder, *("failed" if (encoder, task) in failed else cells[task].get(encoder, "") for task in tasks), ""]
        for encoder in encoders
    ]
    return ["encoder", *(f"{task} {score}" for task, score in tasks.items()), "source"], [
        *rows,
        *_published_rows(tasks),
    ]


def best_of(results: Sequence[Result]) -> Result | None:
    """Return the best result of one task; None if no value is finite."""
    known = [result for result in results if math.isfinite(result.value)]
    if not known:
        return None
    return (min if SCORES[known[0].score].smaller else max)(known, key=lambda result: result.value)


def near_best(column: Sequence[Result]) -> list[str]:
    """Return the encoders that are not significantly worse than the best one in one task, including the best."""
    best = best_of(column)
    if best is None:
        return []
    known = [each for each in column if math.isfinite(each.value)]
    worse = significantly_worse([each.replicates for each in known], known.index(best), SCORES[best.score].smaller)
    return [each.encoder for each, is_worse in zip(known, worse, strict=True) if not is_worse]


def _cells(column: Sequence[Result]) -> dict[str, str]:
    """Return the cell of each encoder in the column of one task."""
    best, near = best_of(column), near_best(column)
    texts = {result.encoder: f"{result.value:.3f} [{result.low:.3f}, {result.high:.3f}]" for result in column}
    marked = {name: f"{text} {TIED_MARK}" if name in near else text for name, text in texts.items()}
    return marked if best is None else marked | {best.encoder: f"{BEST}{texts[best.encoder]}{BEST}"}


def _slug(task: str) -> str:
    """Return the task name of published rows: without version and mode, one name for both Beehive folds."""
    return re.sub(r"_fold\d$", "", task.split("-")[0])


def _published_rows(tasks: dict[str, str]) -> Iterator[list[str]]:
    """Yield a row for each published model, protocol and source with a number for one of the tasks."""
    cells: dict[tuple[str, str], dict[str, str]] = {}
    for row in published():
        for task, score in tasks.items():
            if _slug(task) == row.task and row.score == score:
                where = re.sub(r",? tables? [0-9IVX].*", "", row.source)
                cells.setdefault((row.model, f"{row.protocol}, {where}"), {})[task] = row.formatted
    for (model, where), values in cells.items():
        yield [model, *(values.get(task, "") for task in tasks), where]
