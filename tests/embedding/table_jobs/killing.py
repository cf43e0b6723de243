"""Work in which workers are killed at a file, once each."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path

from unheard.audio import decode
from unheard.embedding import tables
from unheard.embedding.table_jobs.work import EmbedWork
from unheard.jobs.session import Do


@dataclass(frozen=True)
class KillingWork:
    """`EmbedWork` whose process is killed while it reads one of ``names``; ``place`` records each.

    ``parent``: the process that started it is killed instead.
    """

    work: EmbedWork
    names: tuple[str, ...]
    place: Path
    parent: bool = False

    @property
    def advice(self) -> str:
        return self.work.advice

    @property
    def shared(self) -> tuple[str, ...]:
        return self.work.shared

    def open(self, worker: int, threads: int) -> Do:
        begin = decode._Sndfile._next
        tables.PART_SECONDS = 0.0  # every row is a part on disk at once

        def read(sound: decode._Sndfile, count: int):
            name = Path(str(sound.path)).name
            if name in self.names and not (self.place / f"killed-{name}").exists():
                (self.place / f"killed-{name}").touch()
                os.kill(os.getppid() if self.parent else os.getpid(), signal.SIGKILL)
            return begin(sound, count)

        decode._Sndfile._next = read  # type: ignore[method-assign]
        return self.work.open(worker, threads)
