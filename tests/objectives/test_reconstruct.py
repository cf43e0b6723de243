"""The reconstruction loss: closed forms, inputs, gradients."""

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
from unheard.model.masked_model import MaskedPass
from unheard.model.masking import Mask, random
from unheard.objectives.base import Batch, masked_mean
from unheard.objectives.reconstruct import PIXEL_EPS, Reconstruct, ReconstructConfig
from unheard.recipes import find_recipe
from unheard.recipes.learner import PretrainModule, build

B, N, K, E, P = 3, 8, 3, 5, 6
SIZES = (
    "frames=32",
    "embed_dim=32",
    "depth=1",
    "num_heads=2",
    "decoder_embed_dim=32",
    "decoder_depth=1",
    "decoder_num_heads=2",
)
SMALL = override(find_recipe("msm-mae"), [f"model.{size}" for size in SIZES])


def a_pass(seed: int = 0) -> MaskedPass:
    """A masked pass made by hand."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.stack([torch.randperm(N, generator=generator) for _ in range(B)])
    mask = Mask(order[:, :K], order[:, K:])
    patches, decoded = torch.randn(B, N, P, generator=generator), torch.randn(B, N, E, generator=generator)
    return MaskedPass(patches, mask, torch.zeros(B, K, 4), None, decoded)


def a_batch(valid: Tensor | None = None, count: int = N) -> Batch:
    """A batch of which an objective reads ``valid`` only."""
    flags = torch.ones(B, count, dtype=torch.bool) if valid is None else valid
    none = torch.zeros(len(flags), dtype=torch.int64)
    return Batch(torch.zeros(len(flags), 1, 1), flags, none, none, torch.zeros(len(flags)), torch.zeros(flags.shape))


def by_hand(objective: Reconstruct, out: MaskedPass, valid: np.ndarray, norm_pix: bool) -> float:
    """Every hidden, valid patch on its own, in float64."""
    weight, bias = (value.detach().double().numpy() for value in (objective.head.weight, objective.head.bias))
    errors = []
    for clip in range(B):
        for patch in out.mask.hide[clip].tolist():
            if not valid[clip, patch]:
                continue
            target = out.patches[clip, patch].double().numpy()
            if norm_pix:
                target = (target - target.mean()) / np.sqrt(target.var(ddof=1) + PIXEL_EPS)
            errors.append(np.mean((weight @ out.decoded[clip, patch].double().numpy() + bias - target) ** 2))
    return float(np.mean(errors)) if errors else 0.0


@pytest.mark.parametrize("norm_pix", [False, True])
@given(flags=st.lists(st.booleans(), min_size=B * N, max_size=B * N), seed=st.integers(0, 99))
def test_it_is_the_mean_over_hidden_patches_that_are_not_padding(norm_pix: bool, flags: list[bool], seed: int) -> None:
    torch.manual_seed(seed)
    objective = Reconstruct(ReconstructConfig(norm_pix=norm_pix), E, P)
    out, valid = a_pass(seed), torch.tensor(flags).view(B, N)
    assert objective(out, a_batch(valid)).item() == pytest.approx(
        by_hand(objective, out, valid.numpy(), norm_pix), rel=1e-5, abs=1e-7
    )


def test_visible_patches_and_padding_do_not_count() -> None:
    objective, out, valid = Reconstruct(ReconstructConfig(), E, P), a_pass(), torch.ones(B, N, dtype=torch.bool)
    valid[1, out.mask.hide[1, 0]] = False
    before = objective(out, a_batch(valid))
    changed = replace(out, patches=out.patches.clone())
    changed.patches.scatter_(1, out.mask.keep[:, :, None].expand(-1, -1, P), 99.0)
    changed.patches[1, out.mask.hide[1, 0]] = 99.0
    assert torch.equal(objective(changed, a_batch(valid)), before)


def test_the_scale_of_a_patch_does_not_matter_with_norm_pix() -> None:
    objective, out = Reconstruct(ReconstructConfig(norm_pix=True), E, P), a_pass()
    louder = replace(out, patches=out.patches * 7 + 3)
    torch.testing.assert_close(objective(louder, a_batch()), objective(out, a_batch()))
    flat = replace(out, patches=torch.full_like(out.patches, 2.5))
    assert torch.isfinite(objective(flat, a_batch()))


@pytest.mark.parametrize("norm_pix", [False, True])
def test_a_perfect_head_draws_the_input_itself(norm_pix: bool) -> None:
    objective, out = Reconstruct(ReconstructConfig(norm_pix=norm_pix), P, P), a_pass()
    with torch.no_grad():
        objective.head.weight.copy_(torch.eye(P))
        objective.head.bias.zero_()
    perfect = replace(out, decoded=objective.target(out.patches))
    assert objective(perfect, a_batch()).item() == pytest.approx(0, abs=1e-10)
    torch.testing.assert_close(objective.spectrogram(perfect.decoded, out.patches), out.patches)


def test_parts_add_up_to_the_mean_over_the_batch() -> None:
    """Two parts with unequally many valid patches, divided by the count of both."""
    values, weights = torch.rand(B, N - K), [torch.ones(B, N - K), torch.zeros(B, N - K)]
    weights[1][0] = 1
    total = weights[0].sum() + weights[1].sum()
    parts = [masked_mean(values, each, total) for each in weights]
    everything = torch.cat([values.flatten(), values[0]])
    assert float(sum(parts)) == pytest.approx(float(everything.mean()), rel=1e-6)
    assert float(masked_mean(values, torch.zeros(B, N - K), torch.tensor(0.0))) == 0


def gradients(learner: PretrainModule) -> dict[str, float]:
    spec = torch.randn(4, 80, 32, generator=torch.Generator().manual_seed(0))
    mask = random(torch.rand(4, learner.grid.num_patches, generator=torch.Generator().manual_seed(1)), 0.75)
    learner.losses(replace(a_batch(torch.ones(4, learner.grid.num_patches, dtype=torch.bool)), spec=spec), mask)[
        "loss"
    ].backward()
    return {name: 0.0 if p.grad is None else float(p.grad.abs().max()) for name, p in learner.named_parameters()}


def test_its_gradient_reaches_everything_that_is_trained() -> None:
    reached = gradients(build(SMALL))
    assert not [name for name, size in reached.items() if size == 0]
    assert not [name for name in reached if name.startswith(("model.teacher", "model.predictor"))]


def test_it_can_learn_one_batch_by_heart() -> None:
    learner = build(SMALL)
    spec = torch.randn(4, 80, 32, generator=torch.Generator().manual_seed(0)).cumsum(dim=2) / 4
    batch = replace(a_batch(torch.ones(4, learner.grid.num_patches, dtype=torch.bool)), spec=spec)
    mask = random(torch.rand(4, learner.grid.num_patches, generator=torch.Generator().manual_seed(1)), 0.75)
    optimiser = torch.optim.Adam(learner.parameters(), lr=3e-3)
    losses = []
    for _ in range(150):
        optimiser.zero_grad()
        loss = learner.losses(batch, mask)["loss"]
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.1 * losses[0]


def test_at_weight_0_it_is_not_built() -> None:
    learner = build(override(SMALL, ["objectives.reconstruct.weight=0", "objectives.latents.weight=1"]))
    assert set(learner.objectives) == {"latents"} and not any("reconstruct" in name for name in learner.state_dict())
    with pytest.raises(ConfigError, match=r"nothing to learn; set one, for example objectives\.reconstruct\.weight=1"):
        build(override(SMALL, ["objectives.reconstruct.weight=0"]))


def test_the_loss_is_the_weighted_sum_of_the_objectives() -> None:
    learner = build(override(SMALL, ["objectives.reconstruct.weight=0.3", "objectives.latents.weight=2"]))
    spec = torch.randn(4, 80, 32, generator=torch.Generator().manual_seed(0))
    batch = replace(a_batch(torch.ones(4, learner.grid.num_patches, dtype=torch.bool)), spec=spec)
    losses = learner.losses(batch, random(torch.rand(4, learner.grid.num_patches), 0.75))
    assert {"loss", "loss/reconstruct", "loss/latents"} <= set(losses)
    torch.testing.assert_close(losses["loss"], 0.3 * losses["loss/reconstruct"] + 2 * losses["loss/latents"])
