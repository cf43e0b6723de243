"""Model folders of earlier versions are read with the names of this one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from unheard.audio.frontend import Statistics
from unheard.config import override
from unheard.files import FILES, file_checksums, read_json, write_json
from unheard.objectives.distill import DistillTeacher
from unheard.recipes import find_recipe
from unheard.recipes.learner import build
from unheard.training.initial import build_initialised
from unheard.weights.checkpoint import WEIGHTS, Provenance, load_model, save_model
from unheard.weights.tensors import read_tensors, write_tensors

SIZES = ("frames=32", "embed_dim=16", "depth=1", "num_heads=2", "decoder_embed_dim=16", "decoder_depth=1")
RECIPE = override(
    find_recipe("mam-clap"),
    [
        *(f"model.{size}" for size in SIZES),
        "model.decoder_num_heads=2",
        "objectives.distill.heads=separate",
        'objectives.distill.teachers=[{"name": "teachers/clap", "dim": 4, "visible": 0.5, "standardise": "running"}]',
    ],
)
SECTION: dict[str, Any] = {
    "weight": 1.0, "teacher": "teachers/clap", "stage": "final", "projected": False, "visible": 0.5, "hidden": 1.0,
    "pooled": 0.0, "visible_features": "encoder", "heads": "separate", "distance": "cosine", "balance": "separate",
    "standardise": "running", "dim": 4, "cache": True,
}  # fmt: skip
OLD_NAMES = {
    "objectives.distill.terms.0.heads.0.": "objectives.clap.head.",
    "objectives.distill.terms.0.": "objectives.clap.",
}


def old_name(name: str) -> str:
    for new, old in OLD_NAMES.items():
        if name.startswith(new):
            return old + name.removeprefix(new)
    return name


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A folder as the version before this objective wrote it."""
    folder = tmp_path / "model"
    save_model(folder, build(RECIPE, seed=3), RECIPE, Statistics((0.0,), (1.0,)), Provenance())
    tensors = {old_name(name): value for name, value in read_tensors(folder / WEIGHTS).items()}
    assert "objectives.clap.head.1.weight" in tensors and "objectives.clap.decoder_to_encoder_proj.bias" in tensors
    write_tensors(folder / WEIGHTS, tensors)
    config = read_json(folder / "config.json")
    objectives = config["recipe"]["objectives"]
    del objectives["distill"]
    objectives["clap"] = SECTION
    write_json(folder / "config.json", {**config, FILES: file_checksums(folder, [WEIGHTS])})
    return folder


def test_a_folder_with_the_section_clap_is_one_with_a_teacher(old: Path) -> None:
    loaded, expected = load_model(old), build(RECIPE, seed=3).export_state_dict()
    assert loaded.recipe == RECIPE and loaded.others == {}
    assert loaded.recipe.objectives.distill.teachers == (
        DistillTeacher("teachers/clap", visible=0.5, standardise="running", dim=4),
    )
    found = loaded.learner.export_state_dict()
    assert found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in expected)


def test_a_run_starts_from_it(old: Path) -> None:
    started = build_initialised(RECIPE, old).state_dict()
    expected = build(RECIPE, seed=3).state_dict()
    assert all(torch.equal(started[name], expected[name]) for name in expected)
