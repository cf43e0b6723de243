"""Failures of single tasks and encoders: one line each, and a file with the traceback of unexpected errors."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from unheard.errors import ModelError, UnheardError
from unheard.evaluation.report import Report
from unheard.files import write_text

FAILURES = "failures"  # folder of tracebacks


@contextmanager
def report_failure(report: Report, task: str, encoder: str, folder: Path, log: Callable[[str], None]) -> Iterator[None]:
    """Report an exception of the block in one line and continue; write unexpected tracebacks to ``folder``."""
    called = ", ".join(filter(None, (task, encoder)))
    trace = folder / f"{called.replace('/', '_')}.txt"
    with suppress(OSError, ValueError):
        trace.unlink(missing_ok=True)
    try:
        yield
    except Exception as error:  # the other tasks and encoders continue
        foreseen = isinstance(error, UnheardError)
        text = (
            str(error)
            if foreseen
            else f"failed unexpectedly with {type(error).__name__}: {' '.join(str(error).split())}"
        )
        report.failed.append((task, encoder, text))
        where = "" if foreseen and not isinstance(error, ModelError) else _traced(error, trace)
        log(f"{called}{' failed:' if foreseen else ''} {text}{where}")


def _traced(error: Exception, file: Path) -> str:
    """Write a traceback, if possible. Return a hint on where it is."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_text(file, "".join(traceback.format_exception(error)))
    except (OSError, ValueError) as second:
        return f" (its traceback could not be written to {file}: {second})"
    return f"; see {file}"
