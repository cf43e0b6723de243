"""Run alone or by torchrun: compiles a step of recipes as training does, and writes how many graphs each of them has.

An operation that breaks a graph is an error. The graphs are executed by PyTorch instead of generated code.

python -m tests.training.compiled_steps RESULT.json ACCUMULATE RECIPE...
"""

from __future__ import annotations

import json
import sys
from functools import partialmethod
from pathlib import Path

import torch
from tests.training.global_batch import FOUND, SIZES, VIEWS, WINDOWS, batch_of, share_of
from torch import nn

from unheard.config import override
from unheard.data.prefetch import RankSlice
from unheard.objectives.teacher_schedules import TrainingProgress
from unheard.recipes import find_recipe
from unheard.recipes.learner import PretrainModule, build
from unheard.recipes.recipe import Recipe
from unheard.training.engine import Engine


def tiny(name: str, *extra: str) -> Recipe:
    """The recipe in the sizes of `tests.training.global_batch`."""
    recipe = find_recipe(name)
    views = VIEWS if recipe.mask.views > 1 else []
    return override(recipe, [*(f"model.{size}" for size in SIZES), *FOUND, *views, *extra])


def graphs(engine: Engine, recipe: Recipe) -> int:
    """Take two steps; return the number of graphs that they compiled."""
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    learner = build(recipe)
    engine.training = recipe.training
    engine.setup(learner)
    batch = share_of(batch_of(learner, WINDOWS), RankSlice(WINDOWS, engine.rank, engine.processes))
    for step in (0, 1):
        learner.begin_step(TrainingProgress(step, 10))
        engine.losses_and_gradients(batch, step)
        engine.step(1e-3)
        learner.after_step(TrainingProgress(step + 1, 10))
    return torch._dynamo.utils.counters["stats"]["unique_graphs"]


if __name__ == "__main__":
    PretrainModule.compile = partialmethod(nn.Module.compile, backend="eager", fullgraph=True)
    one = Engine(find_recipe("msm-mae").training, "cpu")
    settings = ["training.compile=true", f"training.accumulate={sys.argv[2]}"]
    found = {name: graphs(one, tiny(name, *settings)) for name in sys.argv[3:]}
    if one.rank == 0:
        Path(sys.argv[1]).write_text(json.dumps(found))
    one.close()
