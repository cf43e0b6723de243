"""Windows partition the grid, attention stays within adjacent patches, and the decoder fits any grid."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from unheard.model.decoder import Decoder
from unheard.model.local_decoder import (
    BLOCKED,
    SHIFT,
    WINDOW,
    LocalTransformer,
    WindowAttention,
    WindowPartition,
    log_offsets,
)
from unheard.model.masked_model import MaskedModel
from unheard.model.masking import random
from unheard.model.patches import Grid
from unheard.model.sizes import ModelConfig

grids = st.builds(Grid, st.integers(1, 10), st.integers(1, 14), st.just((2, 2)), st.sampled_from(["freq", "time"]))
shifts = st.sampled_from([0, SHIFT])
SMALL = ModelConfig(
    embed_dim=16,
    depth=1,
    num_heads=2,
    decoder="local",
    decoder_embed_dim=16,
    decoder_depth=2,
    decoder_num_heads=2,
    token_order="time",
)


@given(grids, shifts)
def test_windows_hold_every_token_once_and_give_it_back(grid, shift):
    windows = WindowPartition(grid, shift)
    held = windows.places[windows.places < grid.num_patches]
    assert torch.equal(held.sort().values, torch.arange(grid.num_patches))
    x = torch.randn(2, grid.num_patches, 3)
    assert torch.equal(windows.join(windows.cut(x)), x)
    assert windows.cut(x).abs().sum() == pytest.approx(float(x.abs().sum()), rel=1e-4)  # empty places hold zeros


@given(grids, shifts)
def test_a_patch_attends_to_its_neighbours_and_to_nothing_else(grid, shift):
    windows = WindowPartition(grid, shift)
    mask = torch.zeros(*windows.places.shape, windows.places.shape[1]) if windows.mask is None else windows.mask
    assert set(mask.unique().tolist()) <= {0.0, BLOCKED}
    rows = torch.cat([grid.rows(), torch.tensor([-100])])[windows.places]
    columns = torch.cat([grid.columns(), torch.tensor([-100])])[windows.places]
    near = ((rows[:, :, None] - rows[:, None]).abs() < WINDOW) & (
        (columns[:, :, None] - columns[:, None]).abs() < WINDOW
    )
    real = windows.places < grid.num_patches
    assert torch.equal((mask == 0)[real], near[real])


def test_the_shifted_grid_keeps_the_end_of_time_from_its_beginning():
    grid = Grid(4, 8, (2, 2), "time")
    windows = WindowPartition(grid, SHIFT)
    assert windows.places[0].tolist() == list(range(8, 24)) and windows.mask is not None and not windows.mask[0].any()
    assert windows.places[1].tolist() == [*range(24, 32), *range(8)]
    end, beginning = slice(0, 8), slice(8, 16)
    assert not windows.mask[1, end, end].any() and not windows.mask[1, beginning, beginning].any()
    assert (windows.mask[1, end, beginning] == BLOCKED).all() and (windows.mask[1, beginning, end] == BLOCKED).all()


def test_the_distance_between_places_is_logarithmic_and_signed():
    offsets = log_offsets()
    assert offsets.shape == (16, 16, 2) and torch.equal(offsets, -offsets.transpose(0, 1))
    assert torch.allclose(
        offsets[13, 2], torch.tensor([4.0, 2.0]).log() * torch.tensor([1, -1])
    )  # from (3, 1) to (0, 2)


def test_attention_is_a_cosine_with_a_temperature_and_a_bias():
    torch.manual_seed(0)
    attention = WindowAttention(8, 2).eval().double()
    attention.tau.data = torch.tensor([0.5, 0.001], dtype=torch.float64)  # the second is below the smallest
    x = torch.randn(1, 1, 16, 8, dtype=torch.float64)
    q, k, v = attention.qkv(x)[0, 0].reshape(16, 3, 2, 4).unbind(1)
    mixed = []
    for head, tau in enumerate((0.5, 0.01)):
        cosine = F.cosine_similarity(q[:, None, head], k[None, :, head], dim=-1)
        weights = (cosine / tau + attention.bias()[head]).exp()
        mixed.append(weights / weights.sum(dim=1, keepdim=True) @ v[:, head])
    assert torch.allclose(
        attention(x, None)[0, 0], attention.proj(torch.cat(mixed, dim=1)), atol=1e-6
    )  # softmax is float32


@given(grids)
def test_any_grid_is_decoded_and_nothing_leaks_from_crop_to_crop(grid):
    torch.manual_seed(0)
    local = LocalTransformer(8, 2, 2, 2.0, grid).eval()
    x = torch.randn(3, grid.num_patches, 8)
    together = local(x)
    assert together.shape == x.shape and together.isfinite().all()
    assert torch.allclose(together[1:2], local(x[1:2]), atol=1e-5)


def test_a_patch_reaches_its_windows_and_no_farther():
    grid = Grid(4, 16, (2, 2), "time")
    torch.manual_seed(0)
    local = LocalTransformer(8, 1, 2, 2.0, grid).eval()
    x = torch.randn(1, grid.num_patches, 8, requires_grad=True)
    local(x)[0, grid.columns() == 5].sum().backward()
    assert x.grad is not None
    assert grid.columns()[x.grad[0].abs().sum(dim=1) > 0].unique().tolist() == [4, 5, 6, 7]


def test_token_order_does_not_change_what_is_decoded():
    by_freq, by_time = (Grid(5, 7, (2, 2), order) for order in ("freq", "time"))
    torch.manual_seed(0)
    local = LocalTransformer(8, 2, 2, 2.0, by_freq).eval()
    other = LocalTransformer(8, 2, 2, 2.0, by_time).eval()
    other.load_state_dict(local.state_dict())
    x = torch.randn(1, 35, 8)
    order = (by_time.rows() * 7 + by_time.columns()).long()
    assert torch.allclose(local(x)[:, order], other(x[:, order]), atol=1e-6)


def test_every_part_gets_a_gradient_and_training_drops_out():
    grid = Grid(4, 8, (2, 2), "time")
    torch.manual_seed(0)
    model = MaskedModel(SMALL, grid)
    mask = random(torch.rand(2, 32), 0.75)
    patches = torch.randn(2, 32, 4)
    model(patches, mask).decoded.square().sum().backward()
    assert not [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().any()]
    first, second = (model(patches, mask).decoded for _ in range(2))
    assert not torch.equal(first, second)
    model.eval()
    first, second = (model(patches, mask).decoded for _ in range(2))
    assert torch.equal(first, second)


def test_the_cls_token_stays_out_of_the_local_decoder():
    grid = Grid(4, 8, (2, 2), "time")
    decoder = Decoder(SMALL, grid).eval()
    mask = random(torch.rand(1, 32), 0.75)
    visible = torch.randn(1, 8, 16)
    assert torch.equal(decoder(visible, mask, torch.randn(1, 16)), decoder(visible, mask, None))
