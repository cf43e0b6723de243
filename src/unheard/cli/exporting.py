"""``unheard export``."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

from unheard.addresses import named
from unheard.api.options import ExportOptions
from unheard.cli.shell import DONE, Flat, Json, Out, Overwrite, emit, verb
from unheard.errors import ConfigError


@verb("unheard export runs/first -o encoder.onnx")
def export(
    model: str,
    /,
    *,
    out: Out,
    options: Annotated[ExportOptions, Flat] = ExportOptions(),
    overwrite: Overwrite = False,
    json: Json = False,
) -> int:
    """Export a model to an ONNX file, a folder of Hugging Face, an X-ARES encoder, or a folder for release.

    The ONNX file takes waveforms of any length and returns frames, their times, scene vectors, and the class scores of
    a fine-tuned model. It is compared with the model before it appears.

    Parameters
    ----------
    model
        A run, a model folder, or a built-in name such as random-tiny.
    """
    from unheard import api

    if not model:
        raise ConfigError("MODEL is empty; give a run, a model folder, or a built-in name such as random-tiny")
    made = api.export(model, out, **vars(options), overwrite=overwrite)
    kind = {"onnx": "ONNX file", "hf": "Hugging Face folder", "unheard": "model folder", "xares": "X-ARES encoder"}[
        made.to
    ]
    lines = [f"{kind}: {named(made.out)} ({made.size / 1e6:.1f} MB)"]
    if made.to == "xares":
        lines = [f"{kind}: {named(made.out)}; give X-ARES its path relative to the working directory"]
    if made.errors is not None:
        found = ", ".join(f"{length} {error:.1e}" for length, error in made.errors.items())
        lines.append(f"opset {made.opset}; largest difference from the model{' before int8' * options.int8}: {found}")
    if made.check is not None:
        lines.append(made.check.line())
    values = {**asdict(made), "out": named(made.out)}
    emit(lines, values, json)
    return DONE
