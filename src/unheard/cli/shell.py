"""Common parts of all commands: the application, shared options, and output of results.

Exit codes: 0 success; 1 items failed and ``--strict`` was given; 2 invalid input; 75 stopped by a batch system, to be
started again; 130 interrupted.
Results go to stdout; progress and messages go to stderr. With ``--json``, stdout holds one JSON document only.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias, TypeVar

from cyclopts import App, Parameter

from unheard.addresses import named
from unheard.api.options import SpreadOptions
from unheard.errors import shown
from unheard.version import __version__

if TYPE_CHECKING:
    from unheard.jobs.estimate import Estimate
    from unheard.jobs.running import TaskReport

DONE, FAILED, USER_ERROR, REQUEUE, INTERRUPTED = 0, 1, 2, 75, 130

Verb = TypeVar("Verb", bound=Callable[..., int])
Device = Literal["auto", "cpu", "cuda", "mps"]
ADDRESS = "May be at an address such as s3://BUCKET/NAME."
"""End of the help of an output."""
_NEW, _GROWING = "Must not exist, unless --overwrite is given.", "Folder to write. A partly written one is completed."
Out: TypeAlias = Annotated[
    Path,
    Parameter(name=["--out", "-o"], help=f"Output file or folder. {_NEW} {ADDRESS}"),
]
ResumableOut: TypeAlias = Annotated[
    Path,
    Parameter(
        name=["--out", "-o"],
        help=f"Output file or folder. Must not exist, unless --overwrite or --resume is given. {ADDRESS}",
    ),
]
GrowingOut: TypeAlias = Annotated[Path, Parameter(name=["--out", "-o"], help=f"{_GROWING} {ADDRESS}")]
LocalGrowingOut: TypeAlias = Annotated[Path, Parameter(name=["--out", "-o"], help=_GROWING)]
Overwrite: TypeAlias = Annotated[bool, Parameter(name="--overwrite", help="Replace an existing output.")]
Resume: TypeAlias = Annotated[bool, Parameter(name="--resume", help="Continue an interrupted job.")]
Continue: TypeAlias = Annotated[
    bool,
    Parameter(
        name="--resume", help="Continue an interrupted job; a partly written folder is completed without it, too."
    ),
]
Json: TypeAlias = Annotated[bool, Parameter(name="--json", help="Print one JSON document on stdout.")]
Strict: TypeAlias = Annotated[
    bool, Parameter(name="--strict", help="Exit with status 1 if any file was skipped or failed a check.")
]
DeviceOption: TypeAlias = Annotated[
    Device, Parameter(name="--device", help="Device for computation; auto selects the fastest one.")
]
Settings: TypeAlias = Annotated[
    tuple[str, ...],
    Parameter(name="--set", help="Set a field of the configuration, as SECTION.KEY=VALUE; may be repeated."),
]


def _shown(default: Any) -> str | None:
    """Format a default for the help text; None hides defaults that carry no information."""
    return None if default is False or default in (None, ()) else str(default)


Flat = Parameter(name="*")
"""Marks a dataclass of options: each field is a flag of its own."""


@dataclass(frozen=True)
class JobOptions:
    """How the job is spread over processes, and whether it is only planned.

    Parameters
    ----------
    plan
        Process a sample of at most 64 sounds, print what the whole job will need, and write nothing.
    """

    spread: Annotated[SpreadOptions, Flat] = field(default_factory=SpreadOptions)
    plan: bool = False


_PARAMETER = Parameter(negative=(), show_default=_shown)
app = App(
    name="unheard",
    help="Learn audio representations by masking most of a spectrogram and predicting the masked patches.",
    version=__version__,
    suppress_keyboard_interrupt=False,
    help_format="plaintext",
    default_parameter=_PARAMETER,
    help_epilogue="Example:\n  unheard pretrain my_audio/ -o runs/first",
)
data = App(
    name="data",
    help="Check, generate, fetch, label and pack corpora.",
    help_epilogue="Example:\n  unheard data generate -o sounds/",
)
app.command(data)


def verb(example: str, group: App = app) -> Callable[[Verb], Verb]:
    """Register a function as a command whose help ends with ``example``."""
    return lambda function: group.command(function, help_epilogue=f"Example:\n  {example}")


def allow_code(recipe: str, no_code: bool) -> None:
    """Print a message if a recipe is a Python file, which is executed.

    Raises
    ------
    ConfigError
        When ``--no-code`` was given and the recipe is a Python file.
    """
    from unheard.recipes.file import refuse_code

    if no_code:
        refuse_code(recipe)
    elif recipe.endswith(".py"):
        log(f"the recipe {recipe} is a Python file and is executed")


class Requeued(KeyboardInterrupt):
    """A batch system stopped the command, which can be started again."""


@contextmanager
def requeued_on_signals() -> Iterator[Callable[[], None]]:
    """Raise `Requeued` on the first SIGTERM or SIGUSR1, and ignore all later ones: the command is ending.

    They stay ignored until the process ends, or until `restored_signals` does.

    Yields
    ------
    callable
        To be called when a run has stopped for a signal, which it handles itself while it trains.
    """
    import signal
    import threading

    ending = False

    def end() -> None:
        nonlocal ending
        ending = True

    def stop(number: int, frame: object) -> None:
        if not ending:
            end()
            raise Requeued

    if threading.current_thread() is not threading.main_thread():
        yield end
        return
    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGUSR1)}
    try:
        yield end
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_IGN if ending else handler)


@contextmanager
def restored_signals() -> Iterator[None]:
    """Restore the handlers of SIGTERM and SIGUSR1 at the end, for a command that is called in a process of others."""
    import signal
    import threading

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def log(text: str) -> None:
    """Print a message on stderr."""
    print("\n".join(map(shown, text.split("\n"))), file=sys.stderr, flush=True)


LIKE = 5
"""Warnings of one kind that are printed; our choice."""
warned: dict[str, None] = {}
"""Warnings of this run, each once, in order."""


@contextmanager
def showing_warnings() -> Iterator[None]:
    """Print warnings of this library on stderr, each once, and store them for the JSON document.

    Of warnings that differ only in the file and in numbers, the first `LIKE` are printed, and the number of the others.
    """
    import warnings

    from unheard.errors import AudioWarning, DamageWarning, JobWarning

    warned.clear()
    alike: Counter[str] = Counter()
    with warnings.catch_warnings():
        show = warnings.showwarning

        def one_line(message: Warning | str, category: type[Warning], *rest: Any, **more: Any) -> None:
            if not issubclass(category, AudioWarning | DamageWarning | JobWarning):
                show(message, category, *rest, **more)
            elif str(message) not in warned:
                warned[str(message)] = None
                kind = re.sub(r"\d+", "N", str(message).partition(": ")[2])
                alike[kind] += 1
                if not kind or category is not AudioWarning or alike[kind] <= LIKE:
                    log(f"warning: {message}")

        warnings.simplefilter("always", AudioWarning)
        warnings.simplefilter("always", DamageWarning)
        warnings.simplefilter("always", JobWarning)
        warnings.showwarning = one_line
        try:
            yield
        finally:
            for kind, count in alike.items():
                if kind and count > LIKE:
                    log(f"warning: {count - LIKE} more files: {kind}")


def emit(lines: Iterable[str], values: Mapping[str, Any] | list[Any], json: bool) -> None:
    """Print the result on stdout: ``values`` and all warnings as JSON, or ``lines`` as text."""
    if json:
        from json import dumps

        if warned and isinstance(values, Mapping):
            values = {**values, "warnings": list(warned)}
        print(dumps(values, indent=2, default=str), flush=True)
    else:
        # flush, so that a full disk or a closed pipe raises here and not at exit
        print("\n".join(shown(line) for text in lines for line in text.split("\n")), flush=True)


def table(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    """Format rows in aligned columns."""
    cells = [header, *rows]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    return ["  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]


def status(failed: int, strict: bool) -> int:
    """Return the exit code of a command in which ``failed`` items were skipped or failed."""
    return FAILED if failed and strict else DONE


def planned(found: Estimate, json: bool) -> int:
    """Print what a job will need."""
    emit(found.lines(), asdict(found), json)
    return DONE


def one_task(report: TaskReport, out: Path, done: str, json: bool, strict: bool) -> int:
    """Print what one task of an array did, while others are missing; ``done``: such as clips packed."""
    outcome = report.outcome
    lines = [
        *(f"skipped {path}: {reason}" for path, reason in outcome.skipped),
        f"{outcome.done} {done}, {outcome.resumed} already done, {len(outcome.skipped)} skipped; {named(out)} waits for"
        f" {report.waits_for}",
    ]
    values = {
        "out": named(out),
        "done": outcome.done,
        "resumed": outcome.resumed,
        "skipped": [{"path": path, "reason": reason} for path, reason in outcome.skipped],
        "waits_for": report.waits_for,
    }
    emit(lines, values, json)
    return status(len(outcome.skipped), strict)
