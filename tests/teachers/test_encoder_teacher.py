"""Any model of this library as a teacher, and its features aligned to a student's patches."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from unheard.audio.frontend import MSM_MAE_16K, Statistics
from unheard.audio.frontend_kinds import FrontendConfig
from unheard.audio.kaldi import AUDIOMAE
from unheard.config import override
from unheard.errors import CheckpointError, ConfigError
from unheard.model.patches import Grid
from unheard.objectives.base import Batch
from unheard.recipes import find_recipe
from unheard.recipes.learner import build
from unheard.teachers.encoder import EncoderTeacher
from unheard.teachers.load import load_teacher
from unheard.teachers.targets import ComputedTargets, StudentPatches
from unheard.weights.checkpoint import Provenance, SavedModel

SIZES = (
    "frames=32",
    "embed_dim=24",
    "depth=2",
    "num_heads=3",
    "decoder_embed_dim=16",
    "decoder_depth=1",
    "decoder_num_heads=2",
)
RECIPE = override(find_recipe("msm-mae"), [f"model.{size}" for size in SIZES])
HOP = 160


@pytest.fixture
def saved() -> SavedModel:
    return SavedModel(build(RECIPE, 0), RECIPE, Statistics((-6.0,), (4.0,)), Provenance(source="here"))


def noise(batch: int, frames: int, seed: int = 0) -> Tensor:
    return 0.1 * torch.randn(batch, frames * HOP, generator=torch.Generator().manual_seed(seed))


def a_batch(wav: Tensor | None, clips: list[int], patches: int) -> Batch:
    n = len(clips)
    none = torch.zeros(n, dtype=torch.int64)
    valid = torch.ones(n, patches, dtype=torch.bool)
    return Batch(
        torch.zeros(n, 1, 1), valid, torch.tensor(clips), none, torch.zeros(n), torch.zeros(n, patches), wav=wav
    )


def targets_of(teacher: EncoderTeacher, grid: Grid, frontend: FrontendConfig = MSM_MAE_16K) -> ComputedTargets:
    return ComputedTargets(teacher, StudentPatches.of(grid, frontend), 16000)


@pytest.mark.parametrize("frames", [9, 32, 70])
def test_its_map_has_a_column_for_every_patch_of_any_length(saved: SavedModel, frames: int) -> None:
    teacher = EncoderTeacher(saved)
    wav = noise(2, frames)
    features, axes = teacher(wav), teacher.axes(wav.shape[1])
    assert features.shape == (2, 24, len(axes.edges) + 1, len(axes.columns)) and features.shape[3] == -(
        -(frames + 1) // 16
    )
    assert not features.requires_grad and list(axes.columns) == sorted(axes.columns)


def test_a_student_with_the_same_patches_hears_its_tokens(saved: SavedModel) -> None:
    teacher, wav = EncoderTeacher(saved), noise(2, 32)
    targets = targets_of(teacher, saved.learner.grid)(a_batch(wav, [0, 1], 10))
    spec = saved.statistics.normalise(teacher.frontend(wav))[..., :32]
    with torch.no_grad():
        tokens, _ = saved.learner.model.encoder(saved.learner.grid.patchify(spec))
    torch.testing.assert_close(targets, tokens, atol=2e-3, rtol=2e-3)  # float16


def test_a_student_of_another_front_end_gets_a_value_for_every_patch(saved: SavedModel) -> None:
    grid = Grid.of(128, 48, (16, 16), "time")
    targets = targets_of(EncoderTeacher(saved), grid, AUDIOMAE)
    assert targets(a_batch(noise(3, 48), [0, 1, 2], grid.num_patches)).shape == (3, grid.num_patches, 24)


def test_a_change_in_the_sound_moves_the_targets_where_it_is(saved: SavedModel) -> None:
    """Columns after it change through attention as well; what must hold is that the nearest column changes most."""
    wav = noise(1, 32)
    louder = wav.clone()
    louder[:, 4 * HOP : 12 * HOP] += noise(1, 8, 3)
    targets = targets_of(EncoderTeacher(saved), saved.learner.grid)
    moved = (targets(a_batch(louder, [0], 10)) - targets(a_batch(wav, [0], 10))).abs().sum(dim=(0, 2))
    columns = torch.zeros(2).index_add(0, saved.learner.grid.columns(), moved)
    assert columns[0] > columns[1]


def test_without_sound_there_is_nothing_to_hear(saved: SavedModel) -> None:
    with pytest.raises(ConfigError, match="--store wav"):
        targets_of(EncoderTeacher(saved), saved.learner.grid)(a_batch(None, [0], 10))


def test_other_weights_have_another_fingerprint(saved: SavedModel) -> None:
    other = SavedModel(build(RECIPE, 1), RECIPE, saved.statistics, saved.provenance)
    assert EncoderTeacher(saved).fingerprint == EncoderTeacher(saved).fingerprint != EncoderTeacher(other).fingerprint


def test_a_teacher_is_found_by_name() -> None:
    teacher = load_teacher("random-tiny")
    assert teacher.dim == 192 and "feature distillation" in teacher.name and not teacher.training
    with pytest.raises(CheckpointError, match=r"objectives\.distill\.teachers\.0\.name"):
        load_teacher("")
