"""The recipe maskspec has the published numbers, and it learns."""

from __future__ import annotations

import pytest
import torch

from unheard.audio.kaldi import MASKSPEC
from unheard.config import override
from unheard.finetuning.learning_rates import decays, layer_scale
from unheard.model import masking
from unheard.model.sizes import resolve_sizes
from unheard.objectives.base import Batch
from unheard.recipes import find_recipe
from unheard.recipes.learner import build, grid_of
from unheard.training.optim import learning_rate, peak_learning_rate


def test_it_has_the_published_numbers() -> None:
    recipe = find_recipe("maskspec")
    assert recipe.frontend == MASKSPEC and recipe.objectives.reconstruct.norm_pix and recipe.data.input == "wav"
    assert grid_of(recipe).num_patches == 496 and masking.num_keep(496, recipe.model.mask_ratio) == 124
    training = recipe.training
    assert peak_learning_rate(training) == pytest.approx(2e-3)
    assert (training.epochs, training.warmup, training.weight_decay, training.betas) == (400, 0.1, 0.05, (0.9, 0.95))


@pytest.mark.parametrize(("size", "dim", "heads"), [("base", 768, 12), ("small", 384, 6), ("tiny", 192, 3)])
def test_every_size_has_the_same_decoder(size: str, dim: int, heads: int) -> None:
    found = resolve_sizes(override(find_recipe("maskspec"), [f"model.size={size}"]).model)
    assert (found.embed_dim, found.depth, found.num_heads) == (dim, 12, heads)
    assert (found.decoder_embed_dim, found.decoder_depth, found.decoder_num_heads) == (512, 8, 16)


def test_the_base_model_has_the_published_number_of_weights() -> None:
    learner = build(find_recipe("maskspec"))
    trained = sum(p.numel() for p in learner.parameters())
    assert trained == pytest.approx(111.0e6, rel=1e-3)
    encoder, positions = (
        sum(p.numel() for p in learner.model.encoder.parameters()),
        497 * 768,
    )  # published counts have the fixed table
    assert encoder + positions == pytest.approx(85.6e6, rel=1e-3)


def test_it_learns_a_window_by_heart() -> None:
    sizes = [
        "model.frames=32",
        "model.embed_dim=32",
        "model.depth=1",
        "model.num_heads=2",
        "model.decoder_embed_dim=32",
    ]
    learner = build(override(find_recipe("maskspec"), [*sizes, "model.decoder_depth=1", "model.decoder_num_heads=2"]))
    draw = torch.Generator().manual_seed(0)
    spec, noise = torch.randn(2, 128, 32, generator=draw), torch.rand(2, 16, generator=draw)
    count = torch.arange(2)
    batch = Batch(spec, torch.ones(2, 16, dtype=torch.bool), count, count, count.float(), noise)
    optimiser = torch.optim.Adam(learner.parameters(), 5e-3)
    losses = []
    for _ in range(150):
        loss = learner.losses(batch, masking.random(noise, 0.75))["loss"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[0] > 0.9 and losses[-1] < 0.05


def test_layer_rates_fall_towards_the_input() -> None:
    assert layer_scale("transformer.blocks.11.fc1.weight", 12, 0.75) == 0.75
    assert layer_scale("model.encoder.transformer.blocks.0.norm1.bias", 12, 0.75) == pytest.approx(0.75**12)
    assert {
        layer_scale(f"model.encoder.{name}", 12, 0.75) for name in ("cls_token", "positions", "patch_embed.bias")
    } == {0.75**13}
    assert (
        layer_scale("classifier.head.weight", 12, 0.75)
        == layer_scale("model.encoder.transformer.norm.bias", 12, 0.75)
        == 1
    )
    assert decays("transformer.blocks.0.fc1.weight", 2) and not decays("positions", 2) and not decays("cls_token", 1)


def test_the_schedule_ends_at_the_lowest_rate() -> None:
    assert learning_rate(1.0, 1e-3, 0.1, 1e-6) == pytest.approx(1e-6)
    assert learning_rate(0.1, 1e-3, 0.1, 1e-6) == pytest.approx(1e-3)
