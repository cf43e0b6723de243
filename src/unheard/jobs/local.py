"""Workers that are processes of this machine."""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import suppress
from multiprocessing import connection, get_context, parent_process
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import NoReturn

from unheard.jobs.plan import Outcome, Task
from unheard.jobs.session import Failure, Lost, Session, Work
from unheard.read_ahead import core_count

STOP_SECONDS = 20.0
"""Time in which a worker stores what it has, before it is killed (our choice)."""


class LocalWorkers:
    """Processes of this machine, each with its share of the cores. A lost one is replaced.

    A process is started with its first task (``spawn``), so a script that uses this needs the usual
    ``if __name__ == "__main__":``. It ends with the process that started it, for whatever reason.

    Parameters
    ----------
    work : Work
    size : int
        Number of processes.
    """

    def __init__(self, work: Work, size: int) -> None:
        self.size, self._work = size, work
        self._threads, self._context = max(1, core_count() // size), get_context("spawn")
        self._free = list(range(size))
        self._idle: list[tuple[int, BaseProcess, Connection]] = []
        self._busy: dict[Connection, tuple[int, BaseProcess, Task]] = {}

    def give(self, task: Task) -> None:
        """Send a task to an idle process, or to a new one."""
        while self._idle:
            number, process, pipe = self._idle.pop()
            with suppress(OSError):
                if process.is_alive():
                    pipe.send(task)
                    self._busy[pipe] = number, process, task
                    return
            pipe.close()  # it was killed while it was idle
            self._free.append(number)
        number = self._free.pop(0)
        pipe, other = self._context.Pipe()
        process = self._context.Process(
            target=_serve, args=(other, Session(self._work, number, self._threads, str(Path.cwd()))), daemon=False
        )
        process.start()
        other.close()  # so that the pipe ends with the process
        with suppress(OSError):  # it has ended already, which `wait` reports
            pipe.send(task)
        self._busy[pipe] = number, process, task

    def wait(self) -> tuple[Task, Outcome | Failure | Lost]:
        """Wait until a process has done its task, or ended."""
        pipe = connection.wait(list(self._busy))[0]
        assert isinstance(pipe, Connection), "only pipes are waited for"
        number, process, task = self._busy.pop(pipe)
        try:
            result: Outcome | Failure = pipe.recv()
        except (EOFError, OSError):
            process.join()
            pipe.close()
            self._free.append(number)
            return task, Lost(_reason(process.exitcode or 0))
        self._idle.append((number, process, pipe))
        return task, result

    def close(self) -> None:
        """End all processes; one that is in a task stores its rows."""
        processes = [process for _, process, _ in (*self._idle, *self._busy.values())]
        for process in processes:
            process.terminate()
        for process in processes:
            process.join(STOP_SECONDS)
            if process.is_alive():
                process.kill()
                process.join()
        for pipe in (*(pipe for *_, pipe in self._idle), *self._busy):
            pipe.close()
        self._idle, self._busy = [], {}


def _reason(code: int) -> str:
    if code >= 0:
        return f"its process ended with status {code}"
    with suppress(ValueError):
        return f"its process was ended by signal {-code} ({signal.Signals(-code).name})"
    return f"its process was ended by signal {-code}"


def _serve(pipe: Connection, session: Session) -> None:
    """Do tasks until the pipe ends; SIGTERM stops a task and stores its rows."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the first process ends the others
    signal.signal(signal.SIGTERM, _interrupt)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with suppress(EOFError, KeyboardInterrupt):
        while True:
            pipe.send(session.do(pipe.recv()))


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def _end_with_parent() -> None:
    """End this process when the one that started it ended; a task stores its rows before."""
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(STOP_SECONDS)
        os._exit(1)
