"""Results of an evaluation as text: JSON, a CSV of scores, and a table."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

from unheard.evaluation.report import Report, Result, plain


@dataclass(frozen=True)
class EvaluationTable:
    """A table of an evaluation, with notes above it and a legend below.

    Parameters
    ----------
    header : list of str
    rows : list of list of str
    notes : list of str
        Failures and caveats.
    legend : str
    n_published : int
        Number of the last rows that are published results.
    """

    header: list[str]
    rows: list[list[str]]
    notes: list[str]
    legend: str
    n_published: int = 0

    def markdown(self) -> str:
        """Return notes, table and legend as Markdown."""
        lines = [f"- {line}" for line in self.notes]
        lines += [""] * bool(lines)
        lines += ["| " + " | ".join(self.header) + " |", "|" + "---|" * len(self.header)]
        lines += ["| " + " | ".join(row) + " |" for row in self.rows]
        return "\n".join([*lines, "", self.legend]) + "\n"


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


def notes(report: Report) -> list[str]:
    """Return a line for each failed task or encoder, and for each caveat."""
    failed = [f"{' '.join(filter(None, (task, encoder)))} failed: {error}" for task, encoder, error in report.failed]
    return [*failed, *report.remarks]


def options_used(results: Sequence[Result]) -> Iterator[str]:
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
