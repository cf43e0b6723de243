"""``unheard reconstruct``, ``attention`` and ``report``: figures and reports."""

from __future__ import annotations

import re
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from unheard.addresses import named
from unheard.api.options import FigureOptions, ReconstructOptions
from unheard.cli.shell import DONE, DeviceOption, Flat, Json, Out, Overwrite, emit, verb
from unheard.errors import ConfigError


@verb("unheard reconstruct runs/first dog.wav -o dog.png --mask-ratio 0.75")
def reconstruct(
    model: str,
    audio: Path,
    /,
    *,
    out: Out,
    options: Annotated[ReconstructOptions, Flat] = ReconstructOptions(),
    device: DeviceOption = "auto",
    overwrite: Overwrite = False,
    json: Json = False,
) -> int:
    """Plot a spectrogram, its reconstruction from the visible patches, and the error.

    The error on masked patches is printed and compared with interpolation baselines.

    Parameters
    ----------
    model
        A run or a model folder with its decoder.
    audio
        One sound file.
    """
    from unheard import api

    loaded = api.load(model, device)
    error = api.reconstruct(loaded, audio, out, **vars(options), overwrite=overwrite)
    lines = [error.line(), f"figure: {named(out)}"]
    if options.sounds is not None:
        lines.append(f"sounds: {named(options.sounds)}, from {options.start:g} s on, 120 s at most")
    emit(lines, {"out": named(out), **asdict(error)}, json)
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
        Parameter(help="FREQ,TIME: indices of a reference patch, from the lowest band and the start; may be repeated."),
    ] = (),
    start: float = 0.0,
    device: DeviceOption = "auto",
    overwrite: Overwrite = False,
    json: Json = False,
) -> int:
    """Plot the attention of the last layer for reference patches, averaged over the heads.

    Parameters
    ----------
    model
        A run, a model folder, or a built-in name such as random-tiny.
    audio
        One sound file.
    start
        Start of the window in seconds.
    """
    from unheard import api

    patches = [_patch_index(text) for text in at] or None
    api.attention(api.load(model, device), audio, out, at=patches, start=start, overwrite=overwrite)
    emit([f"figure: {named(out)}"], {"out": named(out)}, json)
    return DONE


@verb("unheard figure ratios runs/first dog.wav bird.wav -o ratios.pdf")
def figure(
    kind: Literal["masks", "ratios", "strips", "attention", "durations", "patches"],
    /,
    *given: Annotated[str, Parameter(name="MODEL... AUDIO...")],
    out: Out,
    options: Annotated[FigureOptions, Flat] = FigureOptions(),
    at: Annotated[
        tuple[str, ...],
        Parameter(help="attention: FREQ,TIME, indices of a reference patch; may be repeated. Default: two loud ones."),
    ] = (),
    device: DeviceOption = "auto",
    overwrite: Overwrite = False,
    json: Json = False,
) -> int:
    """Plot a common figure of papers on masked spectrogram modelling, for any models and sounds.

    masks: three random masks. strips: vertical, horizontal and chessboard masks. ratios: mask ratios from 0.40 to
    0.99. attention: maps of two reference patches. durations: one sound in windows of several lengths, those of
    several models or parts of the window of one. patches: one sound with models of several patch sizes.

    Parameters
    ----------
    kind
        Kind of the figure.
    given
        MODEL: runs, model folders or built-in names. AUDIO: sound files.
    """
    from unheard import api
    from unheard.audio.archives.members import is_sound_file
    from unheard.weights.built_in import is_model_name

    models = [each for each in given if is_model_name(each)]
    sounds = [each for each in given if each not in models]
    if unknown := [each for each in sounds if not is_sound_file(each)]:
        raise ConfigError(f"{unknown[0]} is neither a model nor a sound file; give MODEL... AUDIO...")
    patches = [_patch_index(text) for text in at] or None
    api.figure(kind, models, sounds, out, **vars(options), at=patches, device=device, overwrite=overwrite)
    emit([f"figure: {named(out)}"], {"out": named(out), "models": models, "sounds": sounds}, json)
    return DONE


@verb("unheard report runs/first")
def report(run: Path, /, *, json: Json = False) -> int:
    """Write the HTML report of a run or a probe: settings, curves, figures and scores in one file.

    Parameters
    ----------
    run
        A run folder, or a folder that unheard probe wrote.
    """
    from unheard import api

    page = named(api.report(run))
    emit([f"report: {page}"], {"report": page}, json)
    return DONE


def _patch_index(text: str) -> tuple[int, int]:
    """Parse a patch given as ``FREQ,TIME``."""
    match = re.fullmatch(r"\s*(\d+)\s*,\s*(\d+)\s*", text)
    if match is None:
        raise ConfigError(f"--at must be FREQ,TIME, two integers from 0 such as --at 2,5; got {text!r}")
    return int(match[1]), int(match[2])
