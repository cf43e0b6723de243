"""Every frame of a recording counts once, for all lengths and hops."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from unheard.embedding.embedder import Model, Options
from unheard.embedding.loading import load
from unheard.embedding.windows import Window, column_frames, cut
from unheard.model.patches import Grid

RATE, HOP, PATCH = 16000, 160, 16


@pytest.fixture(scope="module")
def model() -> Model:
    """A model whose embedding of a patch is the mean of the spectrogram frames in it."""
    made = load("random-tiny")

    def means(windows: list[Window], columns: int, options: Options) -> np.ndarray:
        starts = np.arange(columns) * PATCH
        rows = [np.add.reduceat(window.spec.astype(np.float64), starts) for window in windows]
        counts = [column_frames(made.grid, window.frames)[:, None] for window in windows]
        return np.stack([row / count for row, count in zip(rows, counts, strict=True)]).astype(np.float32)

    made.encode_windows = means  # type: ignore[method-assign, assignment]
    return made


LENGTHS = (
    st.integers(1, 3 * 208 * HOP)
    | st.integers(1, 12).map(lambda k: k * 52 * HOP)
    | st.sampled_from([1, 208 * HOP - 1, 208 * HOP])
)


@settings(max_examples=30)
@given(samples=LENGTHS, hop=st.sampled_from([1, 2, 4, 8, 16]), seed=st.integers(0, 1000))
@example(samples=1, hop=1, seed=0)
@example(samples=207 * HOP, hop=16, seed=0)  # exactly one window
def test_time_steps_are_the_means_of_their_frames(model: Model, samples: int, hop: int, seed: int) -> None:
    wav = (0.1 * np.random.default_rng(seed).standard_normal(samples)).astype(np.float32)
    spec = model.frontend.spectrogram_cpu(wav)
    found = model.embed((wav, RATE), hop=hop * HOP / RATE)
    starts = np.arange(0, len(spec), hop)
    assert len(found.frames) == len(found.times_ms) == len(starts)
    np.testing.assert_allclose(found.frames, [spec[start : start + PATCH].mean(axis=0) for start in starts], atol=1e-3)
    np.testing.assert_allclose(found.times_ms, 1000 * HOP / RATE * (starts + (PATCH - 1) / 2), rtol=1e-5)
    assert found.seconds == samples / RATE


@settings(max_examples=20)
@given(samples=LENGTHS, seed=st.integers(0, 1000))
@example(samples=1, seed=0)
def test_a_scene_is_the_mean_of_all_frames(model: Model, samples: int, seed: int) -> None:
    wav = (0.1 * np.random.default_rng(seed).standard_normal(samples)).astype(np.float32)
    spec = model.frontend.spectrogram_cpu(wav)
    np.testing.assert_allclose(model.embed((wav, RATE)).scene, spec.mean(axis=0), atol=1e-3)
    np.testing.assert_allclose(model.embed((wav, RATE), frames=False).scene, spec.mean(axis=0), atol=1e-3)


@settings(max_examples=10)
@given(lengths=st.lists(st.integers(1, 500 * HOP), min_size=1, max_size=80))
def test_sounds_of_all_lengths_in_one_call_keep_their_own_frames(model: Model, lengths: list[int]) -> None:
    rng = np.random.default_rng(len(lengths))
    wavs = [(rng.uniform(0.01, 0.3) * rng.standard_normal(length)).astype(np.float32) for length in lengths]
    found = model.embed([(wav, RATE) for wav in wavs])
    for wav, embedding in zip(wavs, found, strict=True):
        np.testing.assert_allclose(embedding.scene, model.frontend.spectrogram_cpu(wav).mean(axis=0), atol=1e-3)
        assert embedding.seconds == len(wav) / RATE


@given(
    total=st.integers(0, 200),
    width=st.integers(1, 60),
    offset=st.integers(0, 60),
    cuts=st.lists(st.integers(0, 200), max_size=6),
)
@example(total=0, width=1, offset=0, cuts=[])
@example(total=1, width=1, offset=0, cuts=[])
@example(total=60, width=60, offset=0, cuts=[])
@example(total=60, width=60, offset=60, cuts=[30])
def test_each_frame_belongs_to_one_window(total: int, width: int, offset: int, cuts: list[int]) -> None:
    spec = np.arange(total, dtype=np.float32)[:, None]
    windows = list(cut(np.split(spec, sorted(min(each, total) for each in cuts)), width, offset))
    assert [window.start for window in windows] == list(range(offset, max(offset, total), width))
    owners = np.zeros(total, int)
    for window in windows:
        assert 1 <= window.frames <= width
        owners[window.start : window.start + window.frames] += 1
        np.testing.assert_array_equal(window.spec, spec[window.start : window.start + window.frames])
    assert (owners == (np.arange(total) >= offset)).all()


@given(columns=st.integers(1, 12), patch=st.integers(1, 20), data=st.data())
def test_weights_of_the_columns_of_a_window_sum_to_its_frames(columns: int, patch: int, data: st.DataObject) -> None:
    grid, frames = Grid(5, columns, (16, patch)), data.draw(st.integers(1, columns * patch))
    weights = column_frames(grid, frames)
    assert weights.sum() == frames and len(weights) == grid.real_columns(frames) == -(-frames // patch)
    assert (weights[:-1] == patch).all() and 1 <= weights[-1] <= patch
