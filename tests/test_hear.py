"""`unheard.hear` implements the HEAR common API, and reproduces published runtimes on request."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from unheard import hear
from unheard.audio.frontend import MSM_MAE_32K, Statistics
from unheard.config import override
from unheard.embedding.embedder import Options
from unheard.errors import CheckpointError, ConfigError
from unheard.hear import HearModel, get_scene_embeddings, get_timestamp_embeddings, load_model
from unheard.recipes import find_recipe
from unheard.recipes.learner import build
from unheard.weights.checkpoint import Provenance, save_model

SMALL = override(find_recipe("msm-mae"), ["model.size=tiny", "model.depth=1", "model.decoder_depth=1"])


def noise(count: int, seconds: float, rate: int = 16000, seed: int = 0) -> torch.Tensor:
    """White noise in [-1, 1]; samples are counted as evaluators count them."""
    return torch.rand(count, int(seconds * rate), generator=torch.Generator().manual_seed(seed)) * 2 - 1


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Model folders by sample rate."""
    made = {}
    for rate, frontend in ((16000, SMALL.frontend), (32000, MSM_MAE_32K)):
        recipe = replace(SMALL, frontend=frontend)
        made[rate] = tmp_path_factory.mktemp("models") / str(rate)
        save_model(made[rate], build(recipe, seed=0), recipe, Statistics((-7.1,), (4.2,)), Provenance())
    return made


@pytest.fixture(scope="module")
def model(folders: dict[int, Path]) -> HearModel:
    return load_model(str(folders[16000]), device="cpu")


def test_without_a_path_an_untrained_model_is_loaded() -> None:
    default = load_model("random-tiny")
    assert isinstance(default, torch.nn.Module) and not default.training
    assert (
        type(default.sample_rate) is type(default.scene_embedding_size) is type(default.timestamp_embedding_size) is int
    )
    assert (default.sample_rate, default.scene_embedding_size, default.timestamp_embedding_size) == (16000, 960, 960)
    assert all(
        callable(getattr(hear, name)) for name in ("load_model", "get_scene_embeddings", "get_timestamp_embeddings")
    )


@pytest.mark.parametrize("hop", [None, 0.08, 0.04])
@pytest.mark.parametrize("seconds", [1.07, 1.98, 2.0, 4.0, 0.01])
@pytest.mark.parametrize("rate", [16000, 32000])
def test_timestamps_pass_the_validator(rate: int, seconds: float, hop: float | None, folders: dict[int, Path]) -> None:
    model = load_model(str(folders[rate]), hop=hop, device="cpu")
    assert model.sample_rate == rate
    embeddings, times = get_timestamp_embeddings(noise(2, seconds, rate), model)
    assert embeddings.dtype == torch.float32 and embeddings.ndim == 3
    assert embeddings.shape[0] == 2 and embeddings.shape[2] == model.timestamp_embedding_size
    assert times.shape == embeddings.shape[:2] and torch.isfinite(embeddings).all()
    steps = torch.diff(times)
    assert steps.numel() == 0 or (steps - steps.mean()).abs().max() < 1e-3
    assert steps.numel() == 0 or steps.mean().item() == pytest.approx(1000 * (hop or 0.16), abs=1e-3)
    assert times[:, -1].max() <= 1000 * seconds or times.shape[1] == 1
    if seconds > 1:
        assert times[0, 0] < 80 and times[0, -1] >= 1000 * seconds - steps.mean()


@pytest.mark.parametrize(("count", "seconds"), [(4, 2.74), (8, 3.74), (1, 0.001)])
@pytest.mark.parametrize("pool", ["mean", "mean+std", "max"])
def test_scenes_pass_the_validator(count: int, seconds: float, pool: str, folders: dict[int, Path]) -> None:
    model = load_model(str(folders[16000]), pool=pool, device="cpu")
    scenes = get_scene_embeddings(noise(count, seconds), model)
    assert scenes.dtype == torch.float32 and scenes.shape == (count, model.scene_embedding_size)
    assert torch.isfinite(scenes).all()


def test_a_clip_does_not_depend_on_its_batch(model: HearModel) -> None:
    audio = noise(3, 1.3)
    together, times = get_timestamp_embeddings(audio, model)
    alone, _ = get_timestamp_embeddings(audio[1:2], model)
    torch.testing.assert_close(together[1:2], alone, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(
        get_scene_embeddings(audio, model)[2:], get_scene_embeddings(audio[2:], model), atol=1e-5, rtol=1e-5
    )
    assert torch.equal(times[0], times[2])


def test_it_says_what_the_library_says(model: HearModel) -> None:
    audio = noise(1, 2.1)
    e = model.model.embed((audio[0].numpy(), 16000))
    frames, times = get_timestamp_embeddings(audio, model)
    kept = times.shape[1]
    assert kept == len(e.frames) - 1  # the last of 14 steps is centred at 2.155 s, behind the end
    np.testing.assert_allclose(frames[0], e.frames[:kept], atol=1e-5)
    np.testing.assert_allclose(times[0], e.times_ms[:kept])
    np.testing.assert_allclose(get_scene_embeddings(audio, model)[0], e.scene, atol=1e-5)
    layered = load_model("random-tiny", layer=3, device="cpu")
    expected = layered.model.embed((audio[0].numpy(), 16000), layer=3).scene
    np.testing.assert_allclose(get_scene_embeddings(audio, layered)[0], expected, atol=1e-5)


def test_half_precision_and_double_audio_are_taken(model: HearModel) -> None:
    audio = noise(2, 1.1)
    for kind in (torch.float64, torch.float16):
        scenes = get_scene_embeddings(audio.to(kind), model)
        assert scenes.dtype == torch.float32 and scenes.shape == (2, 960)


def test_moving_the_model_moves_the_work() -> None:
    """Evaluators call ``model.to(device)`` after loading."""
    model = load_model("random-tiny", device="cpu").to("meta")
    assert model.model.device.type == "meta" and model.encoder.model.encoder.patch_embed.weight.device.type == "meta"


@pytest.mark.parametrize("published", ["msm-mae", "m2d"])
def test_published_runtimes_have_left_edges_and_plain_means(published: str, folders: dict[int, Path]) -> None:
    model = load_model(str(folders[16000]), published=published, device="cpu")
    audio = noise(2, 1.0)
    frames, times = get_timestamp_embeddings(audio, model)
    assert frames.shape == (2, 7, 960)  # 101 frames: six whole steps and a part
    np.testing.assert_allclose(times[0], np.arange(7) * 1000 / 7, rtol=1e-6)
    torch.testing.assert_close(get_scene_embeddings(audio, model), frames.mean(dim=1), atol=1e-5, rtol=1e-5)


def test_the_published_msm_mae_runtime_normalises_by_its_batch(folders: dict[int, Path]) -> None:
    model = load_model(str(folders[16000]), published="msm-mae", device="cpu")
    loud, quiet = noise(1, 1.5), 0.01 * noise(1, 1.5, seed=1)
    together = get_scene_embeddings(torch.cat([loud, quiet]), model)
    assert not torch.allclose(together[:1], get_scene_embeddings(loud, model), atol=1e-2)
    spec = model.model.frontend(torch.cat([loud, quiet]))
    by_hand = (spec - spec.mean()) / spec.std()
    filled = torch.zeros(2, 80, 208)
    filled[..., : spec.shape[2]] = by_hand
    grid, encoder = model.model.grid, model.model.encoder
    tokens = grid.to_timesteps(encoder(grid.patchify(filled))[0])[:, : grid.real_columns(spec.shape[2])]
    torch.testing.assert_close(together, tokens.mean(dim=1), atol=1e-4, rtol=1e-4)


def test_the_published_m2d_runtime_does_not(folders: dict[int, Path]) -> None:
    model = load_model(str(folders[16000]), published="m2d", device="cpu")
    audio = torch.cat([noise(1, 1.5), 0.01 * noise(1, 1.5, seed=1)])
    torch.testing.assert_close(
        get_scene_embeddings(audio, model)[:1], get_scene_embeddings(audio[:1], model), atol=1e-5, rtol=1e-5
    )


def test_scenes_need_one_vector() -> None:
    with pytest.raises(ConfigError, match="pool must be mean, mean"):
        load_model("random-tiny", pool="none")


def test_what_cannot_be_loaded_or_embedded_is_reported(model: HearModel) -> None:
    with pytest.raises(CheckpointError, match="there is no model nowhere"):
        load_model("nowhere")
    with pytest.raises(ConfigError, match="hop must divide the duration"):
        get_scene_embeddings(noise(1, 1.0), HearModel(model.model, Options(hop=0.05)))
