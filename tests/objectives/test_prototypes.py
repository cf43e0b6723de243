"""Classification by prototypes: closed forms, the centre, initial weights of the heads, gradients."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax
from torch import Tensor

from unheard.config import override
from unheard.errors import ConfigError
from unheard.model.masked_model import MaskedPass
from unheard.model.masking import Mask, random
from unheard.objectives.base import Batch
from unheard.objectives.prototypes import TEACHER_STD, PrototypeHead, Prototypes, PrototypesConfig, head_sizes
from unheard.objectives.teacher_schedules import TeacherConfig, TrainingProgress
from unheard.recipes import find_recipe
from unheard.recipes.learner import PretrainModule, build

B, N, K, D, KINDS = 3, 8, 3, 6, 10
CONFIG = PrototypesConfig(weight=1.0, prototypes=KINDS, hidden_dim=12, bottleneck_dim=5, teacher_temp_warmup=0.5)
SIZES = (
    "frames=32",
    "embed_dim=32",
    "depth=1",
    "num_heads=2",
    "decoder_embed_dim=32",
    "decoder_depth=1",
    "decoder_num_heads=2",
)
HEAD = [f"objectives.prototypes.{size}" for size in ("prototypes=12", "hidden_dim=16", "bottleneck_dim=8")]
SMALL = override(find_recipe("matpac++"), [*(f"model.{size}" for size in SIZES), *HEAD, "model.num_hypotheses=3"])
EVERY = torch.ones(B, N, dtype=torch.bool)


def objective(config: PrototypesConfig = CONFIG, copied: bool = False) -> Prototypes:
    torch.manual_seed(0)
    return Prototypes(config, D, TeacherConfig(init_from_student=copied, update_at="before_step"))


def a_pass(progress: float = 0.25, hypotheses: int = 1) -> MaskedPass:
    generator = torch.Generator().manual_seed(1)
    order = torch.stack([torch.randperm(N, generator=generator) for _ in range(B)])
    predicted = torch.randn(B, N - K, hypotheses, D, generator=generator).requires_grad_()
    out = MaskedPass(
        torch.zeros(B, N, 2),
        Mask(order[:, :K], order[:, K:]),
        torch.zeros(B, K, D),
        None,
        torch.zeros(B, N, 2),
        predicted,
    )
    out.target = torch.randn(B, N - K, D, generator=generator)
    out.best = torch.randint(hypotheses, (B, N - K), generator=generator) if hypotheses > 1 else None
    out.progress = torch.tensor(progress)
    return out


def a_batch(valid: Tensor, spec: Tensor | None = None) -> Batch:
    none = torch.zeros(len(valid), dtype=torch.int64)
    return Batch(
        torch.zeros(len(valid), 1, 1) if spec is None else spec,
        valid,
        none,
        none,
        torch.zeros(len(valid)),
        torch.zeros(valid.shape),
    )


def logits(head: PrototypeHead, latents: Tensor) -> np.ndarray:
    """The head by hand, in float64."""
    values = latents.detach().double()
    for layer in head.mlp:
        values = (
            torch.nn.functional.gelu(values)
            if not isinstance(layer, torch.nn.Linear)
            else values @ layer.weight.double().T + layer.bias
        )
    unit = lambda rows: rows / rows.norm(dim=-1, keepdim=True)  # noqa: E731
    return (unit(values) @ (head.weight_g.double() * unit(head.weight_v.double())).T).detach().numpy()


def test_it_is_the_cross_entropy_of_two_softened_distributions() -> None:
    head, out = objective(), a_pass(progress=0.25)
    head.center.copy_(torch.rand(KINDS, generator=torch.Generator().manual_seed(2)))
    valid = EVERY.clone()
    valid[0, 2:] = False
    teacher = softmax(
        (logits(head.teacher, out.target) - head.center.numpy()) / 0.055, axis=-1
    )  # halfway from 0.04 to 0.07
    student = log_softmax(logits(head.student, out.predicted[:, :, 0]) / 0.1, axis=-1)
    real = valid.gather(1, out.mask.hide).numpy()
    assert head(out, a_batch(valid)).item() == pytest.approx(-(teacher * student).sum(-1)[real].mean(), rel=1e-5)


@pytest.mark.parametrize("source", ["probs", "logits"])
def test_the_centre_is_a_running_mean_of_the_teachers_outputs(source: str) -> None:
    head, out = objective(replace(CONFIG, center=source)), a_pass()
    valid = EVERY.clone()
    valid[1, 4:] = False
    expected = np.zeros(KINDS)
    for step in range(3):
        raw = logits(head.teacher, out.target)
        probabilities = softmax((raw - expected) / 0.055, axis=-1) if source == "probs" else raw
        head(out, a_batch(valid))
        head.after_step(TrainingProgress(step + 1, 10))
        expected = 0.9 * expected + 0.1 * probabilities[valid.gather(1, out.mask.hide).numpy()].mean(axis=0)
        np.testing.assert_allclose(head.center.numpy(), expected, atol=1e-6)


def test_the_centre_learns_of_every_part_of_a_batch_and_of_nothing_else() -> None:
    whole, parts, out = objective(), objective(), a_pass()
    whole(out, a_batch(EVERY))
    for one in (slice(0, 1), slice(1, 3)):
        mask = Mask(out.mask.keep[one], out.mask.hide[one])
        part = MaskedPass(
            out.patches[one], mask, out.visible[one], None, out.decoded[one], out.predicted[one], out.target[one]
        )
        parts(replace(part, progress=out.progress), a_batch(EVERY[one]))
    parts.eval()
    parts(replace(out, target=3 * out.target), a_batch(EVERY))  # a measurement on the side
    for head in (whole, parts):
        head.after_step(TrainingProgress(1, 10))
        assert not head.pending.any() and not head.pending_tokens.any()
    torch.testing.assert_close(parts.center, whole.center)
    before = whole.center.clone()
    whole(out, a_batch(~EVERY))  # nothing but padding
    whole.after_step(TrainingProgress(2, 10))
    assert torch.equal(whole.center, before)


def test_heads_of_their_own_share_their_prototypes_and_copies_share_all() -> None:
    head = objective()
    assert torch.equal(head.student.weight_v, head.teacher.weight_v) and bool((head.student.weight_g == 1).all())
    assert not torch.equal(head.student.mlp[0].weight, head.teacher.mlp[0].weight)
    assert head.teacher.mlp[0].weight.abs().max() <= 2 * TEACHER_STD and not head.teacher.mlp[0].bias.any()
    copied = objective(copied=True)
    assert all(torch.equal(a, b) for a, b in zip(copied.student.parameters(), copied.teacher.parameters(), strict=True))


def test_the_head_shrinks_with_the_encoder_and_has_the_published_size_at_base() -> None:
    assert head_sizes(PrototypesConfig(), 768) == (2048, 256, 2048)
    assert head_sizes(PrototypesConfig(), 192) == (512, 64, 512)
    assert head_sizes(PrototypesConfig(prototypes=100, hidden_dim=50, bottleneck_dim=7), 192) == (50, 7, 100)


def test_the_teacher_head_follows_before_the_step_and_skips_the_first() -> None:
    head = objective(replace(CONFIG, momentum_start=0.5, momentum_end=0.5))
    expected = head.teacher.mlp[0].weight.double()
    for step in range(3):
        head.before_step(TrainingProgress(step, 1000))
        if step > 0:
            expected = 0.5 * expected + 0.5 * head.student.mlp[0].weight.double()
        torch.testing.assert_close(head.teacher.mlp[0].weight.double(), expected, atol=1e-6, rtol=1e-6)
        head.after_step(TrainingProgress(step + 1, 1000))


def test_its_gradient_reaches_the_best_hypothesis_alone() -> None:
    head, out = objective(), a_pass(hypotheses=3)
    head(out, a_batch(EVERY)).backward()
    reached = out.predicted.grad.abs().sum(dim=-1) > 0
    assert torch.equal(reached, torch.nn.functional.one_hot(out.best, 3).bool())


def example(learner: PretrainModule) -> tuple[Batch, Mask]:
    spec = torch.randn(4, 80, 32, generator=torch.Generator().manual_seed(0))
    noise = torch.rand(4, learner.grid.num_patches, generator=torch.Generator().manual_seed(1))
    return a_batch(torch.ones(noise.shape, dtype=torch.bool), spec), random(noise, 0.7)


@pytest.mark.parametrize("alone", ["latents", "prototypes"])
def test_each_loss_alone_reaches_the_encoder_and_never_a_teacher(alone: str) -> None:
    learner = build(SMALL)
    learner.losses(*example(learner))[f"loss/{alone}"].backward()
    for name, parameter in learner.named_parameters():
        if "teacher." in name:
            assert parameter.grad is None and not parameter.requires_grad, name
        elif name.startswith("model.") or alone == "prototypes":
            assert parameter.grad is not None and parameter.grad.abs().max() > 0, name
        else:
            assert parameter.grad is None, name


@pytest.mark.parametrize("copied", [True, False])
def test_it_can_learn_one_batch_by_heart(copied: bool) -> None:
    settings = [
        "objectives.latents.weight=0",
        f"teacher.init_from_student={str(copied).lower()}",
        "objectives.prototypes.center=logits",
    ]
    learner = build(override(SMALL, settings))
    batch, mask = example(learner)
    optimiser = torch.optim.Adam([p for p in learner.parameters() if p.requires_grad], lr=3e-3)
    first = learner.losses(batch, mask)
    for _ in range(150):
        optimiser.zero_grad()
        losses = learner.losses(batch, mask)
        losses["loss"].backward()
        optimiser.step()
    assert losses["diagnostics/agreement"] > 0.8 > first["diagnostics/agreement"]
    assert losses["loss"] < first["loss"]


def test_training_only_parts_stay_out_of_a_model_folder() -> None:
    learner = build(SMALL)
    assert not [name for name in learner.export_state_dict() if "teacher" in name or "prototypes" in name]
    assert "model.predictor.project.weight" in learner.export_state_dict()


def test_a_pass_without_a_teacher_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"need a model with a teacher; .*objectives\.prototypes\.weight"):
        objective()(replace(a_pass(), target=None), a_batch(EVERY))
    with pytest.raises(ConfigError, match="predicts no latents"):
        objective()(replace(a_pass(), predicted=None), a_batch(EVERY))


@pytest.mark.parametrize("exact", [torch.bfloat16, torch.float16])
def test_losses_stay_near_in_reduced_precision(exact: torch.dtype) -> None:
    learner = build(SMALL)
    batch, mask = example(learner)
    full = learner.losses(batch, mask)
    with torch.autocast("cpu", dtype=exact):
        reduced = learner.losses(batch, mask)
    for name, value in full.items():
        assert torch.isfinite(reduced[name]), name
        if name.startswith("loss"):
            assert reduced[name].dtype == torch.float32 and reduced[name].item() == pytest.approx(
                value.item(), rel=0.02
            ), name
