"""Run by torchrun: two clipped steps of objectives with whole and with split weights; writes what differs.

torchrun ... -m tests.training.parallel.sharded_steps RESULT.json KIND...
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import torch
from tests.training.global_batch import FOUND, RECIPES, SIZES, WINDOWS, batch_of, share_of
from torch import Tensor

from unheard.config import override
from unheard.data.prefetch import RankSlice
from unheard.objectives.teacher_schedules import TrainingProgress
from unheard.recipes import find_recipe
from unheard.recipes.learner import build
from unheard.training.engine import Engine
from unheard.training.parallel.sharding import is_sharded, own_part, whole_tensors


def two_steps(engine: Engine, kind: str, shard: bool, accumulate: int) -> tuple[dict[str, Tensor], float]:
    """Losses, norms, and all weights and statistics after the steps; and the fraction of the weights held here."""
    name, extra = RECIPES[kind]
    changed = [*(f"model.{size}" for size in SIZES), *FOUND, *extra, "training.clip_norm=0.5"]
    recipe = override(find_recipe(name), [*changed, f"training.accumulate={accumulate}"])
    learner = build(recipe)
    engine.training = replace(recipe.training, shard=shard, activation_checkpointing=shard)
    engine.setup(learner)
    assert is_sharded(learner) == shard
    batch = share_of(batch_of(learner, WINDOWS), RankSlice(WINDOWS, engine.rank, engine.processes))
    found: dict[str, Tensor] = {}
    for step in (0, 1):
        now = TrainingProgress(step, 10)
        learner.begin_step(now)
        losses = engine.losses_and_gradients(batch, step)
        found |= {f"{step}/{key}": engine.mean(value) for key, value in losses.items()}
        found[f"{step}/norm"] = engine.gradient_norm()
        learner.before_step(now)
        engine.step(1e-3)
        learner.after_step(replace(now, step=step + 1))
    held = sum(own_part(each).numel() for each in learner.parameters())
    return found | whole_tensors(dict(learner.state_dict()), True), held / sum(p.numel() for p in learner.parameters())


def largest_error(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> dict[str, float]:
    """The largest relative error of losses and norms of each step, and that of all weights and statistics."""
    assert found.keys() == wanted.keys()
    errors = {"0": 0.0, "1": 0.0}
    for name in (name for name in wanted if name[0] in errors):
        difference = abs(float(found[name]) - float(wanted[name]))
        errors[name[0]] = max(errors[name[0]], difference / max(abs(float(wanted[name])), 1e-3))
    ours, theirs = (
        torch.cat([value.double().flatten() for name, value in each.items() if name[0] not in errors])
        for each in (found, wanted)
    )
    return errors | {"state": float((ours - theirs).norm() / theirs.norm())}


if __name__ == "__main__":
    one = Engine(find_recipe("msm-mae").training, "cpu")
    everything = {}
    for kind in sys.argv[2:]:
        for accumulate in (1,) if kind == "contrast" else (1, 2):
            whole, all_of_it = two_steps(one, kind, False, accumulate)
            parts, held = two_steps(one, kind, True, accumulate)
            assert all_of_it == 1.0
            everything[f"{kind}|{accumulate}"] = {"held": held, **largest_error(parts, whole)}
    if one.rank == 0:
        Path(sys.argv[1]).write_text(json.dumps(everything))
    one.close()
