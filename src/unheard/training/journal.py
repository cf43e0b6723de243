"""Metrics of a run: ``metrics.jsonl``, a tracker, and progress on stderr."""

from __future__ import annotations

import math
import os
import platform
import sys
import time
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from types import TracebackType
from typing import Any

import torch

from unheard.files import json_line, read_json_lines, write_text
from unheard.progress import duration
from unheard.trackers import NOT_CURVES, open_tracker
from unheard.training.callbacks import Callbacks
from unheard.version import __version__

SCORES = ("probe/linear/", "probe/knn/")
"""Beginnings of the names of scores of a watched table."""


class MetricsLogger:
    """Write the metrics of a run and show its progress.

    Parameters
    ----------
    run : Path
        Run folder.
    start, total : int
        First step of this session, and number of steps of the whole run.
    report : Callbacks
        Whether progress is printed on stderr, and the tracker.
    settings : mapping
        The recipe, for the tracker.
    """

    def __init__(
        self, run: Path, start: int, total: int, report: Callbacks = Callbacks(), settings: Mapping[str, Any] = {}
    ) -> None:
        self.file = run / "metrics.jsonl"
        truncate_metrics(self.file, start or -1)  # scores before the first step are computed again
        self.start, self.total = start, total
        self.began = time.perf_counter()
        self._tracker = open_tracker(report.tracker, run, start, settings)
        self._display = _Display(start, total) if report.show_progress else None

    def __enter__(self) -> MetricsLogger:
        """Start the progress display."""
        if self._display is not None:
            self._display.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close files and the display."""
        if self._display is not None:
            self._display.close()
        if self._tracker is not None:
            self._tracker.close()

    def write(self, row: Mapping[str, float]) -> None:
        """Append one row of metrics, which must contain ``step``."""
        with self.file.open("a", encoding="utf-8") as file:
            file.write(json_line(row))
        if self._tracker is not None:
            curves = {name: value for name, value in row.items() if name not in NOT_CURVES}
            self._tracker.write(int(row["step"]), curves)
        if self._display is not None and "clips_per_second" in row:
            self._display.show(row, time.perf_counter() - self.began)


class _Display:
    """Progress display: a bar on a terminal, plain lines elsewhere."""

    def __init__(self, start: int, total: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self.start, self.total = start, total
        console = Console(file=sys.stderr)
        columns = (
            TextColumn("step {task.completed:.0f}/{task.total:.0f}"),
            BarColumn(),
            TextColumn("{task.description}"),
            TimeRemainingColumn(),
        )
        self._bar = Progress(*columns, console=console) if console.is_terminal else None
        self._task = self._bar.add_task("starting", total=total, completed=start) if self._bar else None

    def open(self) -> None:
        if self._bar is not None:
            self._bar.start()

    def close(self) -> None:
        if self._bar is not None:
            self._bar.stop()

    def show(self, row: Mapping[str, float], elapsed: float) -> None:
        text = (
            f"loss {row.get('loss', math.nan):.4f}  {row['clips_per_second']:.0f} clips/s  loader wait"
            f" {100 * row['loader_wait']:.0f} %"
        )
        text += "".join(f"  {name.split('/')[1]} {row[name]:.3f}" for name in row if name.startswith(SCORES))
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=row["step"], description=text)
        else:
            left = elapsed / max(row["step"] - self.start, 1) * (self.total - row["step"])
            print(f"step {row['step']:.0f}/{self.total}  {text}  {duration(left)} left", file=sys.stderr, flush=True)


def truncate_metrics(file: Path, step: int) -> None:
    """Remove the rows after ``step``, so that a resumed run continues the curves.

    Incomplete or damaged lines are removed and reported on stderr.
    """
    if not file.exists():
        return
    rows, damaged = read_json_lines(file)
    if damaged:
        numbers = ", ".join(map(str, damaged[:9])) + (", ..." if len(damaged) > 9 else "")
        print(f"{file}: line {numbers} is incomplete or damaged and was removed", file=sys.stderr, flush=True)
    write_text(file, "".join(json_line(row) for row in rows if row["step"] <= step))


def environment() -> dict[str, Any]:
    """Return versions and machine properties for ``environment.json``."""
    packages = ("torch", "numpy", "soundfile", "soxr", "safetensors", "lightning-fabric")
    return {
        "unheard": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu_count": os.cpu_count(),
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "packages": {name: metadata.version(name) for name in packages},
        "command": sys.argv,
    }
