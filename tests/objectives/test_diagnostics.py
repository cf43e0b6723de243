"""Diagnostics of collapse against closed forms."""

from __future__ import annotations

import pytest
import torch

from unheard.objectives.diagnostics import (
    between_clip_variance,
    effective_rank,
    feature_std,
    perplexity,
    shares,
    spread,
)

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


def test_rank_counts_the_directions_features_vary_in() -> None:
    generator = torch.Generator().manual_seed(3)
    signs = torch.where(torch.rand(B, M, 2, generator=generator) < 0.5, -1.0, 1.0)
    two = torch.cat([signs, torch.ones(B, M, 1), torch.zeros(B, M, D - 3)], dim=2)
    assert effective_rank(two, EVERY).item() == pytest.approx(2, abs=0.1)
    assert effective_rank(two[:1, :1].expand(B, M, D), EVERY).item() == pytest.approx(1, abs=0.01)
    assert 0.85 * D < effective_rank(features(), EVERY).item() <= D


def test_patches_that_look_alike_within_a_clip_share_everything() -> None:
    assert between_clip_variance(features()[:, :1].expand(B, M, D), EVERY).item() == pytest.approx(1, abs=1e-5)
    assert between_clip_variance(features(), EVERY).item() < 0.02
    weights = EVERY.clone()
    weights[:, 10:] = 0
    garbage = torch.where(weights.bool()[..., None], features()[:, :1], features())
    assert between_clip_variance(garbage, weights).item() == pytest.approx(1, abs=1e-5)
