"""Export of models for other programs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from unheard.api.options import ExportOptions, documented
from unheard.embedding.embedder import Model
from unheard.embedding.identity import fingerprint
from unheard.embedding.loading import load_own, own
from unheard.errors import AudioError, ConfigError
from unheard.outputs import locked_file, refuse_existing
from unheard.remote.outputs import uploaded

if TYPE_CHECKING:
    from unheard.weights.export.int8 import Agreement

Format = Literal["onnx", "hf", "unheard", "xares"]

FORMATS: dict[str, Format] = {".onnx": "onnx", ".py": "xares"}
"""Suffix of each format that is a file."""


@dataclass(frozen=True)
class Exported:
    """Result of `export`."""

    out: Path
    """The file or folder."""
    to: Format
    """Its format."""
    size: int
    """Bytes."""
    opset: int | None = None
    """Version of the operator set of an ONNX file."""
    errors: dict[str, float] | None = None
    """Largest difference between the float32 ONNX graph and the model, by length of the sound."""
    check: Agreement | None = None
    """Agreement of the file with the model on the sounds of ``check``."""


@documented(ExportOptions)
@uploaded("out")
def export(
    model: Model | str | Path, out: str | Path, *, to: Format | None = None, int8: bool = False,
    check: str | Path | None = None, code: bool = False, release: str | Path | None = None, overwrite: bool = False,
) -> Exported:  # fmt: skip
    """Export a model to an ONNX file, a folder of Hugging Face, an X-ARES encoder, or a released model folder.

    Parameters
    ----------
    model : Model, path or str
        A model, a run, a model folder, or a built-in name.
    out : path
        A file that ends in ``.onnx`` or ``.py``, or a folder; also at an address.
    overwrite : bool
        Replace an existing output.

    Raises
    ------
    ConfigError
        When the format does not fit the other options, or the model cannot be exported.
    CheckpointError
        When there is no such model, or the file does not reproduce it; then no file is left.
    """
    path, chosen = Path(out), to or _format(Path(out), release)
    _refuse_options(path, chosen, int8 or check is not None, code, release)
    if isinstance(model, str) and model.partition(":")[0] in ("hear", "hf", "xares"):
        raise ConfigError(f"{model} is not a model of unheard, so it cannot be exported; give a run or a model folder")
    refuse_existing(path, overwrite, kind="file" if chosen in FORMATS.values() else "folder")
    if chosen == "xares":
        return _export_xares(model, path)
    if chosen == "hf":
        return _export_hf(own(model, "cpu"), path, code, overwrite)
    if release is not None:
        return _export_release(own(model, "cpu"), path, Path(release))
    return _export_onnx(model, path, int8, check)


def _format(out: Path, release: str | Path | None) -> Format:
    if out.suffix in FORMATS:
        return FORMATS[out.suffix]
    return "hf" if release is None else "unheard"


def _refuse_options(out: Path, to: Format, onnx: bool, code: bool, release: str | Path | None) -> None:
    """Refuse options that belong to another format."""
    if FORMATS.get(out.suffix, "" if to in FORMATS.values() else to) != to:
        raise ConfigError(
            f"{out}: the name of an ONNX file ends in .onnx, that of an X-ARES encoder in .py, and that of a folder in"
            " neither"
        )
    if to != "onnx" and onnx:
        raise ConfigError("--int8 and --check belong to ONNX files; give an -o that ends in .onnx")
    if to != "hf" and code:
        raise ConfigError("--code belongs to Hugging Face folders; give an -o that does not end in .onnx")
    if (to == "unheard") != (release is not None):
        raise ConfigError("--to unheard and --release FILE belong together: the file names the licence of the weights")


def _export_onnx(model: Model | str | Path, out: Path, int8: bool, check: str | Path | None) -> Exported:
    from unheard.audio.folders import find_sounds
    from unheard.weights.export.graph import waveform_model
    from unheard.weights.export.metadata import check_exportable, describe, refuse_padding
    from unheard.weights.export.onnx_file import require_onnx, write_onnx

    require_onnx()
    sounds = [] if check is None else find_sounds(check)
    opened = own(model, "cpu")
    refuse_padding(opened.pad_window)
    check_exportable(opened.saved)
    statistics = (opened.statistics.mean, opened.statistics.divisors())
    graph = waveform_model(opened.frontend, statistics, opened.encoder, opened.classifier)

    def reference(wav: np.ndarray) -> dict[str, np.ndarray]:
        embedding = opened.embed((wav, opened.sample_rate))
        values = {"frames": embedding.frames, "times_ms": embedding.times_ms, "scene": embedding.scene}
        return values | ({"scores": opened.classify((wav, opened.sample_rate))} if opened.labels else {})

    with locked_file(out):
        report = write_onnx(graph, out, reference, describe(opened.saved), int8=int8)
    agreed = None if check is None else _agreement(opened, out, sounds)
    return Exported(out, "onnx", report.size, report.opset, report.errors, agreed)


def _agreement(model: Model, file: Path, sounds: list[Path]) -> Agreement:
    """Compare the scene vectors of an ONNX file with those of the model; unreadable sounds are left out."""
    from unheard.audio.waveform import read
    from unheard.errors import warn_audio
    from unheard.weights.export.int8 import agreement
    from unheard.weights.export.onnx_file import open_session, run

    session, exact, other = open_session(file), [], []
    for sound in sounds:
        try:
            wav, _ = read(sound, model.sample_rate)
            exact.append(model.embed((wav, model.sample_rate), frames=False).scene)
        except AudioError as error:
            warn_audio(str(error))
            continue
        other.append(run(session, wav[None])["scene"][0])
    size = model.embedding_size
    return agreement(np.reshape(exact, (-1, size)), np.reshape(other, (-1, size)))


def _export_hf(model: Model, out: Path, code: bool, overwrite: bool) -> Exported:
    model.save_pretrained(out, code=code, overwrite=overwrite)
    return Exported(out, "hf", sum(file.stat().st_size for file in out.iterdir()))


def _export_xares(model: Model | str | Path, out: Path) -> Exported:
    """Write a file that loads the model from its present place."""
    from unheard.weights.export.metadata import refuse_padding
    from unheard.xares import write_encoder

    given = own(model, "cpu")
    refuse_padding(given.pad_window)
    weights = given.origin
    if not weights or (isinstance(model, Model) and fingerprint(load_own(weights, "cpu")) != fingerprint(model)):
        raise ConfigError(
            "the file would load weights from a folder, and this model was built or changed in Python; save it first,"
            " and give its folder"
        )
    write_encoder(weights, out)
    return Exported(out, "xares", out.stat().st_size)


def _export_release(model: Model, out: Path, description: Path) -> Exported:
    from unheard.embedding.stored_check import stored_check
    from unheard.weights.release import read_release, releasable, save_release

    release = read_release(description)
    saved = releasable(model.saved, release)
    save_release(replace(saved, check=stored_check(Model(saved))), out, release)
    return Exported(out, "unheard", sum(file.stat().st_size for file in out.iterdir()))
