"""Numbers that tell of collapse mean what they say."""

from __future__ import annotations

import pytest
import torch

from unheard.objectives.diagnostics import content_std, feature_std, perplexity, shares, spread

B, M, D = 4, 200, 64
EVERY = torch.ones(B, M)


def features(seed: int = 0) -> torch.Tensor:
    return torch.randn(B, M, D, generator=torch.Generator().manual_seed(seed))


def test_features_that_point_everywhere_have_a_deviation_of_1_whatever_their_length() -> None:
    assert feature_std(features(), EVERY).item() == pytest.approx(1, abs=0.02)
    assert feature_std(100 * features(), EVERY).item() == pytest.approx(1, abs=0.02)


def test_equal_features_have_next_to_none() -> None:
    assert feature_std(features()[:1, :1].expand(B, M, D), EVERY).item() < 0.01


def test_padding_does_not_count() -> None:
    weights = (torch.rand(B, M, generator=torch.Generator().manual_seed(1)) < 0.5).float()
    kept = features()[weights.bool()]
    assert spread(features(), weights).item() == pytest.approx((kept.var(dim=0) + 1e-6).sqrt().mean().item(), rel=1e-5)
    assert torch.isfinite(spread(features(), torch.zeros(B, M)))


def test_perplexity_counts_outcomes_used_alike() -> None:
    assert perplexity(torch.full((8,), 1 / 8)).item() == pytest.approx(8)
    assert perplexity(torch.tensor([0.5, 0.5, 0, 0])).item() == pytest.approx(2)
    assert perplexity(torch.tensor([1.0, 0, 0])).item() == pytest.approx(1)


def test_shares_add_up_the_weight_of_each_kind() -> None:
    found = shares(torch.tensor([[0, 2], [2, 1]]), torch.tensor([[1.0, 1.0], [1.0, 0.0]]), 4)
    assert found.tolist() == [1, 0, 2, 0]


def test_features_that_tell_only_the_place_have_no_content() -> None:
    generator = torch.Generator().manual_seed(2)
    index = torch.stack([torch.randperm(300, generator=generator)[:M] for _ in range(B)])
    placed = torch.randn(300, D, generator=generator)[index]
    assert feature_std(placed, EVERY) > 0.9 and content_std(placed, index, EVERY, 300) < 0.01
    assert content_std(features(), index, EVERY, 300).item() == pytest.approx(1, abs=0.05)
    some = (index < 250).float()
    garbage = torch.where(some.bool()[..., None], placed, features())
    assert content_std(garbage, index, some, 300) < 0.01
