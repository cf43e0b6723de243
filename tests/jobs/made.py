"""A made job: a part is a text file with the names of its items."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from unheard.errors import AudioError, warn_audio
from unheard.jobs.plan import Outcome, Task
from unheard.jobs.session import Do


@dataclass(frozen=True)
class MadeWork:
    """Writes the names of its items; some names do something else.

    kill: the process is killed, as often as the folder has no file that counts it. fail: an error. warn: a warning.
    slow: takes a minute.
    """

    place: Path
    kills: int = 1

    @property
    def advice(self) -> str:
        return "give less"

    @property
    def shared(self) -> tuple[str, ...]:
        return ()

    def open(self, worker: int, threads: int) -> Do:
        (self.place / f"worker-{os.getpid()}").write_text(f"{worker} {threads}")
        return self.do

    def do(self, task: Task) -> Outcome:
        for item in task.items:
            self._act(item)
        task.part.with_suffix(".txt").write_text("\n".join(task.items))
        return Outcome(task.number, len(task.items), 0, len(task.items))

    def _act(self, item: str) -> None:
        if item == "kill" and len(list(self.place.glob("killed-*"))) < self.kills:
            (self.place / f"killed-{os.getpid()}").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if item == "fail":
            raise AudioError("fail: it is no sound; convert it")
        if item == "bug":
            raise ZeroDivisionError("a bug")
        if item == "warn":
            warn_audio("warn: it is truncated")
        if item == "slow":
            (self.place / "slow").touch()
            time.sleep(60)
