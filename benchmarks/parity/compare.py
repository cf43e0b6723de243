"""One row for each stored output: its name, the largest difference, the tolerance."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch


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

    def check(self, name: str, ours: Any, theirs: Any, atol: float = 0.0, rtol: float = 0.0) -> None:
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
        allowed = "exact" if atol == rtol == 0 else f"{atol:g}" + (f"+{rtol:g}r" if rtol else "")
        print(f"{name:<62}{difference.max() if difference.size else 0:>12.2e}{allowed:>12}{'' if fits else '  OUTSIDE'}")

    def skip(self, name: str, reason: str) -> None:
        """Name an output that is not compared, and why."""
        self.skipped += 1
        print(f"{name:<62}  not compared: {reason}")

    def missing(self, name: str) -> None:
        """A stored output nothing recomputed counts as outside."""
        self.compared += 1
        self.outside += 1
        print(f"{name:<62}  not recomputed  OUTSIDE")

    def last_line(self) -> int:
        """Print the result; the exit status is 0 when something was compared and nothing is outside."""
        print(f"\nparity: {self.compared} compared, {self.outside} outside")
        return int(self.outside > 0 or self.compared == 0)


def _array(value: Any) -> np.ndarray:
    return value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)
