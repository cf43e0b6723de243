"""Running verbs in processes of their own that can be killed, limited and measured; forked, so that nothing is imported
twice.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

CRASHED = 99
"""Exit code of a process that ended with a traceback."""


@dataclass(frozen=True)
class Ended:
    """How a process ended: its exit code or minus its signal, seconds, largest memory in MB, and what it printed."""

    code: int
    seconds: float
    megabytes: float
    text: str


def start(work: Callable[[], int | None], log: Path, memory: int | None = None) -> int:
    """Fork a process that does some work and ends with its result. Return its id."""
    sys.stdout.flush()
    child = os.fork()
    if child:
        return child
    code = CRASHED
    try:
        os.setsid()
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(output, 1)
        os.dup2(output, 2)
        sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
        if memory is not None:
            resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
        code = work() or 0
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def wait(child: int, log: Path, began: float, limit: float = 120.0) -> Ended:
    """Wait for a process, and kill it after ``limit`` seconds."""
    while True:
        ended, status, used = os.wait4(child, os.WNOHANG)
        seconds = time.monotonic() - began
        if ended:
            return Ended(
                os.waitstatus_to_exitcode(status), seconds, used.ru_maxrss / 1024, log.read_text(errors="replace")
            )
        if seconds > limit:
            kill(child)
        time.sleep(0.005)


def kill(child: int, with_signal: int = signal.SIGKILL) -> None:
    """Send a signal to a process and all it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, with_signal)


def run(work: Callable[[], int | None], log: Path, limit: float = 120.0, memory: int | None = None) -> Ended:
    """Do some work in a process of its own and wait for it."""
    began = time.monotonic()
    return wait(start(work, log, memory), log, began, limit)


def verb(arguments: Sequence[object]) -> Callable[[], int]:
    """One call of the command line."""

    def call() -> int:
        import torch

        from unheard.cli import main

        torch.set_num_threads(1)
        return main([str(each) for each in arguments])

    return call
