"""The recipe audiomae has the published size, learns, and resumes exactly, dropout included."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from unheard.config import override
from unheard.embedding.loading import load
from unheard.model import masking
from unheard.objectives.base import Batch
from unheard.recipes import find_recipe
from unheard.recipes.learner import PretrainModule, build, grid_of
from unheard.training.checkpoints import checkpoints
from unheard.training.optim import parameter_groups, peak_learning_rate
from unheard.training.pretrain import pretrain
from unheard.training.resume import resume

SIZES = (
    "frames=96",
    "embed_dim=48",
    "depth=2",
    "num_heads=3",
    "decoder_embed_dim=32",
    "decoder_depth=2",
    "decoder_num_heads=2",
)
SMALL = override(find_recipe("audiomae"), [f"model.{size}" for size in SIZES])
GLOBAL = [f"model.decoder{value}" for value in ("=global", "_embed_dim=512", "_depth=8", "_num_heads=16")]


def test_the_published_numbers() -> None:
    recipe = find_recipe("audiomae")
    grid = grid_of(recipe)
    assert (grid.time, grid.freq, grid.order) == (64, 8, "time")
    assert masking.num_keep(grid.num_patches, recipe.model.mask_ratio) == 102
    assert recipe.objectives.reconstruct.norm_pix and recipe.training.epochs == 33
    assert peak_learning_rate(recipe.training) == pytest.approx(4e-4)


@pytest.mark.parametrize(
    ("settings", "millions", "tensors"),
    [([], 137.0, 430), (GLOBAL, 111.7, 254)],
    ids=["local", "global"],
)
def test_both_decoders_are_as_large_as_published(settings: list[str], millions: float, tensors: int) -> None:
    state = build(override(find_recipe("audiomae"), settings)).export_state_dict()
    rows_of_cls = 768 + 512  # published tables have a row of zeros for the CLS token
    assert len(state) == tensors
    assert (sum(value.numel() for value in state.values()) + rows_of_cls) / 1e6 == pytest.approx(millions, abs=0.05)


@pytest.mark.parametrize("size", ["tiny", "small"])
def test_smaller_sizes_have_a_decoder_of_their_own(size: str) -> None:
    learner = build(override(find_recipe("audiomae"), [f"model.size={size}"]))
    counts = [sum(p.numel() for p in part.parameters()) for part in (learner.model.decoder, learner.model.encoder)]
    assert counts[0] < counts[1] / 3


def batch_of(learner: PretrainModule) -> Batch:
    generator = torch.Generator().manual_seed(0)
    grid = learner.grid
    coarse = torch.randn(2, grid.freq, grid.time, generator=generator).repeat_interleave(16, 1).repeat_interleave(16, 2)
    spec = coarse * torch.linspace(-1, 1, grid.frames) + torch.linspace(-1, 1, grid.n_mels)[:, None]
    count = torch.arange(2)
    return Batch(
        spec=spec,
        valid=torch.ones(2, grid.num_patches, dtype=torch.bool),
        clips=count,
        frames=torch.full((2,), grid.frames),
        start_seconds=count.float(),
        noise=torch.rand(2, grid.num_patches, generator=generator),
    )


STRUCTURED = ["model.mask_ratio_2d=[0.3,0.7]", "model.decoder=global", "model.trainable_positions=true"]


@pytest.mark.parametrize("settings", [[], STRUCTURED], ids=["random", "structured"])
def test_it_learns_two_windows_by_heart(settings: list[str]) -> None:
    learner = build(override(SMALL, settings)).train()
    batch = batch_of(learner)
    mask = masking.training_mask(learner.recipe.model, learner.grid, batch.noise, batch.valid)
    optimiser = torch.optim.AdamW(learner.parameters(), lr=3e-3)
    torch.manual_seed(0)
    before = learner.eval().losses(batch, mask)["loss"].item()
    learner.train()
    for step in range(300):
        optimiser.param_groups[0]["lr"] = 4e-3 * (1 - step / 300)
        optimiser.zero_grad()
        learner.losses(batch, mask)["loss"].backward()
        optimiser.step()
    assert learner.eval().losses(batch, mask)["loss"].item() < 0.1 * before


def test_trained_positions_move_and_are_kept(tmp_path: Path, sounds: Path) -> None:
    recipe = override(
        SMALL, [*RUN, "model.trainable_positions=true", "training.steps=2", "training.learning_rate=0.01"]
    )
    pretrain(sounds, tmp_path / "run", recipe, device="cpu")
    start, end = build(recipe).model.encoder.positions, load(tmp_path / "run").encoder.positions
    assert not torch.equal(start, end) and not end.requires_grad
    learner = build(recipe)
    free = parameter_groups(learner, 0.05)[1]["params"]
    assert isinstance(free, list) and any(p is learner.model.encoder.positions for p in free)


RUN = [
    "training.steps=8",
    "training.batch_size=4",
    "training.checkpoint_every=3",
    "training.log_every=1",
    "training.keep_checkpoints=9",
]


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, generator = tmp_path_factory.mktemp("sounds"), np.random.default_rng(0)
    for number in range(6):
        tone = 0.3 * np.sin(np.arange(20000) * (0.05 + 0.03 * number)) + 0.01 * generator.standard_normal(20000)
        soundfile.write(folder / f"{number}.wav", tone.astype(np.float32), 16000)
    return folder


@pytest.mark.parametrize("settings", [[], ["model.mask_ratio_2d=[0.3,0.5]"]], ids=["random", "structured"])
def test_a_resumed_run_repeats_the_uninterrupted_one(sounds: Path, tmp_path: Path, settings: list[str]) -> None:
    recipe = override(SMALL, RUN + settings)
    pretrain(sounds, tmp_path / "whole", recipe, device="cpu")
    pretrain(sounds, tmp_path / "broken", recipe, device="cpu")
    for folder in checkpoints(tmp_path / "broken")[1:]:
        shutil.rmtree(folder)
    resume(tmp_path / "broken", device="cpu")
    curves = [
        [json.loads(line)["loss"] for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("whole", "broken")
    ]
    assert len(curves[0]) == 8 and curves[0] == curves[1]


def test_frames_of_time_major_tokens_follow_the_sound(sounds: Path, tmp_path: Path) -> None:
    pretrain(sounds, tmp_path / "run", override(SMALL, RUN), device="cpu")
    model = load(tmp_path / "run")
    quiet, loud = np.zeros(16000, np.float32), np.random.default_rng(0).normal(0, 0.3, 16000).astype(np.float32)
    embedding = model.embed((np.concatenate([quiet, loud, quiet]), 16000))
    assert embedding.frames.shape[1] == 48 * 8 and np.allclose(np.diff(embedding.times_ms), 160, atol=0.01)
    first = embedding.frames[:6]  # the first window, all quiet up to its last frames
    assert np.ptp(first[:5], axis=0).max() < np.abs(embedding.frames[6:12].mean(0) - first[:5].mean(0)).max()
