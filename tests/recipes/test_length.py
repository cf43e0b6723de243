"""A published configuration trains as many steps on AudioSet as its paper."""

from __future__ import annotations

from typing import Any, cast
from unittest.mock import Mock

import numpy as np
import pytest

from unheard.audio.frontend_kinds import build_frontend
from unheard.data.store import Store
from unheard.recipes import RECIPES, find_recipe
from unheard.recipes.msm_mae import TABLE_1
from unheard.training.session import sampler_of, total_steps

# of AudioSet, in the paper of MSM-MAE; those of M2D and MaskSpec give epochs and batch, and no number of clips
CLIPS = 1_963_807
LONG_CLIPS = 2_012_615  # of AudioSet, in MATPAC's configuration

STEPS: dict[str, tuple[int, float]] = {
    **dict.fromkeys(TABLE_1, (CLIPS, 383557)),  # 100 epochs in batches of 512
    "m2d": (CLIPS, 300 * CLIPS / 2048),
    "matpac": (LONG_CLIPS, 294_816),  # published
    "matpac++": (LONG_CLIPS, 294_816),
    "maskspec": (CLIPS, 400 * CLIPS / 512),
}


def audioset(name: str, clips: int) -> Store:
    """An index of clips of ten seconds, one of a thousand of them shorter."""
    recipe = find_recipe(name)
    frontend = build_frontend(recipe.frontend)
    frames = np.full(clips, frontend.num_frames(10 * recipe.frontend.sample_rate), np.int64)
    frames[::1000] = frontend.num_frames(7 * recipe.frontend.sample_rate)
    index: Any = Mock(spec=Store, frames=frames, domains=np.full(clips, ""), shards=())
    return cast(Store, index)


@pytest.mark.parametrize("name", STEPS)
def test_a_published_configuration_trains_the_steps_of_its_paper(name: str) -> None:
    clips, steps = STEPS[name]
    recipe = find_recipe(name)
    sampler = sampler_of(audioset(name, clips), recipe)
    assert sampler.size == clips
    assert total_steps(recipe.training, sampler.size) == pytest.approx(steps, abs=1)


@pytest.mark.parametrize("name", ["audiomae", "mam-clap", "sup-mam", "sup-mam-clap"])
def test_a_window_of_ten_seconds_is_one_a_clip(name: str) -> None:
    recipe = find_recipe(name)
    assert recipe.model.frames == 1024
    assert sampler_of(audioset(name, 10_000), recipe).size == 10_000


def test_only_recipes_for_audio_of_one_s_own_take_as_many_windows_as_the_length_holds() -> None:
    by_length = {name for name in RECIPES if find_recipe(name).data.crops == "length"}
    assert by_length == {
        "msm-mae",
        "audiomae",
        "mam-clap",
        "sup-mam",
        "sup-mam-clap",
        "clap-mini",
        "distill",
        "m2d-short",
    }
