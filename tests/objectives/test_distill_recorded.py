"""The recipes after MAM-CLAP keep the numbers that they had before the objective took several teachers."""

from __future__ import annotations

import pytest
import torch

from unheard.config import override
from unheard.model.masking import random
from unheard.objectives.base import Batch
from unheard.objectives.teacher_schedules import TrainingProgress
from unheard.recipes import find_recipe
from unheard.recipes.learner import PretrainModule, build

SIZES = (
    "frames=64",
    "embed_dim=32",
    "depth=2",
    "num_heads=2",
    "decoder_embed_dim=16",
    "decoder_depth=1",
    "decoder_num_heads=2",
)
PARTS = ("model.encoder", "model.decoder", "objectives.distill")
B, C = 4, 6

RECORDED = {
    ("mam-clap", ()): (
        (1.937087, 1.937087, 1.048175, 0.2982917, 0.3813668),
        (1.981853, 1.981853, 1.442772, 0.8118734, 0.4629841),
    ),
    ("sup-mam-clap", ()): (
        (2.491339, 1.937087, 2.530675, 0.2982917, 0.3813668),
        (2.921639, 1.981853, 2.850281, 0.8118734, 0.4629841),
    ),
    (
        "mam-clap",
        (
            "teachers.0.pooled=0.5",
            "teachers.0.visible=0.3",
            "teachers.0.hidden=2.0",
        ),
    ): (
        (2.794119, 2.794119, 1.615824, 0.5965835, 0.5040935),
        (2.748927, 2.748927, 3.804461, 1.623747, 1.081003),
    ),
    (
        "mam-clap",
        (
            "heads=separate",
            "teachers.0.distance=mse",
        ),
    ): (
        (5.559689, 5.559689, 7.984937, 18.22441, 9.399302),
        (5.690078, 5.690078, 8.321376, 20.1776, 9.640016),
    ),
    (
        "mam-clap",
        (
            "visible_features=decoder",
            "teachers.0.distance=smooth-l1",
        ),
    ): (
        (1.949548, 1.949548, 1.562627, 5.316826, 3.284328),
        (1.93919, 1.93919, 1.587553, 5.65369, 3.153187),
    ),
    (
        "mam-clap",
        (
            "balance=tokens",
            "teachers.0.standardise=token",
        ),
    ): (
        (1.011409, 1.011409, 0.3297145, 0.3185995, 0.1677979),
        (0.9962736, 0.9962736, 0.3924037, 0.3666687, 0.204452),
    ),
    ("mam-clap", ("teachers.0.standardise=none",)): (
        (2.032496, 2.032496, 1.26502, 1.766644, 0.9803479),
        (1.997084, 1.997084, 1.455256, 2.126059, 0.9152885),
    ),
}
"""Loss, loss of the objective, and gradient norms of `PARTS`, for two steps; computed by the objective ``clap``."""


def measured(learner: PretrainModule, generator: torch.Generator) -> list[float]:
    n = learner.grid.num_patches
    valid = torch.ones(B, n, dtype=torch.bool)
    valid[0] = learner.grid.valid(torch.tensor([20]))[0]
    targets = torch.randn(B, n, C, generator=generator) * 3 + 1
    batch = Batch(
        spec=torch.randn(B, learner.grid.n_mels, learner.grid.frames, generator=generator), valid=valid,
        clips=torch.arange(B), frames=torch.full((B,), 20), start_seconds=torch.zeros(B),
        noise=torch.rand(B, n, generator=generator), targets=(targets,),
        labels=(torch.randn(B, 3, generator=generator) > 0).float(), has_labels=torch.arange(B) > 0,
    )  # fmt: skip
    learner.zero_grad()
    losses = learner.losses(batch, random(batch.noise, 0.75, valid))
    losses["loss"].backward()
    norms = [
        torch.stack(
            [p.grad.norm() for key, p in learner.named_parameters() if key.startswith(part) and p.requires_grad]
        )
        for part in PARTS
    ]
    return [
        float(losses["loss"].detach()),
        float(losses["loss/distill"].detach()),
        *(float(each.norm()) for each in norms),
    ]


@pytest.mark.parametrize(("name", "settings"), RECORDED)
def test_losses_and_gradients_are_those_recorded(name: str, settings: tuple[str, ...]) -> None:
    found = ['objectives.supervise.classes=["a","b","c"]', f"objectives.distill.teachers.0.dim={C}"]
    own = [f"objectives.distill.{setting}" for setting in settings]
    learner = build(override(find_recipe(name), [*(f"model.{size}" for size in SIZES), *found, *own]))
    for module in learner.modules():
        if type(module).__name__ == "PositionBias":  # its dropout takes random numbers
            module.eval()
    generator = torch.Generator().manual_seed(11)
    for step, expected in enumerate(RECORDED[name, settings]):
        assert measured(learner, generator) == pytest.approx(expected, rel=2e-5)
        learner.after_step(TrainingProgress(step + 1, 10))
