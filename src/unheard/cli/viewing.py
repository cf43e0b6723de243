"""``unheard reconstruct``, ``attention`` and ``report``: see what a model does."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from unheard.cli.shell import DONE, DeviceOption, Json, Out, Overwrite, emit, torch_device, verb
from unheard.errors import ConfigError


@Parameter(name="*")
@dataclass(frozen=True)
class MaskOptions:
    """What is hidden from the model.

    Parameters
    ----------
    mask
        Single patches, every other time column, frequency row or patch, or random rows and columns (structured).
    mask_ratio
        Share that is hidden; default that of the training.
    start
        Second at which the window begins.
    seed
        Seed of the mask.
    wav
        Also write what the picture sounds like.
    """

    mask: Literal["random", "vertical", "horizontal", "chessboard", "structured"] = "random"
    mask_ratio: float | None = None
    start: float = 0.0
    seed: int = 0
    wav: Path | None = None


@verb("unheard reconstruct runs/first dog.wav -o dog.png --mask-ratio 0.75")
def reconstruct(
    model: str,
    audio: Path,
    /,
    *,
    out: Out,
    hide: MaskOptions = MaskOptions(),
    device: DeviceOption = "auto",
    overwrite: Overwrite = False,
    json: Json = False,
) -> int:
    """Draw a sound, its reconstruction from the visible patches, and the error; print the error beside simple fill-ins.

    Parameters
    ----------
    model
        A run or a model folder with its decoder.
    audio
        One sound file.
    """
    from unheard import api

    error = api.reconstruct(api.load(model, torch_device(device)), audio, out, **vars(hide), overwrite=overwrite)
    emit([error.line(), f"figure: {out}"], {"out": str(out), **asdict(error)}, json)
    return DONE


@verb("unheard attention runs/first dog.wav -o attention.png --at 2,5")
def attention(
    model: str,
    audio: Path,
    /,
    *,
    out: Out,
    at: Annotated[
        tuple[str, ...],
        Parameter(help="FREQ,TIME: index of a patch, from the lowest band and the first; may be repeated."),
    ] = (),
    start: float = 0.0,
    device: DeviceOption = "auto",
    overwrite: Overwrite = False,
    json: Json = False,
) -> int:
    """Draw where patches of a sound look: the attention of the last layer, averaged over its heads.

    Parameters
    ----------
    model
        A run, a model folder, or a built-in name such as random-tiny.
    audio
        One sound file.
    start
        Second at which the window begins.
    """
    from unheard import api

    places = [_place(text) for text in at] or None
    api.attention(api.load(model, torch_device(device)), audio, out, at=places, start=start, overwrite=overwrite)
    emit([f"figure: {out}"], {"out": str(out)}, json)
    return DONE


@verb("unheard report runs/first")
def report(run: Path, /, *, json: Json = False) -> int:
    """Write the page of a run: its settings, curves, figures and measurements in one HTML file; or that of a probe
    again.

    Parameters
    ----------
    run
        A run folder, or a folder that unheard probe wrote.
    """
    from unheard import api

    page = api.report(run)
    emit([f"report: {page}"], {"report": str(page)}, json)
    return DONE


def _place(text: str) -> tuple[int, int]:
    """A patch given as ``FREQ,TIME``."""
    found = re.fullmatch(r"\s*(\d+)\s*,\s*(\d+)\s*", text)
    if found is None:
        raise ConfigError(f"--at names a patch as FREQ,TIME, two whole numbers from 0 such as --at 2,5; got {text!r}")
    return int(found[1]), int(found[2])
