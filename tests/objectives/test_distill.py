"""Feature distillation from frozen teachers: closed forms, layers, gradients, running statistics."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from unheard.config import override
from unheard.errors import ConfigError
from unheard.model.masked_model import MaskedPass
from unheard.model.masking import Mask, random
from unheard.objectives.base import Batch
from unheard.objectives.distill import DistillConfig, DistillObjective, DistillTeacher
from unheard.objectives.teacher_loss import MOMENTUM
from unheard.objectives.teacher_schedules import TrainingProgress
from unheard.recipes import find_recipe
from unheard.recipes.learner import PretrainModule, build

B, N, K, D, E, C, DEPTH = 3, 8, 3, 8, 4, 6, 4
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
    [*(f"model.{size}" for size in SIZES), "objectives.distill.weight=1", f"objectives.distill.teachers.0.dim={C}"],
)
ONLY = override(SMALL, ["objectives.reconstruct.weight=0"])
TEACHER = DistillTeacher("T", dim=C, standardise="none")
PLAIN = DistillConfig(1.0, (TEACHER,))
SHARED = {"visible_features", "heads", "balance"}


def config_of(**changed: object) -> DistillConfig:
    """One teacher, with some settings changed."""
    shared = {name: value for name, value in changed.items() if name in SHARED}
    own = {name: value for name, value in changed.items() if name not in SHARED}
    return replace(PLAIN, teachers=(replace(TEACHER, **own),), **shared)


def a_pass(seed: int = 0) -> MaskedPass:
    generator = torch.Generator().manual_seed(seed)
    order = torch.stack([torch.randperm(N, generator=generator) for _ in range(B)])
    visible, decoded = torch.randn(B, K, D, generator=generator), torch.randn(B, N, E, generator=generator)
    return MaskedPass(torch.zeros(B, N, 2), Mask(order[:, :K], order[:, K:]), visible, None, decoded)


def a_batch(valid: Tensor | None = None, targets: Tensor | None = None, spec: Tensor | None = None) -> Batch:
    valid = torch.ones(B, N, dtype=torch.bool) if valid is None else valid
    none = torch.zeros(len(valid), dtype=torch.int64)
    if targets is None:
        targets = torch.randn(*valid.shape, C, generator=torch.Generator().manual_seed(7))
    spec = torch.zeros(len(valid), 1, 1) if spec is None else spec
    return Batch(spec, valid, none, none, torch.zeros(len(valid)), torch.zeros(valid.shape), targets=(targets,))


def built(config: DistillConfig) -> DistillObjective:
    torch.manual_seed(3)
    objective = DistillObjective(config, D, E, DEPTH)
    for parameter in objective.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return objective


def by_hand(objective: DistillObjective, out: MaskedPass, batch: Batch, config: DistillConfig) -> float:
    """Patch by patch, in float64."""
    term, teacher = objective.terms[0], config.teachers[0]

    def predict(tokens: Tensor, head: torch.nn.Sequential) -> np.ndarray:
        x = tokens.double().numpy()
        norm, linear = head[0], head[1]
        x = (x - x.mean()) / np.sqrt(x.var() + 1e-6) * norm.weight.detach().numpy() + norm.bias.detach().numpy()
        return linear.weight.detach().numpy() @ x + linear.bias.detach().numpy()

    def apart(y: np.ndarray, t: np.ndarray) -> float:
        if teacher.distance == "cosine":
            return 1 - y @ t / np.linalg.norm(y) / np.linalg.norm(t)
        d = np.abs(y - t)
        return float(np.mean(d**2 if teacher.distance == "mse" else np.where(d < 1, d**2 / 2, d - 0.5)))

    head, wide = term.heads[0], term.decoder_to_encoder_proj
    hidden_head = term.hidden_head or head
    seen, from_decoder = [], []
    for clip in range(B):
        for place, patch in enumerate(out.mask.keep[clip].tolist()):
            if batch.valid[clip, patch]:
                tokens = (
                    out.visible[clip, place]
                    if config.visible_features == "encoder"
                    else wide(out.decoded[clip, patch]).detach()
                )
                seen.append(apart(predict(tokens, head), batch.targets[0][clip, patch].double().numpy()))
        for patch in out.mask.hide[clip].tolist():
            if batch.valid[clip, patch]:
                from_decoder.append(
                    apart(
                        predict(wide(out.decoded[clip, patch]).detach(), hidden_head),
                        batch.targets[0][clip, patch].double().numpy(),
                    )
                )
    if config.balance == "tokens":
        return float(
            np.sum([*(teacher.visible * v for v in seen), *(teacher.hidden * v for v in from_decoder)])
            / (len(seen) + len(from_decoder))
        )
    return float(teacher.visible * np.mean(seen) + teacher.hidden * np.mean(from_decoder))


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"visible": 0.3, "hidden": 2.0},
        {"visible_features": "decoder"},
        {"heads": "separate"},
        {"distance": "mse"},
        {"distance": "smooth-l1"},
        {"balance": "tokens"},
    ],
)
def test_the_loss_is_its_equation(changed: dict[str, object]) -> None:
    config = config_of(**changed)
    out, objective = a_pass(), built(config)
    valid = torch.ones(B, N, dtype=torch.bool)
    valid[0, 5:] = False
    batch = a_batch(valid)
    assert float(objective(out, batch).detach()) == pytest.approx(by_hand(objective, out, batch, config), rel=1e-5)


def test_nothing_is_lost_when_the_student_says_the_same() -> None:
    out, objective = a_pass(), built(PLAIN)
    targets = torch.zeros(B, N, C)
    with torch.no_grad():
        predicted_visible, predicted_hidden = (
            objective.terms[0].heads[0](out.visible),
            objective.terms[0].heads[0](objective.terms[0].decoder_to_encoder_proj(out.decoded)),
        )
        targets.scatter_(
            1,
            out.mask.hide[..., None].expand(-1, -1, C),
            torch.gather(predicted_hidden, 1, out.mask.hide[..., None].expand(-1, -1, C)),
        )
        targets.scatter_(1, out.mask.keep[..., None].expand(-1, -1, C), predicted_visible)
    assert float(objective(out, a_batch(targets=targets)).detach()) == pytest.approx(0, abs=1e-5)


def test_the_pooled_term_compares_means() -> None:
    out, objective = a_pass(), built(config_of(visible=0.0, hidden=0.0, pooled=2.0))
    batch = a_batch()
    predict = objective.terms[0].heads[0](out.visible.mean(dim=1))
    expected = 2 * (1 - torch.nn.functional.cosine_similarity(predict, batch.targets[0].mean(dim=1), dim=-1)).mean()
    torch.testing.assert_close(objective(out, batch), expected)


def test_padding_does_not_count() -> None:
    out, objective = a_pass(), built(PLAIN)
    valid = torch.ones(B, N, dtype=torch.bool)
    valid[1, 3:] = False
    batch = a_batch(valid)
    changed = replace(batch, targets=(torch.where(valid[..., None], batch.targets[0], 99.0),))
    torch.testing.assert_close(objective(out, batch), objective(out, changed))


def gradients(recipe_settings: list[str]) -> tuple[PretrainModule, Batch]:
    """One backward pass of a whole learner on random sound."""
    learner = build(override(ONLY, recipe_settings), seed=0)
    n = learner.grid.num_patches
    generator = torch.Generator().manual_seed(0)
    spec = torch.randn(2, learner.grid.n_mels, learner.grid.frames, generator=generator)
    batch = a_batch(torch.ones(2, n, dtype=torch.bool), torch.randn(2, n, C, generator=generator), spec)
    learner.losses(batch, random(torch.rand(2, n, generator=generator), 0.75, batch.valid))["loss"].backward()
    return learner, batch


def touched(learner: PretrainModule, part: str) -> bool:
    """Whether any weight of a part has a gradient other than zero."""
    found = [p.grad for name, p in learner.named_parameters() if name.startswith(part) and p.grad is not None]
    return any(bool((grad != 0).any()) for grad in found)


def test_the_visible_loss_from_the_encoder_does_not_touch_the_decoder() -> None:
    learner, _ = gradients(["objectives.distill.teachers.0.hidden=0"])
    assert (
        touched(learner, "model.encoder")
        and touched(learner, "objectives.distill.terms.0.heads")
        and not touched(learner, "model.decoder")
    )
    assert not learner.model.use_decoder


def test_the_hidden_loss_reaches_encoder_and_decoder() -> None:
    learner, _ = gradients(["objectives.distill.teachers.0.visible=0"])
    assert touched(learner, "model.encoder") and touched(learner, "model.decoder")


def test_every_trained_weight_gets_a_gradient() -> None:
    for settings in (
        [],
        ["objectives.distill.heads=separate"],
        ["objectives.distill.teachers.0.visible=0", "objectives.distill.heads=separate"],
    ):
        learner, _ = gradients(settings)
        assert [name for name, p in learner.named_parameters() if p.requires_grad and p.grad is None] == []


def test_targets_are_standardised_by_running_statistics() -> None:
    out, objective = a_pass(), built(config_of(standardise="running"))
    first, second = a_batch(), a_batch(targets=5 + 3 * torch.randn(B, N, C, generator=torch.Generator().manual_seed(1)))
    mean, std = first.targets[0].mean((0, 1)), first.targets[0].var((0, 1), unbiased=False).sqrt()
    plain = DistillObjective(PLAIN, D, E, DEPTH)
    plain.load_state_dict(objective.state_dict())
    expected = plain(out, replace(first, targets=((first.targets[0] - mean) / std,)))
    torch.testing.assert_close(objective(out, first), expected, rtol=1e-4, atol=1e-5)
    objective.after_step(TrainingProgress(1, 10))
    torch.testing.assert_close(objective.terms[0].running[0], mean)
    objective(out, second)
    objective.after_step(TrainingProgress(2, 10))
    torch.testing.assert_close(
        objective.terms[0].running[0], MOMENTUM * mean + (1 - MOMENTUM) * second.targets[0].mean((0, 1))
    )


def test_evaluation_leaves_the_statistics_alone() -> None:
    out, objective = a_pass(), built(config_of(standardise="running"))
    objective(out, a_batch())
    objective.after_step(TrainingProgress(1, 10))
    before = objective.terms[0].running.clone()
    objective.eval()(out, a_batch(targets=100 * torch.ones(B, N, C)))
    objective.after_step(TrainingProgress(2, 10))
    torch.testing.assert_close(objective.terms[0].running, before)


def test_what_is_missing_is_reported() -> None:
    for config, words in (
        (DistillConfig(1.0), "teacher"),
        (DistillConfig(1.0, ()), "has no teacher"),
        (config_of(visible=0.0, hidden=0.0), "has no active term"),
        (config_of(layers=(2, 9)), "names layer 9; the encoder has layers 1 to 4"),
        (config_of(layers=(2,), visible_features="decoder"), "layers of the encoder"),
    ):
        with pytest.raises(ConfigError, match=words):
            built(config)
    for targets in (None, (torch.zeros(B, N, C),) * 2):
        with pytest.raises(ConfigError, match="targets"):
            built(PLAIN)(a_pass(), replace(a_batch(), targets=targets))


def test_a_tiny_student_learns_its_teacher() -> None:
    learner, batch = gradients([])
    optimiser = torch.optim.AdamW(learner.parameters(), 3e-3)
    mask = random(torch.rand(2, learner.grid.num_patches, generator=torch.Generator().manual_seed(1)), 0.5, batch.valid)
    losses = []
    for step in range(60):
        optimiser.zero_grad()
        loss = learner.losses(batch, mask)["loss"]
        loss.backward()
        optimiser.step()
        learner.after_step(TrainingProgress(step + 1, 60))
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.3 * losses[0]
