"""Recipes hold the papers' numbers; wrong files and names are reported."""

from __future__ import annotations

import importlib
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from unheard.config import override
from unheard.errors import ConfigError
from unheard.model.sizes import ModelConfig, resolve_sizes
from unheard.recipes import RECIPES, find_recipe
from unheard.recipes.learner import build, grid_of
from unheard.training.optim import build_optimiser, learning_rate, peak_learning_rate
from unheard.training.session import total_steps

TABLE_1 = {  # patches of each configuration
    "msm-mae-96": 30,
    "msm-mae-208": 65,
    "msm-mae-304": 95,
    "msm-mae-400": 125,
    "msm-mae-512": 160,
    "msm-mae-208-8x16": 130,
    "msm-mae-200-16x8": 125,
    "msm-mae-200-16x4": 250,
    "msm-mae-304-80x4": 76,
}


@pytest.mark.parametrize("name", TABLE_1)
def test_the_paper_s_configurations_have_its_sizes(name: str) -> None:
    recipe = find_recipe(name)
    size = resolve_sizes(recipe.model)
    assert grid_of(recipe).num_patches == TABLE_1[name]
    assert (size.embed_dim, size.depth, size.num_heads) == (768, 12, 12)
    assert (size.decoder_embed_dim, size.decoder_depth, size.decoder_num_heads) == (384, 4, 6)
    assert (
        recipe.model.mask_ratio == 0.75
        and recipe.model.decoder_positions == "1d"
        and not recipe.objectives.reconstruct.norm_pix
    )
    assert (recipe.frontend.sample_rate, recipe.frontend.n_mels, recipe.frontend.f_min, recipe.frontend.f_max) == (
        16000,
        80,
        50,
        8000,
    )
    training = recipe.training
    assert (training.batch_size, training.epochs, training.betas, training.weight_decay) == (
        512,
        100,
        (0.9, 0.95),
        0.05,
    )
    assert peak_learning_rate(training) == pytest.approx(6e-4)


@pytest.mark.parametrize("name", ["audiomae", "clap_mini", "m2d", "mam_clap", "maskspec", "matpac", "msm_mae"])
def test_a_recipe_lists_where_it_differs_from_what_was_published(name: str) -> None:
    text = importlib.import_module(f"unheard.recipes.{name}").__doc__
    assert text is not None and re.search(r"[Dd]iffer(ent)? from the publication", text)
    if name in ("audiomae", "m2d", "maskspec", "matpac", "msm_mae"):
        assert "normalised by its own" in text and "padded with the mean" in text


def test_there_are_nine_of_them_and_a_default() -> None:
    assert {name for name in RECIPES if name.startswith("msm-mae-")} == set(TABLE_1)
    default = find_recipe("msm-mae")
    assert default.training.epochs is None and default.training.steps is None and default.model.size == "small"


def test_the_base_model_has_the_published_size() -> None:
    learner = build(find_recipe("msm-mae-208"))
    encoder = sum(p.numel() for p in learner.model.encoder.parameters())
    blocks = 12 * (12 * 768**2 + 13 * 768)  # weights and biases of attention and MLP, two norms
    assert encoder == blocks + 256 * 768 + 768 + 768 + 2 * 768


def test_m2d_has_the_published_numbers() -> None:
    recipe = find_recipe("m2d")
    size = resolve_sizes(recipe.model)
    assert (size.decoder_embed_dim, size.decoder_depth, size.decoder_num_heads) == (512, 8, 16)
    assert (grid_of(recipe).num_patches, recipe.model.mask_ratio, recipe.training.batch_size) == (190, 0.7, 2048)
    assert recipe.objectives.reconstruct.weight == 0 and recipe.objectives.latents.weight == 1
    assert (recipe.teacher.momentum_start, recipe.teacher.momentum_end) == (0.99995, 0.99999)


def test_the_schedule_warms_up_and_decays() -> None:
    training = find_recipe("msm-mae-208").training
    rates = [learning_rate(epoch / 100, peak_learning_rate(training), training.warmup) for epoch in (0, 5, 10, 55, 100)]
    assert rates == pytest.approx([0, 3e-4, 6e-4, 3e-4, 0], abs=1e-12)


@pytest.mark.parametrize(
    ("settings", "windows", "steps"),
    [
        (["training.steps=7"], 1000, 7),
        (["training.epochs=2", "training.batch_size=100"], 1000, 20),
        (["training.epochs=0.001"], 10, 1),
        ([], 10, 200),
        ([], 10**6, 10_000),
    ],
)
def test_how_long_a_run_is(settings: list[str], windows: int, steps: int) -> None:
    assert total_steps(override(find_recipe("msm-mae"), settings).training, windows) == steps


REQUIRED = (
    "objectives.distill.teachers.0.dim=4",
    "objectives.contrast.text_dim=4",
    'objectives.supervise.classes=["dog"]',
)  # what a run finds out


def test_every_recipe_can_be_made_tiny_and_built() -> None:
    small = [
        "model.embed_dim=48",
        "model.depth=1",
        "model.num_heads=3",
        "model.decoder_embed_dim=48",
        "model.decoder_depth=1",
    ]
    for name in RECIPES:
        learner = build(override(find_recipe(name), [*small, *REQUIRED, "model.decoder_num_heads=3"]))
        assert learner.recipe.name == name


def test_the_same_seed_gives_the_same_weights_and_leaves_the_global_generator_alone() -> None:
    recipe = override(find_recipe("msm-mae"), ["model.size=tiny", "model.depth=1"])
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    first, second, other = (build(recipe, seed).state_dict() for seed in (3, 3, 4))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["model.encoder.patch_embed.weight"], other["model.encoder.patch_embed.weight"])


def test_a_python_file_is_a_recipe(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from dataclasses import replace\nfrom unheard.recipes import find_recipe\n\n"
        "def recipe():\n    return replace(find_recipe('msm-mae'), name='mine')\n"
    )
    assert find_recipe(str(tmp_path / "mine.py")).name == "mine"


def test_a_recipe_file_may_define_a_dataclass(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from __future__ import annotations\nfrom dataclasses import dataclass\nfrom unheard.recipes import"
        " find_recipe\n\n@dataclass(frozen=True)\nclass Sizes:\n    depth: int = 3\n\ndef recipe():\n    return"
        " find_recipe('msm-mae') if Sizes().depth == 3 else None\n"
    )
    assert find_recipe(str(tmp_path / "mine.py")).name == "msm-mae"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"patch_size": (0, 16)}, "patch_size.0: got 0; .* greater than or equal to 1"),
        ({"frames": 0}, "frames: got 0"),
        ({"num_heads": 0}, "num_heads: got 0"),
        ({"decoder_num_heads": 0}, "decoder_num_heads: got 0"),
        ({"embed_dim": -4}, "embed_dim: got -4"),
        ({"depth": -1}, "depth: got -1"),
        ({"decoder_depth": 0}, "decoder_depth: got 0"),
        ({"num_hypotheses": 0}, "num_hypotheses: got 0"),
        ({"mask_ratio": 1.5}, "mask_ratio: got 1.5"),
    ],
)
def test_a_size_out_of_its_range_is_named_also_when_code_made_it(change: dict[str, Any], message: str) -> None:
    recipe = replace(find_recipe("msm-mae"), model=replace(ModelConfig(size="tiny"), **change))
    with pytest.raises(ConfigError, match=f"model.{message}"):
        build(recipe)
    if any(name.endswith(("heads", "dim", "depth")) for name in change):
        with pytest.raises(
            ConfigError, match=rf"model.{next(iter(change))} is -?\d; it must be a whole number of at least 1"
        ):
            resolve_sizes(recipe.model)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "there is no recipe file"),
        ("x = 1\n", r"must define recipe\(\) returning .*Recipe; got None"),
        ("recipe = 3\n", r"must define recipe\(\)"),
        ("def recipe():\n    return 'base'\n", "got 'base'"),
        ("def recipe(:\n", "cannot be executed as a recipe.*SyntaxError"),
        ("import no_such_module\n", "cannot be executed as a recipe.*no_such_module"),
        ("def recipe():\n    return 1 / 0\n", "cannot be executed as a recipe.*ZeroDivisionError"),
    ],
)
def test_a_python_file_that_is_no_recipe_is_reported(text: str | None, message: str, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / "mine.py").write_text(text)
    with pytest.raises(ConfigError, match=message):
        find_recipe(str(tmp_path / "mine.py"))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("msm-may", r"did you mean msm-mae\?"),
        ("msm-mae-302-80x4", r"did you mean msm-mae-304-80x4\?"),
        ("M2D", r"did you mean m2d\?"),
        ("wav2vec", r"known recipes: msm-mae, .*m2d.*; or give a \.py file"),
        ("", "known recipes"),
    ],
)
def test_unknown_names_are_reported_with_the_nearest(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        find_recipe(name)


@pytest.mark.parametrize(("name", "hypotheses"), [("matpac", 1), ("matpac++", 5)])
def test_matpac_has_the_published_numbers(name: str, hypotheses: int) -> None:
    recipe = find_recipe(name)
    training, asked = recipe.training, recipe.objectives
    learner = build(override(recipe, ["model.depth=1", "model.decoder_depth=1"]))
    size = resolve_sizes(recipe.model)
    assert (size.embed_dim, size.depth, size.decoder_embed_dim, size.decoder_depth, size.decoder_num_heads) == (
        768,
        12,
        512,
        8,
        16,
    )
    assert (grid_of(recipe).num_patches, recipe.model.mask_ratio, recipe.model.num_hypotheses) == (190, 0.7, hypotheses)
    assert (asked.reconstruct.weight, asked.latents.weight, asked.prototypes.weight) == (0, 0.5, 0.5)
    assert not asked.latents.standardise_target and asked.prototypes.center == "probs"
    assert (
        not recipe.frontend.center
        and recipe.teacher.update_at == "before_step"
        and not recipe.teacher.init_from_student
    )
    assert peak_learning_rate(training) == 3e-4 and (training.batch_size, training.epochs, training.clip_norm) == (
        2048,
        300,
        3,
    )
    assert (training.weight_decay_on, training.adam_eps, training.weight_decay) == ("all", 1e-6, 0.05)
    assert total_steps(training, 2_012_615) == pytest.approx(294_816, abs=1)
    head = sum(p.numel() for p in learner.objectives["prototypes"].parameters() if p.requires_grad)
    assert head == 6_822_144


def test_predictor_and_head_shrink_with_the_encoder() -> None:
    for size, expected in (("tiny", (128, 4)), ("small", (256, 6)), ("large", (512, 8))):
        found = resolve_sizes(override(find_recipe("matpac"), [f"model.size={size}"]).model)
        assert (found.decoder_embed_dim, found.decoder_depth) == expected
    tiny = build(override(find_recipe("matpac"), ["model.size=tiny", "model.depth=1"]))
    assert tiny.objectives["prototypes"].student.weight_v.shape == (512, 64)


def test_decay_reaches_everything_where_the_recipe_says_so() -> None:
    learner = build(override(find_recipe("matpac"), ["model.size=tiny", "model.depth=1"]))
    decayed = [
        group for group in build_optimiser(learner, learner.recipe.training).param_groups if group["weight_decay"] > 0
    ]
    everything = [p for p in learner.parameters() if p.requires_grad]
    assert sum(len(group["params"]) for group in decayed) == len(everything)
    pixels = build(override(find_recipe("msm-mae"), ["model.size=tiny", "model.depth=1"]))
    free = [
        group for group in build_optimiser(pixels, pixels.recipe.training).param_groups if group["weight_decay"] == 0
    ]
    assert free and all(p.ndim == 1 for group in free for p in group["params"])
