"""What keeps an eye on a run: losses that are no number, speed, and Ctrl-C."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Int
from torch import Tensor, nn

from unheard.errors import DataError
from unheard.training.checkpoints import checkpoints


@runtime_checkable
class Prepared(Protocol):
    """What prepares the batches of some steps, and how long it was waited for."""

    steps: range
    wait_seconds: float


class Watch:
    """Looks out for a loss that is no number, without waiting for the device in every step."""

    def __init__(self, run: Path, names: list[str]) -> None:
        self.run, self.names = run, names
        self._recent: list[tuple[int, Tensor, Tensor]] = []
        self._last_clips = torch.empty(0, dtype=torch.long)

    def remember(self, step: int, clips: Int[Tensor, " B"], loss: Tensor) -> None:
        """Keep a step's loss and clips until the next check."""
        self._recent.append((step, clips, loss))

    def check(self) -> None:
        """Raise when one of the remembered losses is not finite.

        Raises
        ------
        DataError
            With the step, the files of its batch and the last good checkpoint.
        """
        finite = torch.isfinite(torch.stack([loss for _, _, loss in self._recent])).tolist() if self._recent else []
        for (step, clips, loss), good in zip(self._recent, finite, strict=True):
            self._last_clips = clips
            if not good:
                raise self._blown_up(f"the loss became {float(loss)}", step)
        self._recent.clear()

    def check_weights(self, learner: nn.Module, step: int) -> None:
        """Raise when the step before a checkpoint left weights that are not finite: no loss has seen them yet.

        Raises
        ------
        DataError
            As `check`.
        """
        if not bool(torch.stack([parameter.isfinite().all() for parameter in learner.parameters()]).all()):
            raise self._blown_up("the weights became nan", step)

    def _blown_up(self, what: str, step: int) -> DataError:
        files = list(dict.fromkeys(self.names[i] for i in self._last_clips.tolist()))
        listed = ", ".join(files[:8]) + (f" and {len(files) - 8} more" if len(files) > 8 else "")
        last = checkpoints(self.run)
        kept = f"the last good checkpoint is {last[-1]}" if last else "no checkpoint had been written"
        advice = "try a lower training.learning_rate or training.clip_norm=1"
        return DataError(f"{what} at step {step}, in a batch of {listed}; {kept}; {advice}")


class Clock:
    """Speed between two rows of the journal."""

    def __init__(self, loader: Prepared, batch_size: int) -> None:
        self.loader, self.batch_size = loader, batch_size
        self._time, self._wait, self._step = time.perf_counter(), loader.wait_seconds, loader.steps.start

    def lap(self, step: int) -> dict[str, float]:
        """Clips per second and the share of time spent waiting for data since the last lap."""
        now, wait = time.perf_counter(), self.loader.wait_seconds
        seconds = max(now - self._time, 1e-9)
        row = {
            "clips_per_second": (step - self._step) * self.batch_size / seconds,
            "loader_wait": (wait - self._wait) / seconds,
            "time": time.time(),
        }
        self._time, self._wait, self._step = now, wait, step
        return row


@contextmanager
def stop_signal() -> Iterator[Callable[[], bool]]:
    """Turn the first Ctrl-C or SIGTERM into a question the loop can ask; a second one interrupts at once."""
    asked = False

    def ask(number: int, frame: object) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True

    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
