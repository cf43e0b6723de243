"""Write a model as an ONNX file that computes from waveforms, and compare the file with the model.

The file appears under its name only after onnxruntime has reproduced the outputs of the model.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32

from unheard.errors import CheckpointError, ConfigError, require
from unheard.files import atomic_write
from unheard.weights.export.graph import WaveformModel

OPSET = 20
"""Version of the operator set: it has GELU. The files load from onnxruntime 1.18.1 on; 1.17.3 refuses them."""

TOLERANCE = 1e-4
"""Largest difference from the model in any output, absolute below 1 and relative above."""

INT8_COSINE = 0.95
"""Smallest cosine between scene vectors of the int8 and the float32 graph, on test signals (our choice)."""

MOST_BYTES = 2**31 - 2**20
"""Largest ONNX file: the format is limited to 2 GiB."""

DIMENSIONS: dict[str, tuple[str | None, ...]] = {
    "waveform": ("batch", "samples"),
    "frames": ("batch", "frames", None),
    "times_ms": ("frames",),
    "scene": ("batch", None),
    "scores": ("batch", None),
}
"""Inputs and outputs of the graph with the names of their variable dimensions."""

Arrays = Mapping[str, np.ndarray]
Reference = Callable[[Float32[np.ndarray, " S"]], Arrays]
"""Computes the outputs of the model for one waveform, by name."""


@dataclass(frozen=True)
class OnnxReport:
    """Result of an export to ONNX."""

    opset: int
    """Version of the operator set."""
    size: int
    """Bytes of the file."""
    errors: dict[str, float]
    """Largest difference between the float32 graph and the model, by length of the sound."""


def require_onnx() -> None:
    """Import the packages of the extra ``onnx``.

    Raises
    ------
    UnheardError
        When one is missing, with the command that installs it.
    """
    for package in ("onnx", "onnxruntime", "onnxscript"):
        require(package, "onnx")


def write_onnx(
    model: WaveformModel, out: Path, reference: Reference, metadata: Mapping[str, str], *, int8: bool = False
) -> OnnxReport:
    """Write an ONNX file.

    Parameters
    ----------
    reference : Reference
        The model: the graph must reproduce its outputs.
    metadata : mapping of str to str
        Stored in the file.
    int8 : bool
        Store the weights of the encoder as unsigned 8-bit integers, one scale for each matrix.

    Raises
    ------
    UnheardError
        When the extra ``onnx`` is missing, or the graph cannot be made.
    CheckpointError
        When the file differs from the model; no file is left.
    """
    require_onnx()
    import onnx

    graph = _traced(model)
    out.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(out) as unfinished:
        onnx.save(_labelled(graph, metadata), unfinished)
        errors = compare(model, unfinished, reference)
        if int8:
            from unheard.weights.export.int8 import quantise, refuse_different

            exact = _session(unfinished)
            quantise(graph, unfinished)
            onnx.save(_labelled(onnx.load(unfinished), metadata), unfinished)
            wav = signals(model, 2, model.frontend.frontend.num_samples(model.encoder.grid.frames))
            refuse_different(run(exact, wav)["scene"], run(_session(unfinished), wav)["scene"], INT8_COSINE)
        size = unfinished.stat().st_size
    return OnnxReport(OPSET, size, errors)


def compare(model: WaveformModel, file: Path, reference: Reference) -> dict[str, float]:
    """Return the largest difference between an ONNX file and the model, by length of the sound.

    Raises
    ------
    CheckpointError
        When a shape differs, or a difference exceeds `TOLERANCE`.
    """
    session, errors = _session(file), {}
    for name, samples in lengths(model).items():
        short = samples <= lengths(model)["one window"]
        wav = signals(model, 2 if short else 1, samples)
        got = run(session, wav)
        errors[name] = max(_difference(got, reference(each), row, name) for row, each in enumerate(wav))
    return errors


def lengths(model: WaveformModel) -> dict[str, int]:
    """Return the lengths in samples at which a file is compared with its model, by their names."""
    front, grid = model.frontend.frontend, model.encoder.grid
    seconds = {f"{second:g} s": max(1, round(second * front.sample_rate)) for second in (0.1, 10.3, 61.3)}
    return {"1 sample": 1, "one window": front.num_samples(grid.frames), **seconds}


def signals(model: WaveformModel, batch: int, samples: int) -> Float32[np.ndarray, "B S"]:
    """Return test signals: a rising tone in noise of varying level."""
    rng, time = np.random.default_rng(0), np.arange(samples) / model.frontend.frontend.sample_rate
    noise = rng.normal(0, 0.1, (batch, samples)) * (1 + np.sin(7 * time)) / 2
    return np.asarray(noise + 0.2 * np.sin(2 * np.pi * (200 + 40 * time) * time), np.float32)


def run(session: Any, wav: Float32[np.ndarray, "B S"]) -> dict[str, np.ndarray]:
    """Return the outputs of an ONNX session by name."""
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"waveform": wav}), strict=True))


def open_session(file: Path) -> Any:
    """Return an onnxruntime session of a file, on the CPU."""
    require_onnx()
    return _session(file)


def _session(file: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only
    return onnxruntime.InferenceSession(file.read_bytes(), options, providers=["CPUExecutionProvider"])


def _difference(got: Arrays, expected: Arrays, row: int, length: str) -> float:
    """Return the largest difference of one row of a batch; refuse one above the tolerance."""
    worst = 0.0
    for name, value in expected.items():
        mine = got[name] if name == "times_ms" else got[name][row]
        scale = max(1.0, float(np.abs(value).max(initial=0)))
        error = float(np.abs(mine - value).max(initial=0)) / scale if mine.shape == value.shape else np.inf
        if not error <= TOLERANCE:
            found = f"shape {mine.shape}, not {value.shape}" if error == np.inf else f"an error of {error:.2g}"
            raise CheckpointError(
                f"the ONNX graph differs from the model in {name} at {length}: {found}, above {TOLERANCE:g}; no file"
                " was written. Try other versions of torch, onnxscript and onnxruntime"
            )
        worst = max(worst, error)
    return worst


def _traced(model: WaveformModel) -> Any:
    """Return the graph of a model as an ONNX model with float32 weights."""
    weights = sum(value.numel() * value.element_size() for value in model.state_dict().values())
    if weights > MOST_BYTES:
        raise ConfigError(f"the weights have {weights / 2**30:.1f} GiB; an ONNX file holds at most 2 GiB")
    frames = 5 * model.encoder.grid.frames // 2  # three windows: 0 and 1 would become constants of the graph
    example = torch.zeros(2, model.frontend.frontend.num_samples(frames))
    dynamic = {"wav": {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}}
    outputs = ["frames", "times_ms", "scene", *(["scores"] if model.classifier is not None else [])]
    with _quiet():
        try:
            program = torch.export.export(model, (example,), dynamic_shapes=dynamic)
            made = torch.onnx.export(
                program, dynamo=True, opset_version=OPSET, input_names=["waveform"], output_names=outputs, verbose=False
            )
            assert made is not None
            made.optimize()
            return made.model_proto
        except Exception as error:  # a front end or a head of the user's own can fail in any way
            reason = " ".join(str(error).split()) or type(error).__name__
            raise ConfigError(
                f"the graph of this model cannot be exported ({type(error).__name__}: {reason:.200}); models with the"
                " front ends log-mel, kaldi-fbank and maskspec can"
            ) from error


def _labelled(graph: Any, metadata: Mapping[str, str]) -> Any:
    """Return the graph with readable names of dimensions, and the metadata."""
    import onnx

    labelled = onnx.ModelProto()
    labelled.CopyFrom(graph)
    del labelled.graph.value_info[:]  # shapes of intermediate values, in other names
    for value in (*labelled.graph.input, *labelled.graph.output):
        for dimension, name in zip(value.type.tensor_type.shape.dim, DIMENSIONS[value.name], strict=True):
            if name is not None:
                dimension.dim_param = name
    onnx.helper.set_model_props(labelled, dict(metadata))
    return labelled


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the log and the deprecation warnings of PyTorch's exporter."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
