"""What a run reports to its caller while it trains, and what it returns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from unheard.data.store import Store
from unheard.progress import Track, silent


@dataclass(frozen=True)
class Run:
    """A run folder and where it stands."""

    folder: Path
    step: int
    total: int

    @property
    def finished(self) -> bool:
        """Whether every step was done."""
        return self.step >= self.total


@dataclass(frozen=True)
class Callbacks:
    """What a run tells the outside while it goes; the default tells nothing."""

    say: Callable[[str], None] = lambda text: None
    """Takes lines of text for a person."""
    track: Track = silent
    """Shows the progress of reading the corpus."""
    live: bool = False
    """Draw a progress line on stderr."""
    finished: Callable[[Path, Store], None] = lambda run, store: None
    """Called once at the end with the run and its corpus; for figures and measurements."""
