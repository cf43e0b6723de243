"""Entry point of the command line: run a command, and convert errors to messages and exit codes."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence
from contextlib import nullcontext

from cyclopts import CycloptsError

from unheard.cli import (
    checking,
    data,
    debugging,
    embedding,
    evaluating,
    exporting,
    importing,
    models,
    predicting,
    runs,
    searching,
    serving,
    storing,
    training,
    viewing,
)
from unheard.cli.shell import (
    DONE,
    INTERRUPTED,
    REQUEUE,
    USER_ERROR,
    Requeued,
    app,
    log,
    restored_signals,
    showing_warnings,
)
from unheard.errors import UnheardError, shown

__all__ = ["VERBS", "main"]

VERBS = (
    data,
    importing,
    storing,
    training,
    embedding,
    searching,
    predicting,
    evaluating,
    viewing,
    runs,
    serving,
    models,
    checking,
    exporting,
    debugging,
)
"""Modules that register their commands on import."""

BROKEN_PIPE = 141  # 128 + SIGPIPE: the reader of stdout was closed, as in `unheard recipes | head -1`


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Unexpected errors keep their traceback.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments without the program name; default: those of the process.

    Returns
    -------
    int
        Exit code, see `unheard.cli.shell`.
    """
    if argv is None:
        _own_output()
    given = sys.argv[1:] if argv is None else list(argv)
    # the standard input, which would be read as an option; see `unheard.audio.standard_input`, which is slow to import
    arguments = [f"./{each}" if each == "-" or each.startswith("-@") else each for each in given]
    try:
        with showing_warnings(), nullcontext() if argv is None else restored_signals():
            code = app(arguments, exit_on_error=False, print_error=False, result_action="return_value")
        return DONE if code is None else int(code)
    except CycloptsError as error:
        words = " ".join(("unheard", *(error.command_chain or ())))
        return _refuse(f"{error} See: {words} --help")
    except UnheardError as error:
        return _refuse(str(error))
    except Requeued:
        log("unheard: stopped by a signal of the system; start the same command again")
        return REQUEUE
    except KeyboardInterrupt:
        log("unheard: interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # otherwise the flush at exit fails, too
        return BROKEN_PIPE
    except (MemoryError, RuntimeError, OSError) as error:
        if (message := _message(error)) is None:
            raise
        return _refuse(message)


def _message(error: MemoryError | RuntimeError | OSError) -> str | None:
    """Return the line for an error of the system; None for a fault of this program."""
    if isinstance(error, OSError):
        place = f"{shown(error.filename)}: " if error.filename is not None else ""
        advice = "; free some space, or choose another folder" if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
        return None if error.errno is None else f"{place}{error.strerror}{advice}"
    if not _lacks_memory(error):
        return None
    return (
        f"too little memory: {error}; use smaller batches (--batch-size of embed, pretrain and finetune;"
        " training.accumulate keeps the size of a step), fewer --processes, or --device cpu"
    )


def _lacks_memory(error: MemoryError | RuntimeError) -> bool:
    """Return whether memory of the CPU or of a GPU could not be allocated; PyTorch has no class for the CPU."""
    known = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return known or "DefaultCPUAllocator" in str(error)


def _own_output() -> None:
    """Reserve stdout for results, and escape characters that the encoding of the terminal does not support.

    C libraries print messages on file descriptor 1, which would corrupt a JSON document. That descriptor is redirected
    to stderr, and results are written to a copy of the original stdout.
    """
    if hasattr(sys.stderr, "reconfigure"):
        sys.stderr.reconfigure(errors="backslashreplace")
    try:
        results = os.fdopen(os.dup(1), "w", encoding=sys.stdout.encoding, errors="backslashreplace")
        os.dup2(2, 1)
    except (OSError, ValueError, AttributeError):  # stdout or stderr is closed
        return
    sys.stdout = results


def _refuse(message: str) -> int:
    """Print an error as one line."""
    log(f"unheard: {' '.join(message.split())}")
    return USER_ERROR
