"""Lists of class names: formats, and lists that do not fit."""

from __future__ import annotations

from pathlib import Path

import pytest

from unheard.audio.frontend import Statistics
from unheard.config import override
from unheard.errors import ConfigError
from unheard.model.classifier import ClassifierConfig
from unheard.recipes import find_recipe
from unheard.recipes.learner import build
from unheard.weights.checkpoint import Provenance, SavedModel, build_classifier, load_model, save_model
from unheard.weights.class_names import read_class_names, with_class_names

TINY = (
    "frames=32",
    "embed_dim=24",
    "depth=1",
    "num_heads=2",
    "decoder_embed_dim=16",
    "decoder_depth=1",
    "decoder_num_heads=2",
)
RECIPE = override(find_recipe("msm-mae"), [f"model.{size}" for size in TINY])


def model(classes: int | None) -> SavedModel:
    labels = tuple(f"class {number}" for number in range(classes or 0))
    head = build_classifier(ClassifierConfig(labels), RECIPE) if labels else None
    return SavedModel(build(RECIPE), RECIPE, Statistics((-7.0,), (4.0,)), Provenance(), head)


def test_lists_as_people_have_them(tmp_path: Path) -> None:
    table = tmp_path / "class_labels_indices.csv"
    table.write_text('index,mid,display_name\n1,/m/1,"Male speech, man speaking"\n0,/m/0,Speech\n2,/m/2,Dog\n')
    assert read_class_names(table) == ("Speech", "Male speech, man speaking", "Dog")
    (tmp_path / "names.csv").write_text("label\ndog\ncat\n")
    assert read_class_names(tmp_path / "names.csv") == ("dog", "cat")
    (tmp_path / "names.txt").write_text("dog\nroad, wet\n\n")
    assert read_class_names(tmp_path / "names.txt") == ("dog", "road, wet")


@pytest.mark.parametrize(
    ("file", "text", "hint"),
    [
        ("none.txt", None, "cannot be read"),
        ("empty.txt", "\n", "has no names"),
        ("twice.txt", "dog\ncat\ndog\n", "has 'dog' twice"),
        ("columns.csv", "index,mid\n0,/m/0\n", "has the columns index, mid"),
        ("index.csv", "index,name\nx,dog\n", "index that is not a number"),
    ],
)
def test_lists_that_are_none(tmp_path: Path, file: str, text: str | None, hint: str) -> None:
    if text is not None:
        (tmp_path / file).write_text(text)
    with pytest.raises(ConfigError, match=hint):
        read_class_names(tmp_path / file)


def test_names_are_kept_in_the_model_folder(tmp_path: Path) -> None:
    saved = with_class_names(model(3), ("dog", "cat", "rain"))
    save_model(tmp_path / "model", saved.learner, saved.recipe, saved.statistics, saved.provenance, saved.classifier)
    again = load_model(tmp_path / "model").classifier
    assert again is not None and again.config.labels == ("dog", "cat", "rain")
    assert "| classes | 3: dog, cat, rain |" in (tmp_path / "model" / "README.md").read_text()


def test_a_list_for_another_model_is_refused() -> None:
    with pytest.raises(ConfigError, match="3 classes and the list 2 names"):
        with_class_names(model(3), ("dog", "cat"))
    with pytest.raises(ConfigError, match="no classifier"):
        with_class_names(model(None), ("dog", "cat"))
