"""From arguments to an exit code: the verbs by name, and one clear line for every error a user can make."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence

from cyclopts import CycloptsError

from unheard.cli import data, embedding, evaluating, models, predicting, training, viewing
from unheard.cli.shell import DONE, INTERRUPTED, USER_ERROR, app, log, showing_warnings
from unheard.errors import UnheardError, shown

__all__ = ["VERBS", "main"]

VERBS = (data, training, embedding, predicting, evaluating, viewing, models)
"""Modules whose import adds their verbs to the application."""

BROKEN_PIPE = 141  # 128 + SIGPIPE: the reader of our output went away, as in `unheard recipes | head -1`


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments without the program's name; default those of the process.

    Returns
    -------
    int
        The exit code, see `unheard.cli.shell`. What is neither the user's error nor the system's refusal keeps its
        traceback.
    """
    if argv is None:
        _own_output()
    arguments = sys.argv[1:] if argv is None else list(argv)
    try:
        with showing_warnings():
            code = app(arguments, exit_on_error=False, print_error=False, result_action="return_value")
        return DONE if code is None else int(code)
    except CycloptsError as error:
        words = " ".join(("unheard", *(error.command_chain or ())))
        return _refuse(f"{error} See: {words} --help")
    except UnheardError as error:
        return _refuse(str(error))
    except KeyboardInterrupt:
        log("unheard: interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the flush at exit fails, too
        return BROKEN_PIPE
    except OSError as error:
        if error.errno is None:
            raise
        place = f"{shown(error.filename)}: " if error.filename is not None else ""
        advice = "; make room, or choose another place" if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
        return _refuse(f"{place}{error.strerror}{advice}")


def _own_output() -> None:
    """Keep stdout for results alone, and let no name stop the program.

    Libraries that are written in C print remarks on the process's standard output, which would stand before a JSON
    document: from here on that is standard error, and results go to a copy of what was standard output. What a
    terminal's encoding lacks is escaped.
    """
    if hasattr(sys.stderr, "reconfigure"):
        sys.stderr.reconfigure(errors="backslashreplace")
    try:
        results = os.fdopen(os.dup(1), "w", encoding=sys.stdout.encoding, errors="backslashreplace")
        os.dup2(2, 1)
    except (OSError, ValueError, AttributeError):  # there is no standard output or error
        return
    sys.stdout = results


def _refuse(message: str) -> int:
    """Print an error as one line."""
    log(f"unheard: {' '.join(message.split())}")
    return USER_ERROR
