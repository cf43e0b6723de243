"""One process writes a run folder; a packed corpus is compared with its checksums while it is trained on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from unheard.audio.frontend import MSM_MAE_16K
from unheard.config import override
from unheard.data.corpus import open_corpus
from unheard.data.pack import pack
from unheard.errors import ConfigError, DataError
from unheard.outputs import locked_folder
from unheard.recipes import find_recipe
from unheard.training.checkpoints import checkpoints
from unheard.training.pretrain import pretrain
from unheard.training.resume import resume

SETTINGS = [
    "model.size=tiny",
    "model.frames=32",
    "model.embed_dim=24",
    "model.depth=1",
    "model.num_heads=1",
    "model.decoder_embed_dim=24",
    "model.decoder_depth=1",
    "model.decoder_num_heads=1",
    "training.batch_size=2",
    "training.steps=2",
    "training.precision=float32",
]


@pytest.fixture
def sounds(tmp_path: Path) -> Path:
    (tmp_path / "sounds").mkdir()
    for number in range(4):
        soundfile.write(
            tmp_path / "sounds" / f"{number}.wav", np.random.default_rng(number).normal(0, 0.1, 8000), 16000
        )
    return tmp_path / "sounds"


def test_a_run_that_is_written_is_refused_by_name(sounds: Path, tmp_path: Path) -> None:
    recipe = override(find_recipe("msm-mae"), SETTINGS)
    with locked_folder(tmp_path / "run"):
        for overwrite in (False, True):
            with pytest.raises(ConfigError, match="run is being written by process"):
                pretrain(sounds, tmp_path / "run", recipe, device="cpu", overwrite=overwrite)
    assert pretrain(sounds, tmp_path / "run", recipe, device="cpu").finished
    with locked_folder(tmp_path / "run"), pytest.raises(ConfigError, match="run is being written by process"):
        resume(tmp_path / "run", device="cpu")
    assert pretrain(sounds, tmp_path / "run", recipe, device="cpu", overwrite=True).finished
    assert not (tmp_path / "run" / ".lock").exists()


def test_resuming_what_is_not_there_makes_no_folder(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="there is no run"):
        resume(tmp_path / "nothing", device="cpu")
    assert not (tmp_path / "nothing").exists()


def test_a_damaged_shard_is_named_before_a_model_is_saved(sounds: Path, tmp_path: Path) -> None:
    pack(open_corpus(sounds), MSM_MAE_16K, tmp_path / "packed")
    shard = tmp_path / "packed" / "shard-00000.bin"
    content = shard.read_bytes()
    shard.write_bytes(content[:100] + bytes([content[100] ^ 1]) + content[101:])
    recipe = override(find_recipe("msm-mae"), SETTINGS)
    with pytest.raises(DataError, match=r"shard-00000.bin differ from their checksums"):
        pretrain(tmp_path / "packed", tmp_path / "run", recipe, device="cpu")
    assert not checkpoints(tmp_path / "run")
    shard.write_bytes(content)
    assert resume(tmp_path / "run", device="cpu").finished
