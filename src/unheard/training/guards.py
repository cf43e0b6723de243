"""Guards of a training run: non-finite losses, throughput, and shutdown on Ctrl-C."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Int
from torch import Tensor, nn

from unheard.data.shard_layout import Texts
from unheard.errors import DataError
from unheard.training.checkpoints import checkpoints
from unheard.training.engine import Engine
from unheard.training.parallel.sharding import own_part

REQUEUED = (signal.SIGTERM, signal.SIGUSR1)
"""Signals of a batch system at the end of its time: a checkpoint is saved, and the job is to be started again."""
STOPPING = (signal.SIGINT, signal.SIGHUP, *REQUEUED)
"""Signals that save a checkpoint before the run ends: Ctrl-C, closed terminal, end of a job."""


class Stop(IntEnum):
    """Whether a run was asked to stop, and whether it is to be started again; of several processes, the largest."""

    NO = 0
    INTERRUPT = 1
    REQUEUE = 2


def common_stop(engine: Engine, stop: Stop, logged: bool) -> Stop:
    """Return whether a process was asked to stop; several processes exchange this in logged steps only.

    Parameters
    ----------
    stop : Stop
        Of this process.
    logged : bool
        Whether the step is logged, in which the device is waited for anyway.
    """
    if engine.processes > 1 and not logged:
        return Stop.NO
    return Stop(engine.largest(stop))


@runtime_checkable
class BatchSource(Protocol):
    """Source of the batches of some steps, with the seconds spent waiting for it."""

    steps: range
    wait_seconds: float


class NonFiniteGuard:
    """Detect non-finite losses without synchronising with the device in every step; the same in all processes.

    Parameters
    ----------
    run : Path
    names : Texts
        Files of the clips.
    engine : Engine
    record_step : callable, optional
        Called with the number of a step whose loss is not finite. Stores the data needed to repeat the step, and
        returns a sentence that explains how.
    """

    def __init__(
        self, run: Path, names: Texts, engine: Engine, record_step: Callable[[int], str] | None = None
    ) -> None:
        self.run, self.names, self.engine, self._record_step = run, names, engine, record_step
        self._recent: list[tuple[int, Tensor, Tensor]] = []
        self._last_clips = torch.empty(0, dtype=torch.long)

    def record(self, step: int, clips: Int[Tensor, " B"], loss: Tensor) -> None:
        """Store the loss and the clips of a step until the next check."""
        self._recent.append((step, clips, loss))

    def check(self) -> None:
        """Check the recorded losses.

        Raises
        ------
        DataError
            When a loss is not finite; names the step, the files of its batch and the last good checkpoint.
        """
        if not self._recent:
            return
        losses = self.engine.mean(torch.stack([loss for _, _, loss in self._recent]))
        for (step, clips, _), loss in zip(self._recent, losses.tolist(), strict=True):
            self._last_clips = clips
            if not math.isfinite(loss):
                raise self._divergence_error(
                    f"the loss became {loss}", step, "" if self._record_step is None else f"; {self._record_step(step)}"
                )
        self._recent.clear()

    def check_weights(self, learner: nn.Module, step: int) -> None:
        """Check the weights before a checkpoint, because no loss has been computed with them yet.

        Raises
        ------
        DataError
            When a weight is not finite; see `check`.
        """
        if self.engine.any_rank(not all_finite(learner)):
            raise self._divergence_error("parameters contain NaN or infinity", step)

    def _divergence_error(self, what: str, step: int, more: str = "") -> DataError:
        files = list(
            dict.fromkeys(self.names[i] for i in self.engine.gather(self._last_clips.to(self.engine.device)).tolist())
        )
        listed = ", ".join(files[:8]) + (f" and {len(files) - 8} more" if len(files) > 8 else "")
        last = checkpoints(self.run)
        checkpoint = f"the last good checkpoint is {last[-1]}" if last else "no checkpoint had been written"
        advice = "try a lower training.learning_rate or training.clip_norm=1"
        return DataError(f"{what} at step {step}, in a batch of {listed}; {checkpoint}; {advice}{more}")


def all_finite(module: nn.Module) -> bool:
    """Return whether every parameter is finite, or the part that this process has; the device is synchronised once."""
    return bool(torch.stack([own_part(each).isfinite().all() for each in module.parameters()]).all())


class ThroughputMeter:
    """Measure the training speed between two rows of metrics.

    Parameters
    ----------
    loader : BatchSource
    batch_size : int
        Clips per step, over all processes.
    views : int
        Masks of each clip. If there are several, views are counted as well.
    """

    def __init__(self, loader: BatchSource, batch_size: int, views: int = 1) -> None:
        self.loader, self.batch_size, self.views = loader, batch_size, views
        self._time, self._wait, self._step = time.perf_counter(), loader.wait_seconds, loader.steps.start

    def lap(self, step: int) -> dict[str, float]:
        """Return seconds, clips and views per second, and the fraction of time spent waiting for data, since the last
        call.
        """
        now, wait = time.perf_counter(), self.loader.wait_seconds
        seconds = max(now - self._time, 1e-9)
        row = {
            "seconds": seconds,
            "clips_per_second": (step - self._step) * self.batch_size / seconds,
            "loader_wait": (wait - self._wait) / seconds,
            "time": time.time(),
        }
        if self.views > 1:
            row["views_per_second"] = row["clips_per_second"] * self.views
        self._time, self._wait, self._step = now, wait, step
        return row


@contextmanager
def graceful_shutdown() -> Iterator[Callable[[], Stop]]:
    """Let the loop finish its step after Ctrl-C, SIGHUP, SIGTERM or SIGUSR1.

    A second Ctrl-C or SIGHUP interrupts at once. Batch systems send several signals, so SIGTERM and SIGUSR1 do not.

    Yields
    ------
    callable
        Returns which kind of signal was received.
    """
    requested = Stop.NO

    def ask(number: int, frame: object) -> None:
        nonlocal requested
        if requested and number not in REQUEUED:
            raise KeyboardInterrupt
        requested = max(requested, Stop.REQUEUE if number in REQUEUED else Stop.INTERRUPT)

    if threading.current_thread() is not threading.main_thread():
        yield lambda: Stop.NO
        return
    before = {number: signal.signal(number, ask) for number in STOPPING}
    try:
        yield lambda: requested
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
