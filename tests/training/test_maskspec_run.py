"""A run of maskspec on waves: bands that vary are the same after a stop, and what it leaves embeds."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from unheard.api import load
from unheard.audio.presets import MASKSPEC_AUDIOSET
from unheard.config import override
from unheard.errors import ConfigError
from unheard.recipes import find_recipe
from unheard.training.checkpoints import checkpoints
from unheard.training.pretrain import pretrain
from unheard.training.resume import resume
from unheard.weights.checkpoint import load_model

SMALL = [
    "model.frames=32",
    "model.embed_dim=24",
    "model.depth=1",
    "model.num_heads=2",
    "model.decoder_embed_dim=16",
    "model.decoder_depth=1",
    "model.decoder_num_heads=2",
    "training.batch_size=8",
    "training.steps=6",
    "training.log_every=1",
    "training.checkpoint_every=4",
]


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, rng = tmp_path_factory.mktemp("sounds"), np.random.default_rng(0)
    for number in range(6):
        soundfile.write(folder / f"{number}.wav", rng.normal(0, 0.1, 32000 if number else 3000), 32000)
    return folder


def losses(run: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_a_resumed_run_repeats_the_uninterrupted_one_and_its_model_embeds(sounds: Path, tmp_path: Path) -> None:
    recipe = override(find_recipe("maskspec"), SMALL)
    for name in ("whole", "broken"):
        pretrain(sounds, tmp_path / name, recipe, device="cpu")
    shutil.rmtree(checkpoints(tmp_path / "broken")[-1])
    resume(tmp_path / "broken", device="cpu")
    assert losses(tmp_path / "broken") == losses(tmp_path / "whole")
    ours, theirs = (load_model(tmp_path / name) for name in ("broken", "whole"))
    assert all(
        torch.equal(ours.learner.export_state_dict()[name], value)
        for name, value in theirs.learner.export_state_dict().items()
    )
    assert len(ours.statistics.std) == 128 and min(ours.statistics.std) >= 0.1
    model = load(tmp_path / "whole")
    assert (model.sample_rate, model.embed(sounds / "1.wav").scene.shape) == (32000, (8 * 24,))


def test_published_statistics_by_name(sounds: Path, tmp_path: Path) -> None:
    recipe = override(find_recipe("maskspec"), [*SMALL, "training.steps=1", "data.statistics=maskspec"])
    pretrain(sounds, tmp_path / "run", recipe, device="cpu")
    assert load_model(tmp_path / "run").statistics == MASKSPEC_AUDIOSET
    with pytest.raises(ConfigError, match="128 bands, but the front end has 64"):
        pretrain(sounds, tmp_path / "other", override(recipe, ["frontend.n_mels=64"]), device="cpu")
