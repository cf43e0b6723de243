"""What every verb shares: the application, options that mean the same everywhere, and how results are told.

Exit codes: 0 done; 1 done, but items failed and ``--strict`` was given; 2 the user's error; 130 interrupted.
Results go to stdout, progress and remarks to stderr. With ``--json`` stdout holds one JSON document and nothing else.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias, TypeVar

from cyclopts import App, Parameter

from unheard.errors import ConfigError, shown
from unheard.version import __version__

DONE, FAILED, USER_ERROR, INTERRUPTED = 0, 1, 2, 130

Verb = TypeVar("Verb", bound=Callable[..., int])
Device = Literal["auto", "cpu", "cuda", "mps"]
Out: TypeAlias = Annotated[Path, Parameter(name=["--out", "-o"], help="What to write; an existing one is refused.")]
Overwrite: TypeAlias = Annotated[bool, Parameter(name="--overwrite", help="Replace what is there.")]
Json: TypeAlias = Annotated[bool, Parameter(name="--json", help="Print one JSON document on stdout.")]
Strict: TypeAlias = Annotated[
    bool, Parameter(name="--strict", help="Exit with 1 when files were skipped or found faulty.")
]
DeviceOption: TypeAlias = Annotated[
    Device, Parameter(name="--device", help="Where to compute; auto takes the fastest there is.")
]
Settings: TypeAlias = Annotated[
    tuple[str, ...], Parameter(name="--set", help="SECTION.KEY=VALUE, any field of the configuration; may be repeated.")
]


def _shown(default: Any) -> str | None:
    """Defaults worth showing: a flag that is off and an option that is left out say nothing."""
    return None if default is False or default in (None, ()) else str(default)


_PARAMETER = Parameter(negative=(), show_default=_shown)
app = App(
    name="unheard",
    help="Learn audio representations by hiding most of a spectrogram and predicting what was not heard.",
    version=__version__,
    suppress_keyboard_interrupt=False,
    help_format="plaintext",
    default_parameter=_PARAMETER,
    help_epilogue="Example:\n  unheard pretrain my_audio/ -o runs/first",
)
data = App(
    name="data",
    help="Look at, generate, fetch, label and pack corpora.",
    help_epilogue="Example:\n  unheard data generate -o sounds/",
)
app.command(data)


def verb(example: str, group: App = app) -> Callable[[Verb], Verb]:
    """Make a function a verb whose help ends with ``example``."""
    return lambda function: group.command(function, help_epilogue=f"Example:\n  {example}")


def allow_code(recipe: str, no_code: bool) -> None:
    """Print that a recipe is a program, which is run.

    Raises
    ------
    ConfigError
        When ``--no-code`` was given and the recipe is a program.
    """
    if not recipe.endswith(".py"):
        return
    if no_code:
        raise ConfigError(f"{recipe} is a program, and --no-code refuses to run it; give a name of unheard recipes")
    log(f"the recipe {recipe} is a program, and is run")


def log(text: str) -> None:
    """Tell a person something beside the result."""
    print("\n".join(map(shown, text.split("\n"))), file=sys.stderr, flush=True)


warned: dict[str, None] = {}
"""Warnings of this run, each once, in the order they came."""


@contextmanager
def showing_warnings() -> Iterator[None]:
    """Print every `AudioWarning` and `DamageWarning` once, as one line on stderr, and keep it for the JSON document."""
    import warnings

    from unheard.errors import AudioWarning, DamageWarning

    warned.clear()
    with warnings.catch_warnings():
        show = warnings.showwarning

        def one_line(message: Warning | str, category: type[Warning], *rest: Any, **more: Any) -> None:
            if not issubclass(category, AudioWarning | DamageWarning):
                show(message, category, *rest, **more)
            elif str(message) not in warned:
                warned[str(message)] = None
                log(f"warning: {message}")

        warnings.simplefilter("always", AudioWarning)
        warnings.simplefilter("always", DamageWarning)
        warnings.showwarning = one_line
        yield


def emit(lines: Iterable[str], values: Mapping[str, Any] | list[Any], json: bool) -> None:
    """Print the result: ``values`` as JSON, with the warnings that came on the way, or ``lines`` for people."""
    if json:
        from json import dumps

        if warned and isinstance(values, Mapping):
            values = {**values, "warnings": list(warned)}
        print(dumps(values, indent=2, default=str), flush=True)
    else:
        print(
            "\n".join(shown(line) for text in lines for line in text.split("\n")), flush=True
        )  # a full disk or a closed pipe should show here, not at exit


def table(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    """Rows in aligned columns."""
    cells = [header, *rows]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    return ["  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]


def status(failed: int, strict: bool) -> int:
    """The exit code of a verb that skipped or faulted ``failed`` items."""
    return FAILED if failed and strict else DONE


def torch_device(name: Device) -> str:
    """The device a name stands for; training asks Lightning Fabric instead, which is slow to import.

    Raises
    ------
    ConfigError
        When this machine has no such device.
    """
    import torch

    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    usable = [device for device, available in there.items() if available]
    if name != "auto" and name not in usable:
        raise ConfigError(f"device {name!r} is not available here; usable: auto, {', '.join(usable)}")
    return usable[0] if name == "auto" else name
