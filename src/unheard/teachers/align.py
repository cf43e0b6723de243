"""Alignment of a teacher's feature map with a student's patch grid, in hertz and seconds.

    T_student = A T_teacher,   A (N, L) constant, rows sum to 1

Frequency: each band of a student's patch takes the teacher's row that contains its centre. Time: linear interpolation
between the teacher's columns at the centre of the patch, constant beyond both ends. Any pair of front ends can be
aligned.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float64
from numpy.typing import ArrayLike
from torch import Tensor

from unheard.model.patches import Grid


@dataclass(frozen=True)
class FeatureMapAxes:
    """Positions of the rows and columns of a teacher's map.

    Parameters
    ----------
    edges : tuple of float
        The f - 1 frequencies in Hz at which a new row begins, rising; none for a vector or a single row.
    columns : tuple of float
        The t centres of its columns in seconds from the first sample, rising.
    """

    edges: tuple[float, ...]
    columns: tuple[float, ...]

    @property
    def size(self) -> int:
        """L = f * t."""
        return (len(self.edges) + 1) * len(self.columns)


def alignment_matrix(grid: Grid, bands: ArrayLike, frames: ArrayLike, teacher: FeatureMapAxes) -> Float[Tensor, "N L"]:
    """Return the matrix that maps a teacher's map, flattened row by row, to the tokens of a student.

    Parameters
    ----------
    grid : Grid
        The student's patches; its order decides the order of the rows of A.
    bands : array, (F,)
        Centres of the student's mel bands in Hz.
    frames : array, (T,)
        Centres of the student's frames in seconds, from the first sample of the teacher's input.
    teacher : FeatureMapAxes
    """
    pt = grid.patch_size[1]
    rows = row_weights(grid, bands, teacher.edges)
    centres = np.asarray(frames, np.float64)[: grid.frames].reshape(grid.time, pt).mean(axis=1)
    columns = interpolation(centres, np.asarray(teacher.columns, np.float64))
    whole = np.einsum("ir,jc->ijrc", rows, columns)
    ordered = whole if grid.order == "freq" else whole.transpose(1, 0, 2, 3)
    return torch.from_numpy(ordered.reshape(grid.num_patches, teacher.size)).float()


def row_weights(grid: Grid, bands: ArrayLike, edges: tuple[float, ...]) -> Float64[np.ndarray, "f r"]:
    """Return the share of each of the teacher's rows in each row of the student's patches; rows sum to 1."""
    pf = grid.patch_size[0]
    row_of_band = np.searchsorted(np.asarray(edges), np.asarray(bands, np.float64), side="right")
    rows = np.zeros((grid.freq, len(edges) + 1))
    np.add.at(rows, (np.arange(grid.n_mels) // pf, row_of_band[: grid.n_mels]), 1 / pf)
    return rows


def interpolation(at: Float64[np.ndarray, " n"], points: Float64[np.ndarray, " t"]) -> Float64[np.ndarray, "n t"]:
    """Return weights of ``points`` that interpolate linearly ``at`` given positions, constant beyond both ends."""
    weights = np.zeros((len(at), len(points)))
    right = (
        np.clip(np.searchsorted(points, at), 1, max(1, len(points) - 1)) if len(points) > 1 else np.zeros(len(at), int)
    )
    left = np.maximum(right - 1, 0)
    span = np.where(right > left, points[right] - points[left], 1.0)
    share = np.clip((at - points[left]) / span, 0.0, 1.0) if len(points) > 1 else np.zeros(len(at))
    rows = np.arange(len(at))
    np.add.at(weights, (rows, left), 1 - share)
    np.add.at(weights, (rows, right), share)
    return weights


def row_edges(centres: ArrayLike, size: int) -> tuple[float, ...]:
    """Return where rows of ``size`` neighbouring bands begin: the centre of the first band of each row but the
    lowest.
    """
    return tuple(float(centre) for centre in np.asarray(centres)[size::size])
