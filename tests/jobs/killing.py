"""Work in which a worker is killed in a task, once."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path

from unheard.jobs.session import Do, Work


@dataclass(frozen=True)
class KillingWork:
    """Work whose process is killed after it has written the part of task ``number``, before the outcome.

    ``parent``: the process that started it is killed instead.
    """

    work: Work
    place: Path
    number: int = 2
    parent: bool = False

    @property
    def advice(self) -> str:
        return self.work.advice

    @property
    def shared(self) -> tuple[str, ...]:
        return self.work.shared

    def open(self, worker: int, threads: int) -> Do:
        do = self.work.open(worker, threads)

        def killing(task):
            outcome = do(task)
            if task.number == self.number and not (self.place / "killed").exists():
                (self.place / "killed").touch()
                os.kill(os.getppid() if self.parent else os.getpid(), signal.SIGKILL)
            return outcome

        return killing
