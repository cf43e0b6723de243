"""``unheard export``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Literal

from unheard.cli.shell import DONE, Json, Out, Overwrite, emit, verb
from unheard.errors import ConfigError


@verb("unheard export runs/first -o encoder.onnx")
def export(
    model: str,
    /,
    *,
    out: Out,
    to: Literal["onnx", "hf", "unheard"] | None = None,
    int8: bool = False,
    check: Path | None = None,
    code: bool = False,
    release: Path | None = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> int:
    """Export a model to an ONNX file, to a folder for Hugging Face transformers, or to a folder for release.

    The ONNX file takes waveforms of any length and returns frames, their times, scene vectors, and the class scores of
    a fine-tuned model. It is compared with the model before it appears.

    Parameters
    ----------
    model
        A run, a model folder, or a built-in name such as random-tiny.
    to
        Format. Default: onnx if the output ends in .onnx, unheard with --release, otherwise hf, a Hugging Face folder.
    int8
        ONNX: store the weights of the encoder as 8-bit integers, a quarter to a third of the size.
    check
        ONNX: a folder with at least three sounds, on which the file is compared with the model.
    code
        Hugging Face: also write Python code into the folder, so that trust_remote_code=True loads it without unheard.
    release
        A JSON file with the name, licence, teachers and scores of the model. The output is a model folder of unheard
        with float16 weights, a model card, and a sound with its stored embedding.
    """
    from unheard import api

    if not model:
        raise ConfigError("MODEL is empty; give a run, a model folder, or a built-in name such as random-tiny")
    made = api.export(model, out, to=to, int8=int8, check=check, code=code, release=release, overwrite=overwrite)
    kind = {"onnx": "ONNX file", "hf": "Hugging Face folder", "unheard": "model folder"}[made.to]
    lines = [f"{kind}: {made.out} ({made.size / 1e6:.1f} MB)"]
    if made.errors is not None:
        found = ", ".join(f"{length} {error:.1e}" for length, error in made.errors.items())
        lines.append(f"opset {made.opset}; largest difference from the model{' before int8' * int8}: {found}")
    if made.check is not None:
        lines.append(made.check.line())
    values = {**asdict(made), "out": str(made.out)}
    emit(lines, values, json)
    return DONE
