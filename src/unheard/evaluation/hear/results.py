"""Results of HEAR tasks as a table of encoders, tasks and published numbers."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files

from unheard.evaluation.comparison import TIED_MARK, marked_cells
from unheard.evaluation.report import Report
from unheard.evaluation.results import EvaluationTable, notes, options_used

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


def evaluation_table(report: Report) -> EvaluationTable:
    """Return the table of encoders, tasks and published numbers."""
    header, rows = table(report)
    n_published = sum(bool(row[-1]) for row in rows)
    return EvaluationTable(header, rows, notes(report), legend(report), n_published)


def markdown(report: Report) -> str:
    """Return a report as Markdown: notes, then the table of encoders, tasks and published numbers."""
    return evaluation_table(report).markdown()


def legend(report: Report) -> str:
    """Return the explanation of the marks, the options of the embeddings, and caveats of published numbers."""
    unclear = sorted({_slug(result.task) for result in report.results}.intersection(UNSTATED))
    text = LEGEND + (
        f" The papers do not state the version of {', '.join(unclear)} that their numbers are for." if unclear else ""
    )
    return " ".join([text, *options_used(report.results)])


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
    cells = {task: marked_cells([result for result in results if result.task == task]) for task in tasks}
    rows = [
        [encoder, *("failed" if (encoder, task) in failed else cells[task].get(encoder, "") for task in tasks), ""]
        for encoder in encoders
    ]
    return ["encoder", *(f"{task} {score}" for task, score in tasks.items()), "source"], [
        *rows,
        *_published_rows(tasks),
    ]


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
