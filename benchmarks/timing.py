"""Fair timing on a shared machine: candidates take turns, only this process's CPU time counts, ratios are taken round
by round.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch


@dataclass(frozen=True)
class Table:
    """Seconds of CPU time one item takes: one list of rounds for each candidate, the baseline first."""

    seconds: dict[str, list[float]]

    def rate(self, name: str) -> float:
        """Median items per core-second."""
        return 1 / statistics.median(self.seconds[name])

    def ratios(self, name: str) -> list[float]:
        """How many times faster than the baseline, round by round."""
        baseline = next(iter(self.seconds.values()))
        return [base / own for base, own in zip(baseline, self.seconds[name], strict=True)]

    def rows(self) -> list[dict[str, Any]]:
        """One plain row a candidate."""
        rows = []
        for name in self.seconds:
            ratios = self.ratios(name)
            row = {
                "name": name,
                "items_per_core_second": round(self.rate(name), 1),
                "ratio": round(statistics.median(ratios), 2),
            }
            rows.append(
                row | {"lowest": round(min(ratios), 2), "highest": round(max(ratios), 2), "rounds": len(ratios)}
            )
        return rows

    def markdown(self, unit: str) -> str:
        """The rows as a Markdown table."""
        lines = [f"| | {unit} per core-second | ratio | lowest to highest |", "|---|---|---|---|"]
        for row in self.rows():
            spread = f"{row['lowest']:.2f} to {row['highest']:.2f}"
            rate = row["items_per_core_second"]
            shown = f"{rate:,.0f}" if rate >= 10 else f"{rate:.1f}"
            lines.append(f"| {row['name']} | {shown} | {row['ratio']:.2f} | {spread} |")
        return "\n".join(lines)


def interleave(candidates: Mapping[str, Callable[[], int]], rounds: int) -> Table:
    """Time candidates in turns.

    Parameters
    ----------
    candidates : mapping
        The baseline first. Each does some work and returns how many items it did.
    rounds : int
        Turns of each, after one that does not count.
    """
    torch.set_num_threads(1)
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for number in range(rounds + 1):
        for name, work in candidates.items():
            begin = time.process_time()
            items = work()
            spent = time.process_time() - begin
            if number:
                seconds[name].append(spent / items)
    return Table(seconds)


def machine() -> str:
    """Processor, cores and versions in one line."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    processor = names[0] if names else platform.processor()
    return f"{processor}, {os.cpu_count()} cores, torch {torch.__version__}, Python {platform.python_version()}"


def arguments(description: str, rounds: int = 9) -> argparse.Namespace:
    """The command line every benchmark has: ``--rounds`` and ``--json``."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--rounds", type=int, default=rounds, help="turns of each candidate")
    parser.add_argument("--json", action="store_true", help="one JSON document instead of a table")
    return parser.parse_args()


def show(row: str, table: Table, unit: str, checked: str, as_json: bool) -> None:
    """Print the result of one benchmark, with what was compared before."""
    if as_json:
        print(json.dumps({"row": row, "unit": unit, "machine": machine(), "checked": checked, "rows": table.rows()}))
    else:
        print(f"**{row}** ({machine()})\n\n{checked}\n\n{table.markdown(unit)}")
