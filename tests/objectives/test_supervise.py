"""The supervised branch: closed forms, unlabelled windows, gradients."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from unheard.config import override
from unheard.errors import ConfigError
from unheard.model.masked_model import MaskedPass
from unheard.model.masking import Mask, random
from unheard.objectives.base import Batch
from unheard.objectives.supervise import ClassificationLoss, SuperviseConfig
from unheard.recipes import find_recipe
from unheard.recipes.learner import build

B, N, K, D, C = 4, 8, 3, 8, 5
SIZES = (
    "frames=32",
    "embed_dim=32",
    "depth=1",
    "num_heads=2",
    "decoder_embed_dim=16",
    "decoder_depth=1",
    "decoder_num_heads=2",
)
SMALL = override(
    find_recipe("msm-mae"),
    [
        *(f"model.{size}" for size in SIZES),
        "objectives.supervise.weight=1",
        'objectives.supervise.classes=["a","b","c","d","e"]',
    ],
)
CONFIG = SuperviseConfig(weight=1.0, classes=tuple("abcde"))


def a_pass() -> MaskedPass:
    generator = torch.Generator().manual_seed(0)
    order = torch.stack([torch.randperm(N, generator=generator) for _ in range(B)])
    visible = torch.randn(B, K, D, generator=generator)
    return MaskedPass(torch.zeros(B, N, 2), Mask(order[:, :K], order[:, K:]), visible, None, torch.zeros(B, N, 0))


def a_batch(batch: int = B, patches: int = N) -> Batch:
    generator = torch.Generator().manual_seed(5)
    none = torch.zeros(batch, dtype=torch.int64)
    labels = (torch.rand(batch, C, generator=generator) < 0.4).float()
    known = torch.tensor([True, False, True, True][:batch])
    valid = torch.ones(batch, patches, dtype=torch.bool)
    return Batch(
        torch.zeros(batch, 1, 1),
        valid,
        none,
        none,
        torch.zeros(batch),
        torch.zeros(batch, patches),
        labels=labels,
        has_labels=known,
    )


@pytest.mark.parametrize("loss", ["bce", "cross-entropy"])
@pytest.mark.parametrize("temperature", [1.0, 10.0])
def test_the_loss_is_its_equation(loss: str, temperature: float) -> None:
    torch.manual_seed(1)
    objective = ClassificationLoss(replace(CONFIG, loss=loss, temperature=temperature), D)  # type: ignore[arg-type]
    out, batch = a_pass(), a_batch()
    logits = objective.head(out.visible.mean(dim=1)).detach().double().numpy() / temperature
    labels, known = batch.labels.double().numpy(), batch.has_labels.numpy()
    if loss == "bce":
        each = -(
            labels * np.log(1 / (1 + np.exp(-logits))) + (1 - labels) * np.log(1 - 1 / (1 + np.exp(-logits)))
        ).mean(axis=1)
    else:
        log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        each = -(labels / np.maximum(labels.sum(axis=1, keepdims=True), 1) * log_p).sum(axis=1)
    assert float(objective(out, batch).detach()) == pytest.approx(each[known].mean(), rel=1e-5)


def test_unlabelled_windows_count_for_nothing() -> None:
    objective, out, batch = ClassificationLoss(CONFIG, D), a_pass(), a_batch()
    changed = replace(batch, labels=torch.where(batch.has_labels[:, None], batch.labels, 1 - batch.labels))
    torch.testing.assert_close(objective(out, batch), objective(out, changed))
    unlabelled = objective(out, replace(batch, has_labels=torch.zeros(B, dtype=torch.bool)))
    unlabelled.backward()
    assert float(unlabelled.detach()) == 0 and all(float(p.grad.abs().sum()) == 0 for p in objective.parameters())


def test_padding_is_not_pooled() -> None:
    objective, out, batch = ClassificationLoss(CONFIG, D), a_pass(), a_batch()
    valid = batch.valid.clone()
    padded = int(out.mask.keep[0, 1])
    valid[0, padded] = False
    louder = replace(out, visible=out.visible.clone())
    louder.visible[0, 1] = 1e3
    batch = replace(batch, valid=valid)
    torch.testing.assert_close(objective(out, batch), objective(louder, batch))


def test_alone_it_moves_the_encoder_and_leaves_the_decoder_out() -> None:
    learner = build(override(SMALL, ["objectives.reconstruct.weight=0"]), seed=0)
    patches = learner.grid.num_patches
    spec = torch.randn(B, learner.grid.n_mels, learner.grid.frames, generator=torch.Generator().manual_seed(0))
    batch = replace(a_batch(patches=patches), spec=spec)
    learner.losses(batch, random(torch.rand(B, patches), 0.75, batch.valid))["loss"].backward()
    moved = {name for name, p in learner.named_parameters() if p.grad is not None and bool((p.grad != 0).any())}
    assert any(name.startswith("model.encoder.") for name in moved) and not any(
        name.startswith("model.decoder.") for name in moved
    )
    assert [name for name, p in learner.named_parameters() if p.requires_grad and p.grad is None] == []


def test_with_reconstruction_both_are_weighed() -> None:
    learner = build(override(SMALL, ["objectives.supervise.weight=0.25"]), seed=0)
    patches = learner.grid.num_patches
    spec = torch.randn(B, learner.grid.n_mels, learner.grid.frames, generator=torch.Generator().manual_seed(0))
    batch = replace(a_batch(patches=patches), spec=spec)
    losses = learner.losses(batch, random(torch.rand(B, patches), 0.75, batch.valid))
    torch.testing.assert_close(losses["loss"], losses["loss/reconstruct"] + 0.25 * losses["loss/supervise"])


def test_what_is_missing_is_reported() -> None:
    with pytest.raises(ConfigError, match="classes"):
        ClassificationLoss(SuperviseConfig(weight=1.0), D)
    with pytest.raises(ConfigError, match="labels"):
        ClassificationLoss(CONFIG, D)(a_pass(), replace(a_batch(), labels=None))


def test_a_few_windows_are_learned_by_heart() -> None:
    learner = build(override(SMALL, ["objectives.reconstruct.weight=0"]), seed=0)
    patches = learner.grid.num_patches
    spec = torch.randn(B, learner.grid.n_mels, learner.grid.frames, generator=torch.Generator().manual_seed(0))
    batch = replace(a_batch(patches=patches), spec=spec)
    mask = random(torch.rand(B, patches, generator=torch.Generator().manual_seed(0)), 0.5, batch.valid)
    optimiser = torch.optim.AdamW(learner.parameters(), 3e-3)
    losses = []
    for _ in range(60):
        optimiser.zero_grad()
        loss = learner.losses(batch, mask)["loss"]
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.02 < 0.5 < losses[0]
