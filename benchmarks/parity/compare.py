"""One row for each stored output: its name, the largest difference, the tolerance."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from unheard.objectives.base import Batch

Arrays = dict[str, np.ndarray]
Tolerance = float | np.ndarray

LOG_MEL, QUIET = 3e-4, 5e-4  # of a front end's values, and of those in quiet bands
QUIET_NATS = (
    13.0  # below the maximum of its frame a band is quiet: there float32 sums differ from processor to processor
)


@dataclass
class Comparison:
    """Collects and prints the rows of one or more folders."""

    compared: int = 0
    outside: int = 0
    skipped: int = 0
    _folder: str = field(default="")

    def folder(self, name: str) -> None:
        """Begin a folder."""
        self._folder = name
        print(f"\n{name}\n{'output':<62}{'difference':>12}{'tolerance':>12}")

    def check(self, name: str, ours: Any, theirs: Any, atol: Tolerance = 0.0, rtol: float = 0.0) -> None:
        """Compare an output; the tolerance is ``atol + rtol * |theirs|`` element by element, 0 means exact."""
        mine, stored = _array(ours), _array(theirs)
        self.compared += 1
        if mine.shape != stored.shape:
            self.outside += 1
            print(f"{name:<62}  shape {mine.shape}, stored {stored.shape}  OUTSIDE")
            return
        difference = np.abs(mine.astype(np.float64) - stored.astype(np.float64))
        fits = bool(np.all(difference <= atol + rtol * np.abs(stored.astype(np.float64))))
        self.outside += not fits
        most = float(np.max(atol))
        allowed = "exact" if most == rtol == 0 else f"{most:g}" + (f"+{rtol:g}r" if rtol else "")
        print(
            f"{name:<62}{difference.max() if difference.size else 0:>12.2e}{allowed:>12}{'' if fits else '  OUTSIDE'}"
        )

    def skip(self, name: str, reason: str) -> None:
        """Name an output that is not compared, and why."""
        self.skipped += 1
        print(f"{name:<62}  not compared: {reason}")

    def missing(self, name: str) -> None:
        """A stored output nothing recomputed counts as outside."""
        self.compared += 1
        self.outside += 1
        print(f"{name:<62}  not recomputed  OUTSIDE")

    def add(self, other: Comparison) -> None:
        """Add the counts of another comparison."""
        self.compared += other.compared
        self.outside += other.outside
        self.skipped += other.skipped

    def last_line(self) -> int:
        """Print the result; the exit status is 0 when something was compared and nothing is outside."""
        print(f"\nparity: {self.compared} compared, {self.outside} outside")
        return int(self.outside > 0 or self.compared == 0)


def log_mel_tolerance(stored: np.ndarray, nats: float = 1.0, band_axis: int = -2) -> np.ndarray:
    """The tolerance of every value of a log-mel spectrogram, on any x86-64 processor.

    Parameters
    ----------
    nats : float
        Of one unit of the stored values.
    """
    under = (stored.max(axis=band_axis, keepdims=True) - stored) * nats
    return np.where(under > QUIET_NATS, QUIET, LOG_MEL)


def _array(value: Any) -> np.ndarray:
    return value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)


class Checker:
    """Checks outputs of one file that are stored there, and remembers which."""

    def __init__(self, title: str, stored: Arrays, table: Comparison) -> None:
        self.title, self.stored, self.table = title, stored, table
        self.done: set[str] = set()

    def __call__(self, key: str, ours: Any, atol: Tolerance = 0.0, rtol: float = 0.0) -> None:
        """Compare one output, if it is stored."""
        if key in self.stored:
            self.done.add(key)
            self.table.check(f"{self.title}/{key}", ours, self.stored[key], atol, rtol)

    def part(self, key: str, ours: Any, which: np.ndarray, atol: Tolerance = 0.0, rtol: float = 0.0) -> None:
        """Compare the flagged elements of one output."""
        self.done.add(key)
        self.table.check(f"{self.title}/{key}", ours, self.stored[key][which], atol, rtol)

    def skip(self, key: str, reason: str) -> None:
        """Say why one output is not compared."""
        self.done.add(key)
        self.table.skip(f"{self.title}/{key}", reason)

    def complete(self, inputs: Iterable[str]) -> None:
        """Name what was stored and never recomputed."""
        complete(self.title, self.stored, self.done | set(inputs), self.table)


def complete(title: str, stored: Arrays, known: Iterable[str], table: Comparison) -> None:
    """Count what was stored and never recomputed as outside."""
    for key in sorted(set(stored) - set(known)):
        table.missing(f"{title}/{key}")


def with_cls(tokens: torch.Tensor, cls: torch.Tensor | None) -> torch.Tensor:
    """Tokens with the CLS output in front, as references store them."""
    return tokens if cls is None else torch.cat([cls[:, None], tokens], dim=1)


def batch_of(spec: torch.Tensor, noise: torch.Tensor) -> Batch:
    """A batch without padding."""
    count = torch.arange(len(spec))
    return Batch(spec, torch.ones_like(noise, dtype=torch.bool), count, count, count.float(), noise)


def arrays(file: Path) -> Arrays:
    """The arrays of a ``.npz``."""
    with np.load(file) as data:
        return {name: data[name] for name in data.files}
