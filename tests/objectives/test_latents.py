"""The latent loss: closed forms, inputs, gradients, update of the teacher."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from unheard.config import override
from unheard.errors import ConfigError
from unheard.model.masked_model import MaskedPass, best_hypothesis
from unheard.model.masking import Mask, random
from unheard.objectives.base import Batch
from unheard.objectives.latents import TARGET_EPS, LatentsConfig, PredictLatents
from unheard.objectives.teacher_schedules import TrainingProgress
from unheard.recipes import find_recipe
from unheard.recipes.learner import PretrainModule, build

B, N, K, D = 3, 8, 3, 6
SIZES = (
    "frames=32",
    "embed_dim=32",
    "depth=1",
    "num_heads=2",
    "decoder_embed_dim=32",
    "decoder_depth=1",
    "decoder_num_heads=2",
)
WEIGHTS = ("objectives.reconstruct.weight=0", "objectives.latents.weight=1")
SMALL = override(find_recipe("m2d"), [*(f"model.{size}" for size in SIZES), *WEIGHTS])
CONFIGS = [LatentsConfig(), LatentsConfig(standardise_target=False), LatentsConfig(distance="mse")]


def a_pass(seed: int = 0) -> MaskedPass:
    generator = torch.Generator().manual_seed(seed)
    order = torch.stack([torch.randperm(N, generator=generator) for _ in range(B)])
    mask = Mask(order[:, :K], order[:, K:])
    nothing = torch.zeros(B, N, 2)
    predicted, target = torch.randn(B, N - K, 1, D, generator=generator), torch.randn(B, N - K, D, generator=generator)
    return MaskedPass(nothing, mask, torch.zeros(B, K, D), None, nothing, predicted, target)


def a_batch(valid: Tensor, spec: Tensor | None = None) -> Batch:
    none = torch.zeros(len(valid), dtype=torch.int64)
    empty = torch.zeros(len(valid), 1, 1) if spec is None else spec
    return Batch(empty, valid, none, none, torch.zeros(len(valid)), torch.zeros(valid.shape))


def by_hand(config: LatentsConfig, out: MaskedPass, valid: np.ndarray) -> float:
    """Every hidden, valid patch on its own, in float64."""
    found = []
    for clip in range(B):
        for place, patch in enumerate(out.mask.hide[clip].tolist()):
            if not valid[clip, patch]:
                continue
            p, t = out.predicted[clip, place, 0].double().numpy(), out.target[clip, place].double().numpy()
            if config.standardise_target:
                t = (t - t.mean()) / np.sqrt(t.var(ddof=1) + TARGET_EPS)
            unit = np.sum((p / np.linalg.norm(p) - t / np.linalg.norm(t)) ** 2)
            found.append(unit if config.distance == "cosine" else np.mean((p - t) ** 2))
    return float(np.mean(found)) if found else 0.0


@pytest.mark.parametrize("config", CONFIGS, ids=["m2d", "raw target", "mse"])
@given(flags=st.lists(st.booleans(), min_size=B * N, max_size=B * N), seed=st.integers(0, 99))
def test_it_is_the_mean_over_hidden_patches_that_are_not_padding(
    config: LatentsConfig, flags: list[bool], seed: int
) -> None:
    out, valid = a_pass(seed), torch.tensor(flags).view(B, N)
    assert PredictLatents(config)(out, a_batch(valid)).item() == pytest.approx(
        by_hand(config, out, valid.numpy()), rel=1e-5, abs=1e-7
    )


def test_known_values() -> None:
    config, every = LatentsConfig(standardise_target=False), a_batch(torch.ones(B, N, dtype=torch.bool))
    out = a_pass()
    same, opposite = (replace(out, predicted=sign * 3 * out.target[:, :, None]) for sign in (1, -1))
    assert PredictLatents(config)(same, every).item() == pytest.approx(0, abs=1e-6)
    assert PredictLatents(config)(opposite, every).item() == pytest.approx(4, abs=1e-6)


def test_a_constant_target_gives_a_finite_loss() -> None:
    out = replace(a_pass(), target=torch.full((B, N - K, D), 2.0))
    assert torch.isfinite(PredictLatents(LatentsConfig())(out, a_batch(torch.ones(B, N, dtype=torch.bool))))


def test_a_pass_without_a_teacher_is_refused() -> None:
    out = replace(a_pass(), predicted=None, target=None)
    with pytest.raises(ConfigError, match=r"needs a model with a teacher; .*objectives\.latents\.weight"):
        PredictLatents(LatentsConfig())(out, a_batch(torch.ones(B, N, dtype=torch.bool)))


def example(learner: PretrainModule) -> tuple[Batch, Mask]:
    spec = torch.randn(4, 80, 32, generator=torch.Generator().manual_seed(0))
    noise = torch.rand(4, learner.grid.num_patches, generator=torch.Generator().manual_seed(1))
    return a_batch(torch.ones(noise.shape, dtype=torch.bool), spec), random(noise, 0.7)


def test_its_gradient_reaches_the_student_and_never_the_teacher() -> None:
    learner = build(SMALL)
    learner.losses(*example(learner))["loss"].backward()
    for name, parameter in learner.named_parameters():
        if name.startswith("model.teacher."):
            assert parameter.grad is None and not parameter.requires_grad, name
        else:
            assert parameter.grad is not None and parameter.grad.abs().max() > 0, name
    assert set(learner.objectives) == {"latents"}


def test_it_can_learn_one_batch_by_heart() -> None:
    learner = build(SMALL)
    batch, mask = example(learner)
    optimiser = torch.optim.Adam([p for p in learner.parameters() if p.requires_grad], lr=3e-3)
    losses = []
    for _ in range(150):
        optimiser.zero_grad()
        loss = learner.losses(batch, mask)["loss"]
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.1 * losses[0]


def test_at_weight_0_neither_it_nor_the_teacher_is_built() -> None:
    learner = build(override(SMALL, ["objectives.reconstruct.weight=1", "objectives.latents.weight=0"]))
    assert (
        learner.model.teacher is None and learner.model.predictor is None and set(learner.objectives) == {"reconstruct"}
    )


@pytest.mark.parametrize("copied", [True, False])
def test_the_teacher_starts_as_a_copy_or_with_weights_of_its_own(copied: bool) -> None:
    model = build(override(SMALL, [f"teacher.init_from_student={str(copied).lower()}"])).model
    mine, theirs = model.teacher.transformer.blocks[0].fc1.weight, model.encoder.transformer.blocks[0].fc1.weight
    assert torch.equal(mine, theirs) == copied and mine.data_ptr() != theirs.data_ptr()


@pytest.mark.parametrize(
    ("moves", "steps"), [("before_step", [0.25, 0.5, 0.75]), ("after_step", [0.25, 0.5, 0.75, 1.0])]
)
def test_the_teacher_follows_once_a_step_with_a_momentum_that_rises(moves: str, steps: list[float]) -> None:
    """teacher <- m teacher + (1 - m) student, m = start + (end - start) * share of the run that is done."""
    settings = [
        f"teacher.update_at={moves}",
        "teacher.momentum_start=0.5",
        "teacher.momentum_end=0.9",
        "teacher.max_initial_weight=1",
    ]
    learner = build(override(SMALL, settings))
    teacher, student = (
        part.transformer.blocks[0].fc1.weight for part in (learner.model.teacher, learner.model.encoder)
    )
    expected = teacher.double().clone()
    for step in range(4):
        learner.before_step(TrainingProgress(step, 4))
        with torch.no_grad():
            student.add_(0.01 * step) if moves == "after_step" else student
        learner.after_step(TrainingProgress(step + 1, 4))
        progress = step / 4 if moves == "before_step" else (step + 1) / 4
        if progress in steps:
            momentum = 0.5 + 0.4 * progress
            expected = momentum * expected + (1 - momentum) * student.detach().double()
    torch.testing.assert_close(teacher.double(), expected, atol=1e-6, rtol=1e-6)


def hypotheses(seed: int = 0, count: int = 4) -> MaskedPass:
    out = a_pass(seed)
    generator = torch.Generator().manual_seed(seed + 1)
    predicted = torch.randn(B, N - K, count, D, generator=generator).requires_grad_()
    return replace(out, predicted=predicted, best=best_hypothesis(predicted, out.target))


@pytest.mark.parametrize("progress", [0.0, 0.3, 0.7])
def test_hypotheses_share_a_token_by_how_near_they_are(progress: float) -> None:
    config, out = LatentsConfig(standardise_target=False, wta_fraction=0.75), hypotheses()
    out.progress = torch.tensor(progress)
    p, t = out.predicted.detach().double().numpy(), out.target.double().numpy()[:, :, None]
    cosine = (p * t).sum(-1) / np.linalg.norm(p, axis=-1) / np.linalg.norm(t, axis=-1)
    distance, temperature = 2 - 2 * cosine, 0.1 * 1e-3 ** (progress / 0.75)
    weights = np.exp(-(distance - distance.min(-1, keepdims=True)) / temperature)
    expected = (weights / weights.sum(-1, keepdims=True) * distance).sum(-1).mean()
    loss = PredictLatents(config, 4)(out, a_batch(torch.ones(B, N, dtype=torch.bool)))
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_in_the_end_the_nearest_hypothesis_takes_all() -> None:
    config, out = LatentsConfig(standardise_target=False, wta_fraction=0.75), hypotheses()
    out.progress = torch.tensor(0.76)
    objective = PredictLatents(config, 4)
    loss = objective(out, a_batch(torch.ones(B, N, dtype=torch.bool)))
    assert loss.item() == pytest.approx(
        objective.distances(out.predicted, out.target).min(dim=-1).values.mean().item(), rel=1e-5
    )
    loss.backward()
    reached = out.predicted.grad.abs().sum(dim=-1) > 0
    assert torch.equal(reached.int().argmax(dim=-1), out.best) and bool((reached.sum(dim=-1) == 1).all())


def test_weights_of_hypotheses_have_no_gradient() -> None:
    """The gradient is that of the distances, each times its weight, as if the weights were constants."""
    config, out = LatentsConfig(standardise_target=False), hypotheses()
    objective = PredictLatents(config, 4)
    distances = objective.distances(out.predicted.detach(), out.target).requires_grad_()
    objective.shared(distances, torch.tensor(0.1)).sum().backward()
    torch.testing.assert_close(distances.grad, (-distances / 0.1).softmax(dim=-1).detach())


def test_the_best_guess_is_the_nearest_in_direction() -> None:
    out = hypotheses()
    picked = out.best_prediction()
    cosines = torch.nn.functional.cosine_similarity(out.predicted, out.target[:, :, None], dim=-1)
    torch.testing.assert_close(
        torch.nn.functional.cosine_similarity(picked, out.target, dim=-1), cosines.max(dim=-1).values
    )
