import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from unheard.errors import ConfigError
from unheard.model import masking
from unheard.model.patches import Grid
from unheard.model.sizes import ModelConfig


@given(st.integers(1, 200), st.floats(0, 0.999), st.integers(0, 1000))
def test_every_patch_is_either_kept_or_hidden(patches, ratio, seed):
    noise = torch.rand(3, patches, generator=torch.Generator().manual_seed(seed))
    mask = masking.random(noise, ratio)
    both = torch.cat([mask.keep, mask.hide], dim=1).sort(dim=1).values
    assert torch.equal(both, torch.arange(patches).expand(3, -1))
    assert mask.keep.shape[1] == max(1, int(patches * (1 - ratio)))
    assert torch.equal(mask.hidden().sum(dim=1), torch.full((3,), mask.hide.shape[1]))


@pytest.mark.parametrize(
    ("patches", "ratio", "kept"),
    [
        (95, 0.4, 57),
        (95, 0.75, 23),
        (95, 0.98, 1),
        (95, 0.99, 1),
        (190, 0.7, 57),
        (190, 0.8, 37),
        (190, 0.9, 18),
        (30, 0.9, 2),
    ],
)
def test_the_number_kept_is_truncated_as_in_the_reference_and_at_least_one(patches, ratio, kept):
    assert masking.num_keep(patches, ratio) == kept


@pytest.mark.parametrize("ratio", [-0.1, 1.0, 1.5])
def test_a_ratio_outside_its_range_is_refused(ratio):
    with pytest.raises(ConfigError, match="mask_ratio"):
        masking.num_keep(10, ratio)


@given(st.integers(1, 20), st.integers(0, 100))
def test_padding_is_kept_only_when_nothing_else_is_left(real, seed):
    noise = torch.rand(1, 20, generator=torch.Generator().manual_seed(seed))
    valid = (torch.arange(20) < real)[None]
    mask = masking.random(noise, 0.75, valid)
    kept_real = int(valid[0, mask.keep[0]].sum())
    assert kept_real == min(real, 5)


def test_patterns_hide_every_second_column_row_or_both():
    grid = Grid(5, 6, (16, 16))
    noise = torch.zeros(2, 30)
    columns = masking.named_mask("vertical", grid, noise, 0.5).hidden().reshape(2, 5, 6)
    assert torch.equal(columns[0], torch.arange(6).remainder(2).bool().expand(5, -1))
    rows = masking.named_mask("horizontal", grid, noise, 0.5).hidden().reshape(2, 5, 6)
    assert torch.equal(rows[1], torch.arange(5).remainder(2).bool()[:, None].expand(-1, 6))
    board = masking.named_mask("chessboard", grid, noise, 0.5).hidden().reshape(2, 5, 6)
    assert torch.equal(board[0], rows[0] ^ columns[0])


@pytest.mark.parametrize(("ratio", "visible"), [(0.9, 10), (0.95, 5), (0.98, 2), (0.99, 1), (0.999, 1), (0.0, 95)])
def test_figures_show_as_many_patches_as_figure_4_of_the_msm_mae_paper(ratio, visible):
    noise = torch.rand(1, 95, generator=torch.Generator().manual_seed(0))
    mask = masking.named_mask("random", Grid(5, 19, (16, 16)), noise, ratio)
    assert mask.keep.shape == (1, visible)
    assert set(mask.keep[0].tolist()) == set(noise[0].argsort()[:visible].tolist())


@given(st.integers(1, 600), st.integers(0, 99))
def test_figures_hide_the_rounded_number_of_patches(patches, percent):
    mask = masking.named_mask("random", Grid(1, patches, (16, 16)), torch.rand(1, patches), percent / 100)
    wanted = -((50 - patches * percent) // 100)  # halves rounded down, in whole numbers
    assert mask.hide.shape[1] == min(patches - 1, wanted)


def test_a_pattern_that_hides_nothing_is_refused():
    with pytest.raises(ConfigError, match="hides nothing"):
        masking.named_mask("horizontal", Grid(1, 6, (80, 4)), torch.zeros(1, 6), 0.5)


def test_an_unknown_pattern_is_refused():
    with pytest.raises(ConfigError, match="unknown mask 'diagonal'"):
        masking.named_mask("diagonal", Grid(2, 2, (1, 1)), torch.zeros(1, 4), 0.5)


@given(st.lists(st.booleans(), min_size=2, max_size=40).filter(lambda flags: not all(flags)))
def test_a_given_mask_hides_exactly_what_it_says(flags):
    hidden = torch.tensor([flags])
    assert torch.equal(masking.mask_from_flags(hidden).hidden(), hidden)


def test_given_masks_with_unequal_counts_are_refused():
    with pytest.raises(ConfigError, match="same number"):
        masking.mask_from_flags(torch.tensor([[True, False, False], [True, True, False]]))


grids = st.builds(Grid, st.integers(1, 9), st.integers(1, 12), st.just((16, 16)), st.sampled_from(["freq", "time"]))
shares = st.floats(0, 0.95)


@given(grids, shares, shares, st.integers(0, 100))
def test_a_structured_mask_leaves_whole_rows_crossing_whole_columns(grid, rows, columns, seed):
    generator = torch.Generator().manual_seed(seed)
    noise = torch.rand(2, grid.freq, generator=generator), torch.rand(2, grid.time, generator=generator)
    mask = masking.structured(grid, *noise, (rows, columns))
    visible = torch.zeros(2, grid.freq, grid.time, dtype=torch.bool)
    visible[:, grid.rows(), grid.columns()] = ~mask.hidden()
    for crop in visible:
        assert int(crop.any(dim=1).sum()) == max(1, int(grid.freq * (1 - rows)))
        assert int(crop.any(dim=0).sum()) == max(1, int(grid.time * (1 - columns)))
        assert torch.equal(crop, crop.any(dim=1)[:, None] & crop.any(dim=0)[None, :])
    assert torch.equal(mask.keep, mask.keep.sort(dim=1).values)
    assert mask.hide.shape[1] == masking.num_hidden(grid, (rows, columns))


def test_a_structured_mask_keeps_the_smallest_noise():
    grid = Grid(3, 2, (16, 16), "time")
    mask = masking.structured(grid, torch.tensor([[0.9, 0.1, 0.5]]), torch.tensor([[0.7, 0.2]]), (0.3, 0.5))
    assert mask.keep.tolist() == [[4, 5]]  # rows 1 and 2 of column 1


@pytest.mark.parametrize("order", ["freq", "time"])
@pytest.mark.parametrize("real", [1, 3, 8])
def test_a_structured_mask_hears_padding_only_when_nothing_else_is_left(order, real):
    grid = Grid(4, 8, (16, 16), order)
    config = ModelConfig(mask_ratio_2d=(0.5, 0.5), token_order=order)
    valid = grid.valid(torch.tensor([real * 16]))
    mask = masking.training_mask(config, grid, torch.rand(1, 32, generator=torch.Generator().manual_seed(real)), valid)
    assert int(valid[0, mask.keep[0]].sum()) == 2 * min(real, 4)


def test_training_masks_follow_the_configuration_and_the_noise():
    grid, noise = Grid(5, 13, (16, 16)), torch.rand(3, 65, generator=torch.Generator().manual_seed(0))
    plain = masking.training_mask(ModelConfig(mask_ratio=0.6), grid, noise)
    assert torch.equal(plain.keep, masking.random(noise, 0.6).keep)
    axes = ModelConfig(mask_ratio_2d=(0.4, 0.5))
    first, second = (masking.training_mask(axes, grid, noise) for _ in range(2))
    assert torch.equal(first.keep, second.keep) and first.keep.shape[1] == 3 * 6
    assert len({tuple(row) for row in first.keep.tolist()}) == 3
    assert masking.masked_fraction(axes, grid) == first.hide.shape[1] / 65
    assert masking.masked_fraction(ModelConfig(mask_ratio=0.6), grid) == plain.hide.shape[1] / 65


def test_the_structured_pattern_hides_about_the_asked_share():
    grid = Grid(8, 64, (16, 16), "time")
    hidden = masking.named_mask("structured", grid, torch.rand(1, 512), 0.75).hidden()
    assert hidden.float().mean() == 0.75
    with pytest.raises(ConfigError, match="mask_ratio"):
        masking.named_mask("structured", grid, torch.rand(1, 512), 1.5)
