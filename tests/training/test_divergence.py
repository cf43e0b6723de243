"""A pre-training run whose loss or weights are not finite ends, and keeps its last good checkpoint."""

from dataclasses import replace

import numpy as np
import pytest
import soundfile

from unheard.config import override
from unheard.errors import DataError
from unheard.model.sizes import ModelConfig
from unheard.recipes import find_recipe
from unheard.training.checkpoints import checkpoints
from unheard.training.pretrain import pretrain

SMALL = replace(
    find_recipe("msm-mae"),
    model=ModelConfig(
        frames=48,
        patch_size=(16, 16),
        embed_dim=24,
        depth=2,
        num_heads=2,
        decoder_embed_dim=16,
        decoder_depth=1,
        decoder_num_heads=2,
    ),
)
SETTINGS = [
    "training.batch_size=8",
    "training.steps=14",
    "training.log_every=1",
    "training.checkpoint_every=4",
    "training.seed=5",
]


@pytest.fixture(scope="module")
def sounds(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sounds")
    generator = np.random.default_rng(0)
    for index in range(12):
        length = 16000 if index else 3000
        tone = np.sin(np.arange(length) * (0.05 + 0.03 * index)) * 0.3 + 0.01 * generator.standard_normal(length)
        soundfile.write(folder / f"{index:02d}.wav", tone.astype(np.float32), 16000)
    return folder


def test_weights_that_blow_up_in_the_last_step_are_not_saved(sounds, tmp_path):
    recipe = override(
        SMALL,
        [*SETTINGS, "training.learning_rate=1e38", "training.warmup=0", "training.steps=1", "training.clip_norm=null"],
    )
    with pytest.raises(DataError, match=r"(parameters contain NaN|the loss became (nan|inf)).*at step 1"):
        pretrain(sounds, tmp_path / "run", override(recipe, ["training.weight_decay=1e30"]), device="cpu")
    assert not checkpoints(tmp_path / "run") and not (tmp_path / "run/model").exists()


def test_a_loss_that_is_no_number_names_step_and_files_and_keeps_the_last_checkpoint(sounds, tmp_path):
    recipe = override(
        SMALL,
        [
            *SETTINGS,
            "training.learning_rate=1e30",
            "training.warmup=0.5",
            "training.checkpoint_every=1",
            "training.clip_norm=null",
        ],
    )
    with pytest.raises(
        DataError, match=r"the loss became .*nan.* at step \d+, in a batch of .*\.wav.*last good checkpoint"
    ):
        pretrain(sounds, tmp_path / "run", recipe, device="cpu")
    assert checkpoints(tmp_path / "run")
