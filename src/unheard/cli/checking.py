"""``unheard doctor``: checks of the installation and of encoders."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from unheard.addresses import named
from unheard.cli.shell import ADDRESS, DONE, FAILED, Device, Json, Overwrite, emit, table, verb
from unheard.errors import ConfigError


@verb("unheard doctor --model runs/first -o card.html")
def doctor(
    *,
    model: str | None = None,
    out: Annotated[
        Path | None,
        Parameter(
            name=["--out", "-o"],
            help=f"With --model: page to write, .html. Must not exist, unless --overwrite is given. {ADDRESS}",
        ),
    ] = None,
    device: Annotated[
        Device | None,
        Parameter(name="--device", help="With --model: device for computation. Default: auto, the fastest one."),
    ] = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> int:
    """Check this installation, or with --model an encoder of any kind.

    Without --model: versions, device, readable formats, extras, and a quick self-test. With --model: a report card from
    generated sounds, about the vectors, times, input, speed and memory of the encoder. The exit code is 1 if a check
    fails.

    Parameters
    ----------
    model
        A run, a model folder, a built-in name, hf:DIR, hear:MODULE or xares:MODULE.
    """
    if model is None:
        for name, given in (("--out", out), ("--device", device), ("--overwrite", overwrite or None)):
            if given is not None:
                raise ConfigError(f"{name} has no effect without --model; name an encoder with --model, or omit {name}")
        return _installation(json)
    if overwrite and out is None:
        raise ConfigError("--overwrite has no effect without -o; give -o PAGE.html, or omit --overwrite")
    return _encoder(model, out, device or "auto", overwrite, json)


def _installation(json: bool) -> int:
    from unheard.cli.doctor import examine

    health = examine()
    emit(health.lines(), health.to_json(), json)
    return DONE if health.well else FAILED


def _encoder(model: str, out: Path | None, device: Device, overwrite: bool, json: bool) -> int:
    from unheard import api
    from unheard.progress import bar

    card = api.doctor(model, out, device=device, overwrite=overwrite, track=bar)
    rows = [(check.name, check.state, check.number, check.meaning) for check in card.checks]
    lines = [*table(("check", "state", "number", "meaning"), rows), card.summary]
    if out is not None:
        lines.append(f"page: {named(out)}")
    emit(lines, {**card.to_json(), "out": None if out is None else named(out)}, json)
    return DONE if card.passed else FAILED
