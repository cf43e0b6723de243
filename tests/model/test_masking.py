import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from unheard.errors import ConfigError
from unheard.model import masking
from unheard.model.patches import Grid


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
    [(95, 0.4, 57), (95, 0.75, 23), (95, 0.98, 1), (95, 0.99, 1), (190, 0.7, 57), (190, 0.8, 37), (190, 0.9, 18), (30, 0.9, 2)],
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
    columns = masking.pattern("vertical", grid, noise, 0.5).hidden().reshape(2, 5, 6)
    assert torch.equal(columns[0], torch.arange(6).remainder(2).bool().expand(5, -1))
    rows = masking.pattern("horizontal", grid, noise, 0.5).hidden().reshape(2, 5, 6)
    assert torch.equal(rows[1], torch.arange(5).remainder(2).bool()[:, None].expand(-1, 6))
    board = masking.pattern("chessboard", grid, noise, 0.5).hidden().reshape(2, 5, 6)
    assert torch.equal(board[0], rows[0] ^ columns[0])


def test_a_pattern_that_hides_nothing_is_refused():
    with pytest.raises(ConfigError, match="hides nothing"):
        masking.pattern("horizontal", Grid(1, 6, (80, 4)), torch.zeros(1, 6), 0.5)


def test_an_unknown_pattern_is_refused():
    with pytest.raises(ConfigError, match="unknown mask 'diagonal'"):
        masking.pattern("diagonal", Grid(2, 2, (1, 1)), torch.zeros(1, 4), 0.5)


@given(st.lists(st.booleans(), min_size=2, max_size=40).filter(lambda flags: not all(flags)))
def test_a_given_mask_hides_exactly_what_it_says(flags):
    hidden = torch.tensor([flags])
    assert torch.equal(masking.given(hidden).hidden(), hidden)


def test_given_masks_with_unequal_counts_are_refused():
    with pytest.raises(ConfigError, match="same number"):
        masking.given(torch.tensor([[True, False, False], [True, True, False]]))
