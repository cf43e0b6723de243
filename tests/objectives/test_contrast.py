"""The contrastive loss: closed forms, equal captions, missing captions, gradients."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from unheard.errors import ConfigError
from unheard.model.masked_model import MaskedPass
from unheard.model.masking import Mask
from unheard.objectives.base import Batch
from unheard.objectives.contrast import MAX_LOG_SCALE, ContrastConfig, ContrastiveLoss, matching
from unheard.objectives.teacher_schedules import TrainingProgress

B, N, K, D, T = 5, 8, 3, 8, 7
CONFIG = ContrastConfig(weight=1.0, text_dim=T, dim=6)


def unit(seed: int) -> torch.Tensor:
    return F.normalize(torch.randn(B, 6, generator=torch.Generator().manual_seed(seed)), dim=-1)


def contrast(a: torch.Tensor, c: torch.Tensor, numbers: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    both = matching(a, c, numbers, numbers, scale) + matching(c, a, numbers, numbers, scale)
    return both.sum() / (2 * (numbers >= 0).sum().clamp(min=1))


def by_hand(a: np.ndarray, c: np.ndarray, numbers: list[int], scale: float) -> float:
    """Over the windows with captions only, in float64."""
    known = [i for i, number in enumerate(numbers) if number >= 0]
    s = scale * a[known] @ c[known].T
    equal = np.array([[float(numbers[i] == numbers[j]) for j in known] for i in known])
    losses = []
    for scores in (s, s.T):
        log_p = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
        losses.append(np.mean(-(equal * log_p).sum(axis=1) / equal.sum(axis=1)))
    return float(np.mean(losses))


@pytest.mark.parametrize("numbers", [[0, 1, 2, 3, 4], [0, 1, 0, 2, 1], [0, -1, 2, -1, 0]])
def test_the_loss_is_its_equation(numbers: list[int]) -> None:
    a, c = unit(0), unit(1)
    found = contrast(a, c, torch.tensor(numbers), torch.tensor(9.0))
    assert float(found) == pytest.approx(by_hand(a.double().numpy(), c.double().numpy(), numbers, 9.0), rel=1e-5)


def test_different_captions_are_clip_s_cross_entropy() -> None:
    a, c = unit(0), unit(1)
    scores = 9.0 * a @ c.T
    clip = (F.cross_entropy(scores, torch.arange(B)) + F.cross_entropy(scores.T, torch.arange(B))) / 2
    torch.testing.assert_close(contrast(a, c, torch.arange(B), torch.tensor(9.0)), clip)


def test_without_captions_there_is_nothing_to_lose() -> None:
    a = unit(0).requires_grad_()
    loss = contrast(a, unit(1), torch.full((B,), -1), torch.tensor(9.0))
    loss.backward()
    assert float(loss.detach()) == 0 and float(a.grad.abs().sum()) == 0


def a_pass() -> MaskedPass:
    generator = torch.Generator().manual_seed(0)
    order = torch.stack([torch.randperm(N, generator=generator) for _ in range(B)])
    visible = torch.randn(B, K, D, generator=generator).requires_grad_()
    return MaskedPass(torch.zeros(B, N, 2), Mask(order[:, :K], order[:, K:]), visible, None, torch.zeros(B, N, 0))


def a_batch() -> Batch:
    none = torch.zeros(B, dtype=torch.int64)
    text = torch.randn(B, T, generator=torch.Generator().manual_seed(2))
    valid = torch.ones(B, N, dtype=torch.bool)
    captions = torch.tensor([3, 1, 3, -1, 0])
    return Batch(
        torch.zeros(B, 1, 1), valid, none, none, torch.zeros(B), torch.zeros(B, N), text=text, captions=captions
    )


def test_the_gradient_reaches_sounds_with_captions_only() -> None:
    torch.manual_seed(0)
    out, objective = a_pass(), ContrastiveLoss(CONFIG, D)
    objective(out, a_batch()).backward()
    reached = (out.visible.grad.abs().sum(dim=(1, 2)) > 0).tolist()
    assert reached == [True, True, True, False, True]
    assert all(p.grad is not None and bool((p.grad != 0).any()) for p in objective.parameters() if p.dim() > 0)


def test_the_scale_is_learned_and_bounded() -> None:
    objective = ContrastiveLoss(CONFIG, D)
    assert float(objective.scale().detach()) == pytest.approx(1 / 0.07, rel=1e-5)
    torch.nn.init.constant_(objective.log_scale, MAX_LOG_SCALE + 0.01)
    objective(a_pass(), a_batch()).backward()
    assert float(objective.log_scale.grad.abs()) > 0  # above its bound it still has a gradient, and can come back
    objective.after_step(TrainingProgress(1, 10))
    assert float(objective.scale().detach()) == pytest.approx(np.exp(MAX_LOG_SCALE), rel=1e-5)


def test_pairs_are_separated_after_a_few_steps() -> None:
    torch.manual_seed(0)
    objective, out, batch = ContrastiveLoss(CONFIG, D), a_pass(), replace(a_batch(), captions=torch.arange(B))
    optimiser = torch.optim.Adam(objective.parameters(), 1e-2)
    for _ in range(200):
        optimiser.zero_grad()
        loss = objective(out, batch)
        loss.backward()
        optimiser.step()
    similar = objective.sounds(out, batch) @ objective.captions(batch.text).T
    assert similar.argmax(dim=1).tolist() == list(range(B)) and float(loss.detach()) < 0.05


def test_what_is_missing_is_reported() -> None:
    with pytest.raises(ConfigError, match="text_dim"):
        ContrastiveLoss(ContrastConfig(weight=1.0), D)
    with pytest.raises(ConfigError, match="captions"):
        ContrastiveLoss(CONFIG, D)(a_pass(), replace(a_batch(), text=None))


def test_similarities_are_exact_under_autocast() -> None:
    a, c, numbers = unit(0), unit(1), torch.arange(B)
    exact = contrast(a, c, numbers, torch.tensor(90.0))
    with torch.autocast("cpu", torch.bfloat16):
        rounded = contrast(a, c, numbers, torch.tensor(90.0))
    assert rounded.dtype == torch.float32
    torch.testing.assert_close(rounded, exact)
