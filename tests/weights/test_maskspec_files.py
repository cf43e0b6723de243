"""Files of MaskSpec become models that compute what the released network computes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import torch.nn.functional as F
from torch import Tensor

from unheard.api import convert, load
from unheard.audio.kaldi import MASKSPEC
from unheard.audio.presets import MASKSPEC_AUDIOSET
from unheard.cli import main
from unheard.errors import CheckpointError
from unheard.weights import published

DIM, WIDTH, DEPTH, GRID = 64, 32, 2, (8, 4)
Keys = dict[str, Tensor]


def blocks(prefix: str, dim: int, draw: torch.Generator) -> Keys:
    shapes = {
        "norm1.weight": (dim,),
        "norm1.bias": (dim,),
        "attn.qkv.weight": (3 * dim, dim),
        "attn.qkv.bias": (3 * dim,),
        "attn.proj.weight": (dim, dim),
        "attn.proj.bias": (dim,),
        "norm2.weight": (dim,),
        "norm2.bias": (dim,),
        "mlp.fc1.weight": (4 * dim, dim),
        "mlp.fc1.bias": (4 * dim,),
        "mlp.fc2.weight": (dim, 4 * dim),
        "mlp.fc2.bias": (dim,),
    }
    return {
        f"{prefix}.{i}.{name}": torch.randn(shape, generator=draw) * 0.1
        for i in range(DEPTH)
        for name, shape in shapes.items()
    }


def encoder_keys(draw: torch.Generator) -> Keys:
    patches = GRID[0] * GRID[1]
    return {
        "cls_token": torch.randn(1, 1, DIM, generator=draw),
        "pos_embed": torch.randn(1, patches + 1, DIM, generator=draw),
        "patch_embed.proj.weight": torch.randn(DIM, 1, 16, 16, generator=draw) * 0.1,
        "patch_embed.proj.bias": torch.randn(DIM, generator=draw),
        **blocks("blocks", DIM, draw),
    }


def head_keys(draw: torch.Generator, norm: str, classes: int = 5) -> Keys:
    vectors = {f"{norm}.weight": torch.randn(DIM, generator=draw), f"{norm}.bias": torch.randn(DIM, generator=draw)}
    return {
        **vectors,
        "head.weight": torch.randn(classes, DIM, generator=draw),
        "head.bias": torch.randn(classes, generator=draw),
    }


def pretraining_keys() -> Keys:
    draw = torch.Generator().manual_seed(0)
    keys = encoder_keys(draw)
    keys["pos_embed"][:, 0] = 0  # as the fixed tables have it
    patches = GRID[0] * GRID[1]
    return keys | {
        "norm.weight": torch.ones(DIM),
        "norm.bias": torch.zeros(DIM),
        "mask_token": torch.randn(1, 1, WIDTH, generator=draw),
        "decoder_pos_embed": torch.randn(1, patches + 1, WIDTH, generator=draw),
        "decoder_embed.weight": torch.randn(WIDTH, DIM, generator=draw),
        "decoder_embed.bias": torch.zeros(WIDTH),
        "decoder_norm.weight": torch.ones(WIDTH),
        "decoder_norm.bias": torch.zeros(WIDTH),
        "decoder_pred.weight": torch.randn(256, WIDTH, generator=draw),
        "decoder_pred.bias": torch.zeros(256),
        **blocks("decoder_blocks", WIDTH, draw),
    }


def network(keys: Keys, spec: Tensor) -> Tensor:
    """The released encoder before its last norm, written out; CLS first."""
    x = (
        F.conv2d(spec[:, None], keys["patch_embed.proj.weight"], keys["patch_embed.proj.bias"], stride=16)
        .flatten(2)
        .transpose(1, 2)
    )
    x = torch.cat([keys["cls_token"].expand(len(x), -1, -1), x], dim=1) + keys["pos_embed"]
    for i in range(DEPTH):
        own = {
            name.removeprefix(f"blocks.{i}."): value for name, value in keys.items() if name.startswith(f"blocks.{i}.")
        }
        h = F.layer_norm(x, (DIM,), own["norm1.weight"], own["norm1.bias"], 1e-6)
        q, k, v = F.linear(h, own["attn.qkv.weight"], own["attn.qkv.bias"]).chunk(3, dim=-1)  # one head of 64
        mixed = (q @ k.transpose(1, 2) / DIM**0.5).softmax(-1) @ v
        x = x + F.linear(mixed, own["attn.proj.weight"], own["attn.proj.bias"])
        h = F.layer_norm(x, (DIM,), own["norm2.weight"], own["norm2.bias"], 1e-6)
        x = x + F.linear(
            F.gelu(F.linear(h, own["mlp.fc1.weight"], own["mlp.fc1.bias"])), own["mlp.fc2.weight"], own["mlp.fc2.bias"]
        )
    return x


def write(keys: Keys, folder: Path) -> Path:
    file = folder / "checkpoint-75.pth"
    torch.save({"model": keys, "epoch": 75}, file)
    return file


def spectrogram() -> Tensor:
    return torch.randn(2, 128, GRID[1] * 16, generator=torch.Generator().manual_seed(9))


def test_pre_training_files_become_a_whole_model(tmp_path: Path) -> None:
    keys = pretraining_keys()
    saved = published.convert(write(keys, tmp_path), "maskspec")
    assert saved.recipe.frontend == MASKSPEC and saved.statistics == MASKSPEC_AUDIOSET and saved.classifier is None
    assert saved.recipe.objectives.reconstruct.norm_pix and not saved.provenance.encoder_only
    assert saved.recipe.model.frames == 64 and "Apache" in saved.provenance.licence
    tokens, cls = saved.learner.model.encoder(saved.learner.grid.patchify(spectrogram()))
    wanted = F.layer_norm(network(keys, spectrogram()), (DIM,), eps=1e-6)
    assert cls is not None
    assert torch.allclose(torch.cat([cls[:, None], tokens], dim=1), wanted, atol=1e-4)


@pytest.mark.parametrize("kind", ["mean", "cls"])
def test_fine_tuned_files_classify_as_released_even_with_a_trained_position_for_cls(kind: str, tmp_path: Path) -> None:
    draw = torch.Generator().manual_seed(1)
    norm = "fc_norm" if kind == "mean" else "norm"
    keys = encoder_keys(draw) | head_keys(draw, norm)
    saved = published.convert(write(keys, tmp_path), "maskspec")
    assert saved.classifier is not None
    assert (saved.classifier.config.pool, saved.classifier.config.activation) == (kind, "softmax")
    x = network(keys, spectrogram())
    pooled = x[:, 1:].mean(dim=1) if kind == "mean" else x[:, 0]
    wanted = F.linear(
        F.layer_norm(pooled, (DIM,), keys[f"{norm}.weight"], keys[f"{norm}.bias"], 1e-6),
        keys["head.weight"],
        keys["head.bias"],
    )
    tokens = saved.learner.model.encoder(saved.learner.grid.patchify(spectrogram()))
    assert torch.allclose(saved.classifier(saved.classifier.pool(*tokens)), wanted, atol=1e-4)


def test_a_converted_folder_embeds_and_classifies_sound(tmp_path: Path) -> None:
    draw = torch.Generator().manual_seed(2)
    convert(write(encoder_keys(draw) | head_keys(draw, "fc_norm"), tmp_path), tmp_path / "model", layout="maskspec")
    model = load(tmp_path / "model")
    sound = (np.random.default_rng(0).normal(0, 0.1, 40_000).astype(np.float32), 32_000)
    assert model.embed(sound).scene.shape == (8 * DIM,)
    assert model.classify(sound).sum() == pytest.approx(1, abs=1e-5)


def test_classes_get_the_names_of_a_list_and_predict_shows_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    draw = torch.Generator().manual_seed(2)
    file, names, sound = (
        write(encoder_keys(draw) | head_keys(draw, "fc_norm"), tmp_path),
        tmp_path / "names.txt",
        tmp_path / "sound.wav",
    )
    names.write_text("dog\ncat\nrain\nbell\ncar\n")
    soundfile.write(sound, np.random.default_rng(0).normal(0, 0.1, 16_000), 32_000)
    command = ["convert", str(file), "-o", str(tmp_path / "model"), "--layout", "maskspec"]
    assert main(command) == 0 and "--classes" in capsys.readouterr().out
    assert main([*command, "--overwrite", "--classes", str(names), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["classes"] == ["dog", "cat", "rain", "bell", "car"]
    assert main(["predict", str(tmp_path / "model"), str(sound), "--json", "--top", "5"]) == 0
    assert set(json.loads(capsys.readouterr().out)["predictions"][0]["scores"]) == {"dog", "cat", "rain", "bell", "car"}


@pytest.mark.parametrize("damage", ["pos_embed", "cls_token", "blocks.1.mlp.fc2.bias"])
def test_files_of_another_layout_are_refused_by_key(damage: str, tmp_path: Path) -> None:
    keys = pretraining_keys()
    del keys[damage]
    with pytest.raises(CheckpointError, match=damage.rpartition(".mlp.")[2]):
        published.convert(write(keys, tmp_path), "maskspec")


def test_a_table_that_fits_no_grid_is_refused(tmp_path: Path) -> None:
    keys = pretraining_keys()
    keys["pos_embed"] = keys["pos_embed"][:, :-3]
    with pytest.raises(CheckpointError, match="8 rows of patches"):
        published.convert(write(keys, tmp_path), "maskspec")
