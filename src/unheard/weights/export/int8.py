"""ONNX graphs with 8-bit weights, and what they change in the embeddings of some sounds.

Weights are unsigned, with one scale for each matrix. Signed weights with a scale for each channel saturate on
processors with AVX2 and without VNNI.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from unheard.errors import CheckpointError, DataError

FEWEST_SOUNDS = 3  # with two, every nearest neighbour is the same


@dataclass(frozen=True)
class Agreement:
    """Agreement of the scene vectors of two versions of a model on the same sounds."""

    sounds: int
    """Number of sounds."""
    cosine_median: float
    """Median over sounds of the cosine between both vectors."""
    cosine_min: float
    """Smallest cosine."""
    centred_median: float
    """Median cosine after subtracting the mean vector of all sounds: it shows losses that a common offset hides."""
    centred_min: float
    """Smallest centred cosine."""
    same_neighbour: int
    """Sounds whose nearest neighbour, by centred cosine, is the same."""

    def line(self) -> str:
        """Return the result as text."""
        return (
            f"scene vectors of {self.sounds} sounds against the model: cosine median {self.cosine_median:.4f}, min"
            f" {self.cosine_min:.4f}; centred median {self.centred_median:.4f}, min {self.centred_min:.4f}; same"
            f" nearest neighbour {self.same_neighbour} of {self.sounds}"
        )


def quantise(graph: Any, out: Path) -> None:
    """Write a float32 ONNX graph with 8-bit weights; the front end stays float32."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    level = logging.root.level
    logging.root.setLevel(logging.ERROR)  # onnxruntime recommends a preprocessing step that is not needed here
    try:
        quantize_dynamic(
            graph, out, weight_type=QuantType.QUInt8, per_channel=False, op_types_to_quantize=["MatMul"],
            nodes_to_exclude=list(frontend_products(graph)),
        )  # fmt: skip
    finally:
        logging.root.setLevel(level)


def frontend_products(graph: Any) -> Iterator[str]:
    """Yield the names of the matrix products of the front end: those before the logarithm."""
    made_by = {name: node for node in graph.graph.node for name in node.output}
    waiting = [node for node in graph.graph.node if node.op_type == "Log"]
    seen = set()
    while waiting:
        node = waiting.pop()
        if node.name in seen:
            continue
        seen.add(node.name)
        if node.op_type == "MatMul":
            yield node.name
        waiting += [made_by[name] for name in node.input if name in made_by]


def agreement(exact: Float32[np.ndarray, "N D"], other: Float32[np.ndarray, "N D"]) -> Agreement:
    """Compare the scene vectors of two versions of a model.

    Raises
    ------
    DataError
        When there are fewer than `FEWEST_SOUNDS`.
    """
    if len(exact) < FEWEST_SOUNDS:
        raise DataError(f"--check found {len(exact)} readable sounds; it needs at least {FEWEST_SOUNDS}")
    plain, centre = _cosines(exact, other), exact.mean(axis=0)
    centred = _cosines(exact - centre, other - centre)
    same = int((_neighbours(exact - centre) == _neighbours(other - centre)).sum())
    return Agreement(
        len(exact), float(np.median(plain)), float(plain.min()), float(np.median(centred)), float(centred.min()), same
    )


def refuse_different(exact: Float32[np.ndarray, "N D"], other: Float32[np.ndarray, "N D"], least: float) -> None:
    """Refuse scene vectors that are not similar.

    Raises
    ------
    CheckpointError
        When a cosine is below ``least``.
    """
    cosine = float(_cosines(exact, other).min())
    if not cosine >= least:
        raise CheckpointError(
            f"8-bit weights change the embeddings of this model too much (cosine {cosine:.3f} on test signals, at least"
            f" {least:g} is accepted); no file was written. Export without --int8"
        )


def _unit(vectors: Float32[np.ndarray, "N D"]) -> Float32[np.ndarray, "N D"]:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, np.float32(1e-12)))


def _cosines(first: Float32[np.ndarray, "N D"], second: Float32[np.ndarray, "N D"]) -> Float32[np.ndarray, " N"]:
    return np.asarray((_unit(first) * _unit(second)).sum(axis=1))


def _neighbours(vectors: Float32[np.ndarray, "N D"]) -> np.ndarray:
    similar = _unit(vectors) @ _unit(vectors).T
    np.fill_diagonal(similar, -np.inf)
    return np.asarray(similar.argmax(axis=1))
