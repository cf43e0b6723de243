import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from unheard.errors import ConfigError
from unheard.model.patches import Grid, position_table, sincos_1d, sincos_2d

grids = st.builds(
    Grid,
    freq=st.integers(1, 6),
    time=st.integers(1, 8),
    patch_size=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    order=st.sampled_from(["freq", "time"]),
)


@given(grids)
def test_patches_go_back_to_the_same_spectrogram(grid):
    spec = torch.randn(2, grid.n_mels, grid.frames)
    assert torch.equal(grid.unpatchify(grid.patchify(spec)), spec)


@given(grids)
def test_each_token_holds_the_patch_at_its_row_and_column(grid):
    spec = torch.randn(1, grid.n_mels, grid.frames)
    patches = grid.patchify(spec)[0]
    pf, pt = grid.patch_size
    for token, (i, j) in enumerate(zip(grid.rows().tolist(), grid.columns().tolist(), strict=True)):
        assert torch.equal(patches[token], spec[0, i * pf : (i + 1) * pf, j * pt : (j + 1) * pt].flatten())


@given(grids, st.data())
def test_a_narrower_grid_keeps_its_token_order(grid, data):
    time = data.draw(st.integers(1, grid.time))
    narrow = Grid(grid.freq, time, grid.patch_size, grid.order)
    index = grid.crop_time(time)
    assert torch.equal(grid.rows()[index], narrow.rows())
    assert torch.equal(grid.columns()[index], narrow.columns())


@given(grids)
def test_a_time_step_lists_its_bands_from_low_to_high(grid):
    tokens = torch.stack([grid.rows(), grid.columns()], dim=1).float()[None]
    steps = grid.to_timesteps(tokens)[0].reshape(grid.time, grid.freq, 2)
    assert torch.equal(steps[:, :, 0], torch.arange(grid.freq).float().expand(grid.time, -1))
    assert torch.equal(steps[:, :, 1], torch.arange(grid.time).float()[:, None].expand(-1, grid.freq))


@given(grids, st.integers(1, 60))
def test_a_patch_is_valid_when_it_holds_a_real_frame(grid, frames):
    valid = grid.valid(torch.tensor([frames]))[0]
    starts = grid.columns() * grid.patch_size[1]
    assert torch.equal(valid, starts < frames)
    assert int(valid.sum()) == grid.freq * grid.real_columns(frames)


def test_bands_that_patches_do_not_tile_are_refused():
    with pytest.raises(ConfigError, match="do not tile 80 bands"):
        Grid.of(80, 208, (15, 16))
    with pytest.raises(ConfigError, match="model.patch_size is 0x16; it must be two whole numbers of at least 1"):
        Grid.of(80, 208, (0, 16))


def test_frames_beyond_the_last_patch_are_left_out():
    grid = Grid.of(80, 200, (16, 16))
    assert (grid.time, grid.frames) == (12, 192)
    assert grid.patchify(torch.zeros(1, 80, 200)).shape == (1, 60, 256)


def test_the_2d_table_puts_time_in_the_first_half_of_the_channels():
    grid = Grid(3, 4, (16, 16))
    table = sincos_2d(grid, 8).double()
    omega = 10000.0 ** -(np.arange(2) / 2)
    for token, (i, j) in enumerate(zip(grid.rows().tolist(), grid.columns().tolist(), strict=True)):
        wanted = np.concatenate([np.sin(j * omega), np.cos(j * omega), np.sin(i * omega), np.cos(i * omega)])
        np.testing.assert_allclose(table[token].numpy(), wanted, atol=1e-6)


def test_the_1d_table_interleaves_sine_and_cosine():
    table = sincos_1d(5, 6).double()
    angle = np.arange(5)[:, None] / 10000.0 ** (2 * np.arange(3) / 6)
    np.testing.assert_allclose(table[:, 0::2].numpy(), np.sin(angle), atol=1e-6)
    np.testing.assert_allclose(table[:, 1::2].numpy(), np.cos(angle), atol=1e-6)


def test_the_published_audiomae_table_gives_time_major_tokens_the_codes_of_a_frequency_major_grid():
    grid = Grid(2, 4, (16, 16), "time")
    table, plain = position_table("audiomae", grid, 8), position_table("2d", grid, 8)
    assert (grid.rows()[1], grid.columns()[1]) == (1, 0)
    right_of_the_first = plain[2]  # row 0, column 1: token 2 in time-major order
    assert torch.equal(table[1], right_of_the_first) and not torch.equal(table[1], plain[1])
    assert torch.equal(
        position_table("audiomae", Grid(2, 4, (16, 16), "freq"), 8), sincos_2d(Grid(2, 4, (16, 16), "freq"), 8)
    )
