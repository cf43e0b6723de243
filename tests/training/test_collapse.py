"""The warning of a collapse: of each kind once, after two rows in a row, in words that help."""

from __future__ import annotations

import pytest

from unheard.config import override
from unheard.recipes import find_recipe
from unheard.recipes.learner import PretrainModule, build
from unheard.training.collapse import CollapseDetector

SIZES = (
    "frames=32",
    "embed_dim=32",
    "depth=1",
    "num_heads=2",
    "decoder_embed_dim=32",
    "decoder_depth=1",
    "decoder_num_heads=2",
)
HEALTHY = {
    "step": 10.0,
    "diagnostics/feature_std": 0.6,
    "diagnostics/effective_rank": 3.0,
    "diagnostics/effective_prototypes": 8.0,
}


def learner(name: str) -> PretrainModule:
    head = [f"objectives.prototypes.{size}" for size in ("prototypes=100", "hidden_dim=16", "bottleneck_dim=8")]
    return build(override(find_recipe(name), [*(f"model.{size}" for size in SIZES), *head]))


def warnings_of(name: str, *rows: dict[str, float]) -> list[str]:
    warnings: list[str] = []
    watch = CollapseDetector(learner(name), warnings.append)
    for row in rows:
        watch.update(HEALTHY | row)
    return warnings


@pytest.mark.parametrize(
    ("sick", "words"),
    [
        ({"diagnostics/feature_std": 0.03}, ("standard deviation 0.03", "teacher.max_initial_weight=1")),
        (
            {"loss/latents": 0.02, "diagnostics/effective_rank": 1.1},
            ("effective rank 1.1", "loss 0.020", "objectives.reconstruct.weight=1"),
        ),
        (
            {"loss/latents": 0.02, "diagnostics/between_clip_variance_fraction": 0.95},
            ("95% of the variance between clips",),
        ),
        (
            {"diagnostics/effective_prototypes": 1.05},
            ("1.05 effective prototypes of 100", "objectives.prototypes.prototypes"),
        ),
    ],
)
def test_a_collapse_is_reported_once(sick: dict[str, float], words: tuple[str, ...]) -> None:
    warnings = warnings_of("matpac", {}, sick, sick | {"step": 20.0}, sick, {}, sick, sick)
    assert len(warnings) == 1 and "\n" not in warnings[0] and warnings[0].startswith("warning    step 20: ")
    assert all(word in warnings[0] for word in words)


def test_one_row_is_not_yet_a_collapse_and_kinds_are_separate() -> None:
    few, flat = {"diagnostics/effective_prototypes": 1.0}, {"diagnostics/feature_std": 0.01}
    assert warnings_of("matpac", few, {}, few, flat, {}) == []
    assert len(warnings_of("matpac", few | flat, few | flat, few, flat)) == 2


def test_a_low_loss_on_rich_features_is_learning_and_flat_features_that_are_hard_are_not_yet_a_collapse() -> None:
    assert (
        warnings_of(
            "matpac", *[{"loss/latents": 0.01}] * 3, *[{"loss/latents": 0.2, "diagnostics/effective_rank": 1.2}] * 3
        )
        == []
    )


def test_runs_without_a_teacher_are_left_alone() -> None:
    watch_pixels: list[str] = []
    watch = CollapseDetector(learner("msm-mae"), watch_pixels.append)
    for _ in range(3):
        watch.update({"step": 1.0, "loss": 0.0})
    assert watch_pixels == []


def test_advice_names_settings_that_exist() -> None:
    recipe = find_recipe("matpac")
    settings = [
        "teacher.max_initial_weight=1",
        "objectives.reconstruct.weight=1",
        "objectives.prototypes.center=logits",
        "training.learning_rate=1e-4",
    ]
    assert override(recipe, [*settings, "objectives.prototypes.prototypes=64"]).teacher.max_initial_weight == 1
