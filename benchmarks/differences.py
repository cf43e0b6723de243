"""Scores of encoders on the same tasks, and paired differences to the first, as in docs/results.md.

    python -m benchmarks.differences scores:unheard-tiny scores:random other-scores:unheard-tiny

An argument is the output of ``unheard evaluate`` and an encoder in it. Results are read from ``FOLDER/scores/MODE``,
which holds 5,000 resamples of each score. The tasks are those that all of them have. Differences are the first encoder
less the other, with 95 % intervals; a star marks those that are significant at 5 %, two-sided, with Holm's correction
over the tasks. ≈ marks an encoder that is not significantly worse than the best one of a task, as ``unheard evaluate``
does.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from unheard.bootstrap import ALPHA, holm, two_sided
from unheard.evaluation.comparison import marked_cells
from unheard.evaluation.report import Result, load_result
from unheard.files import read_json

Results = dict[str, Result]
"""Results of an encoder, by their tasks."""


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("encoders", nargs="+", metavar="FOLDER:ENCODER")
    parser.add_argument("--mode", default="robust", choices=["robust", "heareval"])
    given = parser.parse_args()
    found = {name: read_results(name, given.mode) for name in given.encoders}
    print("\n".join([*scores(found), "", *differences(found)]))
    every = {task for results in found.values() for task in results}
    if left_out := sorted(every.difference(tasks_of(found))):
        print(f"\nnot of all encoders, so left out: {', '.join(left_out)}")


def read_results(name: str, mode: str) -> Results:
    """Return the results of ``FOLDER:ENCODER``."""
    folder, _, encoder = name.rpartition(":")
    found = {}
    for file in sorted((Path(folder) / "scores" / mode).glob("*/*.json")):
        result = load_result(file, read_json(file)["stamp"])
        if result is None:
            raise SystemExit(f"{file} is damaged or of another version; evaluate again with --resume")
        if result.encoder == encoder:
            found[result.task] = result
    if not found:
        raise SystemExit(f"{folder} has no results of {encoder} in the mode {mode}")
    return found


def tasks_of(found: dict[str, Results]) -> list[str]:
    """Return the tasks that all encoders have. They must have the same clips, splits and seeds."""
    first, *others = found.values()
    tasks = [task for task in first if all(task in other for other in others)]
    for task in tasks:
        for name, results in found.items():
            if results[task].protocol != first[task].protocol:
                raise SystemExit(f"{name}: {task} has other clips or settings than that of {next(iter(found))}")
    return tasks


def scores(found: dict[str, Results]) -> list[str]:
    """Return the table of scores: a row for each task, and their mean."""
    tasks = tasks_of(found)
    lines = _head("task", found)
    for task in tasks:
        column = [replace(results[task], encoder=name) for name, results in found.items()]
        cells = marked_cells(column)
        lines.append(_row(f"{task} ({column[0].score})", [cells[name] for name in found]))
    means = [np.mean([results[task].value for task in tasks]) for results in found.values()]
    return [*lines, _row(f"mean of {len(tasks)}", [f"{mean:.3f}" for mean in means])]


def differences(found: dict[str, Results]) -> list[str]:
    """Return the table of differences: a row for each task, and their mean."""
    tasks, (first, *others) = tasks_of(found), found
    samples = {
        (task, name): np.subtract(found[first][task].replicates, found[name][task].replicates)
        for task in tasks
        for name in others
    }
    stars = {name: holm([two_sided(samples[task, name]) for task in tasks]) for name in others}
    lines = _head("task", [f"{first} less {name}" for name in others])
    for row, task in enumerate(tasks):
        values = [found[first][task].value - found[name][task].value for name in others]
        cells = [
            _cell(value, samples[task, name]) + " *" * (stars[name][row] <= ALPHA)
            for value, name in zip(values, others, strict=True)
        ]
        lines.append(_row(task, cells))
    means = [np.mean([samples[task, name] for task in tasks], axis=0) for name in others]
    values = [np.mean([found[first][task].value - found[name][task].value for task in tasks]) for name in others]
    return [*lines, _row("mean", [_cell(float(value), each) for value, each in zip(values, means, strict=True)])]


def _cell(value: float, samples: np.ndarray) -> str:
    low, high = np.nanquantile(samples, [0.025, 0.975])
    return f"{value:+.3f} [{low:+.3f}, {high:+.3f}]"


def _head(first: str, names: Sequence[str] | dict[str, Results]) -> list[str]:
    return [_row(first, list(names)), _row("---", ["---"] * len(names))]


def _row(first: str, cells: Sequence[str]) -> str:
    return f"| {' | '.join([first, *cells])} |"


if __name__ == "__main__":
    main()
