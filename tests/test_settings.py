"""The settings of a configuration, with their values and meanings."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from unheard.cli import main
from unheard.config import names, override
from unheard.finetuning.named_recipes import FINETUNE_RECIPES, find_finetune_recipe
from unheard.finetuning.recipe import FinetuneRecipe
from unheard.recipes import RECIPES, find_recipe
from unheard.recipes.recipe import Recipe
from unheard.settings import settings_of


@pytest.mark.parametrize("name", [each for each in RECIPES if not find_recipe(each).objectives.distill.teachers])
def test_the_settings_of_a_recipe_give_it_again(name: str) -> None:
    recipe = find_recipe(name)
    kind = f"frontend.kind={recipe.frontend.kind}"
    assert override(Recipe(), [kind, *(each.given for each in settings_of(recipe))]) == recipe


@pytest.mark.parametrize("name", FINETUNE_RECIPES)
def test_the_settings_of_a_fine_tuning_recipe_give_it_again(name: str) -> None:
    recipe = find_finetune_recipe(name)
    assert override(FinetuneRecipe(), [each.given for each in settings_of(recipe)]) == recipe


@pytest.mark.parametrize("name", RECIPES)
def test_every_setting_is_listed_once_with_its_meaning(name: str) -> None:
    recipe = find_recipe(name)
    found = settings_of(recipe)
    listed = [each.name for each in found]
    assert len(set(listed)) == len(listed)
    whole = {each for each in names(recipe) if each != "objectives.distill.teachers"}
    assert set(listed) - {"objectives.distill.teachers"} == whole
    assert [each.name for each in found if not each.meaning or not each.accepted] == []


def test_a_class_without_a_source_file_has_no_meanings() -> None:
    space: dict[str, object] = {"dataclass": dataclass, "__name__": "unheard"}
    exec("@dataclass(frozen=True)\nclass Mine:\n    a: int = 1\n", space)
    assert [(each.given, each.meaning) for each in settings_of(space["Mine"]())] == [("a=1", "")]  # type: ignore[operator]


def test_show_prints_what_a_run_would_have(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pretrain", "--show", "--recipe", "m2d", "--set", "model.size=tiny", "--steps", "7"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert "model.size=tiny" in printed and "training.steps=7" in printed and "training.epochs=null" in printed
    assert main(["recipes", "m2d", "--json"]) == 0
    values = {each["name"]: each["value"] for each in json.loads(capsys.readouterr().out)}
    assert values["model.frames"] == 608 and values["objectives.latents.weight"] == 1.0


def test_show_refuses_a_run_that_exists(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pretrain", "--show", "--resume", "runs/first"]) == 2
    printed = capsys.readouterr()
    assert "config.json" in printed.err and not printed.out


def test_show_lists_the_options_that_are_no_settings(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    table = tmp_path / "labels.csv"
    command = ["pretrain", "--show", "--minutes", "5", "--init", "random-tiny", "--watch", str(table)]
    assert main([*command, "--watch-every", "20", "--resume-or-start"]) == 0
    lines = capsys.readouterr().out.splitlines()
    given = ["--minutes=5.0", "--init=random-tiny", f"--watch={table}", "--watch-every=20", "--resume-or-start=true"]
    assert [line for line in lines if line.startswith("--")] == given
    assert "scored while the run trains" in " ".join(lines)
    assert main([*command, "--json"]) == 0
    shown = {each["name"]: each["value"] for each in json.loads(capsys.readouterr().out)}
    assert (shown["--watch"], shown["--minutes"], shown["training.steps"]) == (str(table), 5.0, None)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--watch-every", "2"], "--watch-every needs --watch"),
        (["--watch", "labels.csv", "--watch-every", "0"], "at least 1 step"),
        (["--resume-or-start", "--overwrite"], "give only one of them"),
        (["--resume-or-start", "-o", "s3://bucket/run"], "needs a local run folder"),
        (["--minutes", "1", "--steps", "2"], "give only one"),
    ],
)
def test_show_refuses_what_a_run_refuses(
    options: list[str], message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for command in (["pretrain", "--show"], ["pretrain", str(tmp_path), "-o", str(tmp_path / "run")]):
        given = [*command[:2], *options] if "-o" in options else [*command, *options]
        assert main(given) == 2
        printed = capsys.readouterr()
        assert message in printed.err and not printed.out
