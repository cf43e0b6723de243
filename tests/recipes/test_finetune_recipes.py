"""Fine-tuning recipes by name: the numbers that were published, and that each survives its way through JSON."""

from __future__ import annotations

import json

import pytest

from unheard.config import from_json, override, to_json
from unheard.errors import ConfigError
from unheard.model.masking import num_keep
from unheard.recipes.finetune import FinetuneRecipe
from unheard.recipes.finetune_named import FINETUNE_RECIPES, find_finetune_recipe
from unheard.training.optim import peak_learning_rate


@pytest.mark.parametrize("name", FINETUNE_RECIPES)
def test_every_recipe_survives_json_and_bears_its_name(name: str) -> None:
    recipe = find_finetune_recipe(name)
    assert recipe.name == name and recipe.numbers
    assert from_json(FinetuneRecipe, json.loads(json.dumps(to_json(recipe)))) == recipe


@pytest.mark.parametrize(
    ("name", "loss", "rate", "epochs", "mixed", "alpha", "left_out"),
    [
        ("audioset", "bce", 2e-3, 80, 1.0, 0.3, 200),
        ("esc50", "cross-entropy", 2.5e-4, 80, 1.0, 0.3, 200),
        ("openmic", "bce", 2.5e-4, 80, 0.0, 0.3, 200),
        ("scv2", "cross-entropy", 2.5e-4, 80, 1.0, 0.3, 0),
        ("dcase2018", "cross-entropy", 2.5e-4, 80, 1.0, 0.3, 200),
        ("dcase2019", "cross-entropy", 1.25e-3, 200, 1.0, 0.2, 200),
    ],
)
def test_the_table_of_maskspec(name: str, loss: str, rate: float, epochs: float, mixed: float, alpha: float, left_out: int) -> None:
    recipe = find_finetune_recipe(name)
    assert recipe.task.loss == loss and peak_learning_rate(recipe.training) == pytest.approx(rate)
    assert recipe.training.epochs == epochs and recipe.training.warmup * epochs == pytest.approx(5)
    assert (recipe.augment.spec_mix, recipe.augment.spec_mix_alpha) == (mixed, alpha)
    assert 496 - num_keep(496, recipe.augment.patchout) == left_out
    assert (recipe.adapt.layer_decay, recipe.adapt.drop_path, recipe.adapt.average) == (0.75, 0.1, "none")


def test_other_published_numbers() -> None:
    assert 248 - num_keep(248, find_finetune_recipe("esc50").augment.patchout) == 100
    assert find_finetune_recipe("dcase2019").task.channels == ("left", "right", "mid")
    audioset, theirs = find_finetune_recipe("audioset").task, find_finetune_recipe("audiomae-audioset").task
    assert (audioset.balance, audioset.balance_offset, audioset.epoch_clips) == ("class", 100.0, 100_000)
    assert (theirs.balance, theirs.balance_offset, theirs.epoch_clips) == ("class", 0.01, 200_000)
    assert not find_finetune_recipe("audiomae-20k").adapt.trainable_positions
    passt = find_finetune_recipe("passt-audioset")
    assert peak_learning_rate(passt.training) == 2e-5 and passt.adapt.average == "swa"


def test_wrong_names_and_values_are_refused() -> None:
    with pytest.raises(ConfigError, match="did you mean esc50"):
        find_finetune_recipe("ESC-50")
    for setting in ("augment.patchout=1", "augment.gain_db=[-100,0]", "task.channels=[]", "adapt.layer_decay=0", "task.holdout=0.9"):
        with pytest.raises(ConfigError):
            override(FinetuneRecipe(), [setting])
