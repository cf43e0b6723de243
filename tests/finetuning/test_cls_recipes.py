"""Settings that the fine-tuning recipes of EAT and BAT need."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from unheard.audio.frontend import Statistics
from unheard.config import override
from unheard.finetuning.augment import AugmentBatch, mixup
from unheard.finetuning.learning_rates import layer_scale, rate_at
from unheard.finetuning.named_recipes import find_finetune_recipe
from unheard.finetuning.network import FinetuneModule, FinetuneSetup, Network, begin, build_optimiser
from unheard.model.classification import asymmetric_losses, clip_losses, smoothed
from unheard.recipes import find_recipe
from unheard.recipes.learner import build
from unheard.weights.checkpoint import Provenance, SavedModel


def test_asymmetric_losses_weight_negatives_by_their_score() -> None:
    logits = torch.tensor([[2.0, -1.0]], requires_grad=True)
    score = torch.sigmoid(torch.tensor([2.0, -1.0]))
    losses = asymmetric_losses(logits, torch.tensor([[1.0, 0.0]]))
    expected = (-score[0].log() - score[1] * (1 - score[1]).log()) / 2
    assert float(losses.detach()) == pytest.approx(float(expected), rel=1e-6)
    losses.sum().backward()
    assert float(logits.grad[0, 1]) == pytest.approx(float(score[1] ** 2 / 2), rel=1e-5)  # the weight has no gradient


def test_label_smoothing_is_that_of_torch() -> None:
    logits, target = torch.randn(5, 4), torch.tensor([0, 1, 2, 3, 1])
    found = clip_losses(logits, smoothed(F.one_hot(target, 4).float(), 0.1), False)
    torch.testing.assert_close(found, F.cross_entropy(logits, target, label_smoothing=0.1, reduction="none"))


@pytest.mark.parametrize("share", ["clip", "batch"])
def test_mixup_with_the_reversed_batch(share: str) -> None:
    values = torch.eye(4)[:, None].repeat(1, 2, 1)
    clips = AugmentBatch(values, torch.full((4,), 4), torch.eye(4), torch.ones(4, 4))
    mixed = mixup(clips, 1.0, 0.8, torch.Generator().manual_seed(0), share_of=share, partner_of="reversed")  # type: ignore[arg-type]
    torch.testing.assert_close(mixed.values[:, 0], mixed.target)
    own, other = mixed.target.diagonal(), mixed.target.flip(0).diagonal()
    torch.testing.assert_close(mixed.target.sum(dim=1), torch.ones(4))
    assert (own > 0).all() and (mixed.target.flip(1).diagonal() > 0).all() and other.shape == own.shape
    assert (len(own.unique()) == 1) == (share == "batch")


def test_only_blocks_decay_in_eat() -> None:
    assert layer_scale("encoder.patch_embed.weight", 12, 0.65, False) == 1
    assert layer_scale("encoder.transformer.blocks.0.fc1.weight", 12, 0.65, False) == pytest.approx(0.65**12)
    assert layer_scale("encoder.patch_embed.weight", 12, 0.75) == pytest.approx(0.75**13)


def test_the_rate_of_bat_has_a_floor() -> None:
    recipe = find_finetune_recipe("bat-20k")
    assert [rate_at(step / 40_000, recipe) for step in (0, 2_000, 4_000, 40_000)] == pytest.approx(
        [1e-6, 2.5e-5, 5e-5, 1e-6]
    )


@pytest.mark.parametrize("name", ["eat-20k", "eat-esc50", "bat-20k", "bat-esc50"])
def test_the_cls_token_is_tuned_with_a_norm_and_a_dropout_of_the_head(name: str) -> None:
    sizes = ["frames=64", "embed_dim=24", "depth=2", "num_heads=2", "decoder_embed_dim=24", "decoder_num_heads=2"]
    base = override(find_recipe(name.partition("-")[0]), [f"model.{size}" for size in sizes])
    recipe = find_finetune_recipe(name)
    several = recipe.task.loss == "bce"
    start = FinetuneSetup(recipe, ("a", "b", "c"), "sigmoid" if several else "softmax", "here")
    saved = begin(SavedModel(build(base), base, Statistics((0.0,), (1.0,)), Provenance()), start)
    assert saved.classifier is not None and isinstance(saved.classifier.norm, torch.nn.LayerNorm)
    tuned = FinetuneModule(Network(saved.learner.model.encoder, saved.classifier, recipe.augment), recipe).train()
    assert tuned.network.classifier.dropout == recipe.adapt.head_dropout
    target = F.one_hot(torch.tensor([0, 1, 2, 0]), 3).float()
    clips = AugmentBatch(torch.randn(4, 128, 64), torch.full((4,), 64), target, torch.ones(4, 3))
    tuned(clips).backward()
    token = tuned.network.encoder.cls_token
    assert token is not None and token.grad is not None and token.grad.abs().sum() > 0
    decays = {group["weight_decay"] for group in build_optimiser(tuned).param_groups}
    assert decays == ({0.05} if name.startswith("eat") else {0.05, 0.0})
