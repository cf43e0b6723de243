"""A front end on the device of the encoder gives the embeddings of the one in the threads that read."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from unheard.config import override
from unheard.embedding.embedder import Model, Options
from unheard.embedding.loading import load
from unheard.recipes import find_recipe
from unheard.recipes.learner import build
from unheard.weights.built_in import RANDOM_STATISTICS
from unheard.weights.checkpoint import Provenance, SavedModel

SIZES = ("embed_dim=24", "depth=2", "num_heads=3", "decoder_embed_dim=16", "decoder_depth=1", "decoder_num_heads=2")
SECONDS = (0.001, 0.02, 0.35, 1.0, 4.2, 7.77)
RECIPES = ("msm-mae", "maskspec", "audiomae", "bat", "eat")
"""One of each kind of front end."""


def model_of(recipe: str) -> Model:
    small = override(find_recipe(recipe), [f"model.{size}" for size in SIZES])
    learner = build(small).eval()
    statistics = replace(RANDOM_STATISTICS, top_db=80.0) if recipe == "bat" else RANDOM_STATISTICS
    return Model(SavedModel(learner, small, statistics, Provenance()), "cpu")


def sounds(rate: int) -> list[tuple[np.ndarray, int]]:
    rng = np.random.default_rng(0)
    return [(rng.standard_normal(max(1, int(rate * seconds))).astype(np.float32) * 0.1, rate) for seconds in SECONDS]


@pytest.mark.parametrize("hop", [None, "frame"])
@pytest.mark.parametrize("recipe", RECIPES)
def test_embeddings_are_the_same(recipe: str, hop: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of(recipe)
    step = model.config.frontend.hop_size / model.sample_rate * model.grid.patch_size[1] / 2
    options = Options(hop=None if hop is None or model.grid.patch_size[1] % 2 else step)
    wanted = list(model.embed_many(sounds(model.sample_rate), options))
    transformed = []
    monkeypatch.setattr(Model, "gpu_frontend", property(lambda self: transformed.append(1) or self.frontend))
    found = list(model.embed_many(sounds(model.sample_rate), options))
    assert transformed
    for (_, one), (_, other) in zip(wanted, found, strict=True):
        np.testing.assert_array_equal(one.times_ms, other.times_ms)
        np.testing.assert_allclose(one.frames, other.frames, atol=1e-4)
        np.testing.assert_allclose(one.scene, other.scene, atol=1e-5)


def test_a_stream_in_small_chunks_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of("msm-mae")
    (wav, rate) = sounds(model.sample_rate)[-1]
    wanted = model.embed((wav, rate))
    monkeypatch.setattr(Model, "gpu_frontend", property(lambda self: self.frontend))
    frames, times = zip(*model.stream((wav[at : at + 1000] for at in range(0, len(wav), 1000)), rate), strict=True)
    np.testing.assert_array_equal(np.concatenate(times), wanted.times_ms)
    np.testing.assert_allclose(np.concatenate(frames), wanted.frames, atol=1e-4)


@pytest.mark.gpu
def test_embeddings_of_a_gpu_are_those_of_a_cpu() -> None:
    here, there = load("random-tiny", device="cpu"), load("random-tiny", device="cuda")
    assert isinstance(there, Model) and there.gpu_frontend is not None
    assert there.gpu_frontend.window.device == torch.device("cuda", 0) and there.frontend.window.device.type == "cpu"
    for (_, one), (_, other) in zip(here.embed_many(sounds(16000)), there.embed_many(sounds(16000)), strict=True):
        np.testing.assert_allclose(one.scene, other.scene, atol=1e-3)
