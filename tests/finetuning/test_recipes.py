"""Fine-tuning recipes by name: the numbers that were published, and that each survives its way through JSON."""

from __future__ import annotations

import json
import math

import pytest

from unheard.api.pretraining import one_length
from unheard.config import from_json, override, to_json
from unheard.errors import ConfigError
from unheard.finetuning.learning_rates import rate_at
from unheard.finetuning.named_recipes import FINETUNE_RECIPES, find_finetune_recipe
from unheard.finetuning.recipe import FinetuneRecipe
from unheard.model.masking import num_keep
from unheard.training.optim import peak_learning_rate


@pytest.mark.parametrize("name", FINETUNE_RECIPES)
def test_every_recipe_survives_json_and_bears_its_name(name: str) -> None:
    recipe = find_finetune_recipe(name)
    assert recipe.name == name and recipe.hyperparameter_source
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
def test_the_table_of_maskspec(
    name: str, loss: str, rate: float, epochs: float, mixed: float, alpha: float, left_out: int
) -> None:
    recipe = find_finetune_recipe(name)
    assert recipe.task.loss == loss and peak_learning_rate(recipe.training) == pytest.approx(rate)
    assert recipe.training.epochs == epochs and recipe.training.warmup * epochs == pytest.approx(5)
    assert (recipe.augment.spec_mixup_prob, recipe.augment.spec_mixup_alpha) == (mixed, alpha)
    assert 496 - num_keep(496, recipe.augment.patchout) == left_out
    assert (recipe.adapt.layer_decay, recipe.adapt.drop_path, recipe.adapt.weight_averaging) == (0.75, 0.1, "none")
    assert (recipe.adapt.schedule, recipe.adapt.min_learning_rate, recipe.training.weight_decay) == (
        "cosine",
        1e-6,
        0.05,
    )
    assert (
        recipe.augment.gain_db == (-7, 6)
        and recipe.augment.wave_mixup_prob == 0.5 * mixed
        and recipe.augment.wave_mixup_alpha == 2
    )
    chain = recipe.augment.waveform
    assert (chain.probability, chain.noise_db, chain.volume_db, chain.speed) == (0.5, (0, 15), (-2, 2), (0.8, 1.2))
    assert (chain.high_pass, chain.low_pass) == ((5000, 12000), (1000, 5000))


def test_other_published_numbers() -> None:
    assert (
        256 - num_keep(256, find_finetune_recipe("esc50").augment.patchout) == 104
    )  # the reference: 100 of the first 248
    assert find_finetune_recipe("dcase2019").task.channels == ("left", "right", "mid")
    audioset, theirs = find_finetune_recipe("audioset").task, find_finetune_recipe("audiomae-audioset").task
    assert (audioset.balance, audioset.class_weight_offset, audioset.epoch_clips) == ("class", 100.0, 100_000)
    assert (theirs.balance, theirs.class_weight_offset, theirs.epoch_clips) == ("class", 0.01, 200_000)
    assert not find_finetune_recipe("audiomae-20k").adapt.trainable_positions
    passt = find_finetune_recipe("passt-audioset")
    assert peak_learning_rate(passt.training) == 2e-5 and passt.adapt.weight_averaging == "swa"
    assert (
        passt.adapt.average_every == 5
        and 130 * passt.adapt.average_from == pytest.approx(50)
        and not passt.augment.waveform.probability
    )


def test_the_rate_of_passt_warms_up_holds_and_falls_in_a_line() -> None:
    passt, peak = find_finetune_recipe("passt-audioset"), 2e-5
    rates = {epoch: rate_at(epoch / 130, passt) for epoch in (0, 2.5, 5, 49, 50, 75, 100, 130)}
    wanted = {0: math.exp(-5), 2.5: math.exp(-1.25), 5: 1, 49: 1, 50: 1, 75: 0.505, 100: 0.01, 130: 0.01}
    assert rates == pytest.approx({epoch: peak * share for epoch, share in wanted.items()})
    short = find_finetune_recipe("passt-esc50")
    assert [rate_at(epoch / 10, short) for epoch in (5, 9, 10)] == pytest.approx([1e-5] * 3)


def test_the_rate_of_maskspec_is_half_a_cosine_down_to_its_lowest() -> None:
    recipe = find_finetune_recipe("esc50")
    rates = [rate_at(epoch / 80, recipe) for epoch in (0, 2.5, 5, 42.5, 80)]
    assert rates == pytest.approx([0, 1.25e-4, 2.5e-4, (2.5e-4 + 1e-6) / 2, 1e-6])
    still = override(recipe, ["training.learning_rate=0"])
    assert {rate_at(share, still) for share in (0.0, 0.5, 1.0)} == {0.0}


def test_epochs_replace_the_steps_of_a_recipe_and_steps_its_epochs() -> None:
    assert one_length(["training.epochs=2", "a=1"]) == ["training.epochs=2", "a=1", "training.steps=null"]
    assert one_length(["training.steps=2"]) == ["training.steps=2", "training.epochs=null"]
    for kept in ([], ["training.epochs=2", "training.steps=null"], ["training.steps=null"]):
        assert one_length(kept) == kept


def test_wrong_names_and_values_are_refused() -> None:
    with pytest.raises(ConfigError, match="did you mean esc50"):
        find_finetune_recipe("ESC-50")
    for setting in (
        "augment.patchout=1",
        "augment.gain_db=[-100,0]",
        "task.channels=[]",
        "adapt.layer_decay=0",
        "task.validation_fraction=0.9",
    ):
        with pytest.raises(ConfigError):
            override(FinetuneRecipe(), [setting])
