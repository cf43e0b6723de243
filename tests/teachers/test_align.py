"""Alignment of a teacher's map to a student's patches, in hertz and seconds."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from unheard.model.patches import Grid
from unheard.teachers.align import FeatureMapAxes, alignment_matrix, interpolation, row_edges


def kaldi_centres(n_mels: int, low: float, high: float) -> list[float]:
    """Centres of Kaldi's mel bands, 1127 ln(1 + f / 700)."""
    edges = np.linspace(*(1127 * np.log1p(np.array([low, high]) / 700)), n_mels + 2)
    return list(700 * np.expm1(edges[1:-1] / 1127))


def slaney_centres(n_mels: int, low: float, high: float) -> list[float]:
    """Centres of Slaney's mel bands, as librosa computes them."""
    librosa = pytest.importorskip("librosa")
    return list(librosa.mel_frequencies(n_mels + 2, fmin=low, fmax=high)[1:-1])


CLAP = FeatureMapAxes(row_edges(slaney_centres(64, 50, 14000), 32), tuple((np.arange(32) + 0.5) * 10.01 / 32))
FINER = FeatureMapAxes(row_edges(slaney_centres(64, 50, 14000), 16), CLAP.columns)


def rows_of(grid: Grid, bands: list[float], teacher: FeatureMapAxes) -> np.ndarray:
    """What share of each teacher row goes into each row of the student's patches."""
    matrix = alignment_matrix(grid, bands, list(np.arange(grid.frames) / 100), teacher).numpy()
    whole = matrix.reshape(grid.time, grid.freq, len(teacher.edges) + 1, -1) if grid.order == "time" else None
    assert whole is not None
    return whole.sum(axis=3)[0]


def test_audiomae_hears_clap_s_two_rows() -> None:
    grid = Grid.of(128, 1024, (16, 16), "time")
    shares = rows_of(grid, kaldi_centres(128, 20, 8000), CLAP)
    assert shares[:, 0] == pytest.approx([1, 1, 1, 1, 10 / 16, 0, 0, 0], abs=1e-6)


def test_audiomae_hears_clap_s_four_finer_rows() -> None:
    shares = rows_of(Grid.of(128, 1024, (16, 16), "time"), kaldi_centres(128, 20, 8000), FINER)
    assert shares[2] == pytest.approx([11 / 16, 5 / 16, 0, 0], abs=1e-6)
    assert shares[4] == pytest.approx([0, 10 / 16, 6 / 16, 0], abs=1e-6)
    assert shares[7] == pytest.approx([0, 0, 1 / 16, 15 / 16], abs=1e-6)


@given(st.integers(1, 5), st.integers(1, 9), st.integers(1, 4), st.integers(1, 12), st.sampled_from(["freq", "time"]))
def test_rows_sum_to_one(freq: int, time: int, rows: int, columns: int, order: str) -> None:
    grid = Grid(freq, time, (4, 2), order)  # type: ignore[arg-type]
    bands = list(np.linspace(100, 7000, grid.n_mels))
    teacher = FeatureMapAxes(tuple(np.linspace(500, 6000, rows + 1)[1:-1]), tuple(np.linspace(0.1, 2.0, columns)))
    matrix = alignment_matrix(grid, bands, list(np.arange(grid.frames) / 50), teacher)
    assert matrix.shape == (grid.num_patches, teacher.size)
    assert torch.allclose(matrix.sum(dim=1), torch.ones(grid.num_patches), atol=1e-5)
    assert (matrix >= 0).all()


def test_the_same_grid_is_the_identity() -> None:
    grid = Grid(2, 5, (4, 2))
    bands, frames = list(np.linspace(100, 800, 8)), np.arange(10) / 100
    teacher = FeatureMapAxes(row_edges(bands, 4), tuple(frames.reshape(5, 2).mean(axis=1)))
    assert torch.allclose(alignment_matrix(grid, bands, list(frames), teacher), torch.eye(10), atol=1e-6)


def test_time_is_interpolated_and_held() -> None:
    weights = interpolation(np.array([-1.0, 1.0, 1.25, 9.0]), np.array([0.0, 1.0, 2.0]))
    assert weights == pytest.approx(np.array([[1, 0, 0], [0, 1, 0], [0, 0.75, 0.25], [0, 0, 1]]))


def test_a_vector_goes_to_every_patch() -> None:
    grid = Grid(2, 3, (4, 2))
    matrix = alignment_matrix(grid, list(np.linspace(1, 8, 8)), list(np.arange(6.0)), FeatureMapAxes((), (0.5,)))
    assert torch.equal(matrix, torch.ones(6, 1))
