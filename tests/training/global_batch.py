"""Run by torchrun: takes two steps of every objective on this process's share of one batch and writes gradients and
statistics.
"""

from __future__ import annotations

import json
import sys
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from unheard.config import override
from unheard.data.prefetch import RankSlice
from unheard.model.masking import noise_size
from unheard.objectives.base import Batch
from unheard.objectives.teacher_schedules import TrainingProgress
from unheard.recipes import find_recipe
from unheard.recipes.learner import PretrainModule, build
from unheard.training.engine import Engine

WINDOWS, CLASSES, CHANNELS, WIDTH = 24, 5, 6, 7
SIZES = [
    "frames=64",
    "embed_dim=24",
    "depth=1",
    "num_heads=2",
    "decoder_embed_dim=16",
    "decoder_depth=2",
    "decoder_num_heads=2",
]
FOUND = [  # what a run finds out from its corpus
    f"objectives.distill.teachers.0.dim={CHANNELS}", f"objectives.contrast.text_dim={WIDTH}",
    f'objectives.supervise.classes=[{",".join(f"{chr(34)}{name}{chr(34)}" for name in range(CLASSES))}]',
]  # fmt: skip
TWO = [{"dim": CHANNELS, "layers": [1]}, {"dim": CHANNELS, "weight": 0.5, "distance": "mse"}]
VIEWS = ["mask.views=3", "mask.block=2"]
RECIPES: dict[str, tuple[str, list[str]]] = {
    "reconstruct": ("msm-mae", []),
    "local decoder": ("audiomae", []),
    "latents": ("m2d", []),
    "prototypes": ("matpac++", []),
    "views, encoder as teacher": ("eat", VIEWS),
    "mixtures": ("sslam", VIEWS),
    "views, gate": ("bat", [*VIEWS, "model.decoder_projection=affine"]),
    "supervise": ("sup-mam", []),
    "distill and supervise": ("sup-mam-clap", []),
    "distill pooled": (
        "mam-clap",
        [
            "objectives.distill.teachers.0.pooled=1",
            "objectives.distill.balance=tokens",
            "objectives.distill.teachers.0.standardise=token",
        ],
    ),
    "distill two": ("distill", [f"objectives.distill.teachers={json.dumps(TWO)}"]),
    "contrast": ("clap-mini", []),
}
LABELLED = (0, 1, 2, WINDOWS)
"""How many windows have labels, in the cases of the objectives that read them."""


def batch_of(learner: PretrainModule, labelled: int) -> Batch:
    """Windows of which most are padded, by different amounts; one process has no label where few have one."""
    generator = torch.Generator().manual_seed(3)
    grid = learner.grid

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    frames = torch.randint(1, grid.frames + 1, (WINDOWS,), generator=generator)
    frames[: WINDOWS // 3] = 9  # the first windows are nearly empty, so that processes and parts differ
    spec = normal(WINDOWS, grid.n_mels, grid.frames) * (torch.arange(grid.frames) < frames[:, None])[:, None]
    mixed = learner.recipe.data.mixtures
    made = Batch(
        spec=spec,
        valid=grid.valid(frames),
        clips=torch.arange(WINDOWS),
        frames=frames,
        start_seconds=torch.zeros(WINDOWS),
        noise=torch.rand(WINDOWS, noise_size(learner.recipe.model, learner.recipe.mask, grid), generator=generator),
        targets=tuple(
            normal(WINDOWS, grid.num_patches, CHANNELS) * 3 + 1 for _ in learner.recipe.objectives.distill.teachers
        ),
        labels=(normal(WINDOWS, CLASSES) > 0.5).float(),
        has_labels=torch.arange(WINDOWS) >= WINDOWS - labelled,
        text=normal(WINDOWS, WIDTH),
        captions=torch.randint(-1, 9, (WINDOWS,), generator=generator),
        previous=spec.roll(1, 0) if mixed else None,
        previous_frames=frames.roll(1) if mixed else None,
        regions=torch.tensor([[0.6, 0.3]]).expand(WINDOWS, 2) if mixed else None,
    )
    other = ("targets", "labels", "has_labels", "text", "captions")  # no objective of mixtures reads them
    return replace(made, **dict.fromkeys(other)) if mixed else made


def share_of(batch: Batch, share: RankSlice) -> Batch:
    whole = {field.name: getattr(batch, field.name) for field in fields(batch)}
    part = share.local_slice
    tensors = {name: values[part] for name, values in whole.items() if isinstance(values, Tensor)}
    targets = None if batch.targets is None else tuple(values[part] for values in batch.targets)
    return Batch(**tensors, targets=targets)


def two_steps(engine: Engine, kind: str, accumulate: int, labelled: int) -> dict[str, np.ndarray]:
    """Gradients and losses of each step, and the statistics that are left."""
    name, extra = RECIPES[kind]
    recipe = override(
        find_recipe(name), [*(f"model.{size}" for size in SIZES), *FOUND, *extra, f"training.accumulate={accumulate}"]
    )
    learner = build(recipe)
    engine.training = recipe.training
    engine.setup(learner)
    batch = share_of(batch_of(learner, labelled), RankSlice(WINDOWS, engine.rank, engine.processes))
    found: dict[str, np.ndarray] = {}
    for step in (0, 1):
        now = TrainingProgress(step, 10)
        learner.begin_step(now)
        losses = engine.losses_and_gradients(batch, step)
        found |= {
            f"{step}/{key}": engine.mean(value).numpy() for key, value in losses.items() if key.startswith("loss")
        }
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in learner.parameters() if p.requires_grad]
        found[f"{step}/gradient"] = torch.cat([gradient.flatten() for gradient in gradients]).numpy().copy()
        learner.before_step(now)
        engine.step(1e-3)
        learner.after_step(replace(now, step=step + 1))
    return found | {
        f"buffer/{key}": value.numpy().copy() for key, value in learner.named_buffers() if value.is_floating_point()
    }


if __name__ == "__main__":
    training = find_recipe("msm-mae").training
    one = Engine(training, "cpu")
    everything: dict[str, np.ndarray] = {}
    for kind in RECIPES:
        for accumulate in (1,) if kind == "contrast" else (1, 2, 4):
            for labelled in LABELLED if "supervise" in kind else (WINDOWS,):
                found = two_steps(one, kind, accumulate, labelled)
                everything |= {f"{kind}, {labelled} labelled|{accumulate}|{key}": value for key, value in found.items()}
    if one.rank == 0:
        np.savez(Path(sys.argv[1]), **everything)
    one.close()
