"""Released checkpoints of every known layout, made small here, become models that compute what the released network
computes.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from tests.weights.released_ntt import DIM, GRID, NAME, WAV, Keys, decode, encode, m2d, released

import unheard
from unheard.cli import main
from unheard.errors import CheckpointError, ConfigError
from unheard.model.masking import random
from unheard.weights.checkpoint import is_model, save_model
from unheard.weights.layouts.ntt import M2D_STATISTICS, MSM_MAE_STATISTICS, parse_name
from unheard.weights.published import convert


@pytest.fixture
def store(tmp_path: Path) -> Callable[..., Path]:
    """Saves a checkpoint the way its authors did: in a folder named after its input size."""

    def save(content: object, folder: str = f"{NAME}_paper") -> Path:
        file = tmp_path / folder / "checkpoint-100.pth"
        file.parent.mkdir()
        torch.save(content, file)
        return file

    return save


def whole(keys: Keys) -> dict[str, object]:
    """What a training program leaves: the model with everything around it."""
    args = argparse.Namespace(model="mae_vit_base", lr=6e-4, norm_pix_loss=False, betas=[0.9, 0.95])
    return {
        "model": keys,
        "optimizer": {"state": {0: {"step": 3}}},
        "epoch": np.float64(99.0),
        "scaler": {"scale": 2.0},
        "args": args,
    }


def frames(model: unheard.embedding.embedder.Model, keys: Keys) -> np.ndarray:
    """Features by the paper's equation 1: the patches of a time step side by side, lowest band first."""
    spec = model.statistics.normalise(model.frontend(torch.from_numpy(WAV)[None]))
    tokens = encode(keys, spec)[0, -GRID.num_patches :]
    return tokens.reshape(2, 3, DIM).transpose(0, 1).flatten(1).numpy()


CASES = {
    "separate biases": ("msm-mae", released(), MSM_MAE_STATISTICS),
    "one bias and statistics": ("msm-mae", released(fused=True), (-6.5, 3.5)),
    "no trained decoder": ("msm-mae", released(fused=True, decoder=0), (-6.5, 3.5)),
    "whole training state": ("msm-mae", whole(released()), MSM_MAE_STATISTICS),
    "fine-tuned by EVAR": (
        "msm-mae",
        {f"module.ar.runtime.backbone.{key}": value for key, value in released(decoder=0).items()}
        | {"module.head.norm.running_mean": torch.zeros(9), "module.head.mlp.mlp.0.weight": torch.zeros(2, 9)}
        | {"module.head.norm.num_batches_tracked": torch.tensor(3)},
        MSM_MAE_STATISTICS,
    ),
    "m2d": ("m2d", m2d(), M2D_STATISTICS),
    "m2d no trained decoder": (
        "m2d",
        released(fused=True, decoder=0) | {"norm_stats": torch.tensor(M2D_STATISTICS)},
        M2D_STATISTICS,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_converted_model_embeds_as_the_released_network_does(
    case: str, store: Callable[..., Path], tmp_path: Path
) -> None:
    layout, content, (mean, std) = CASES[case]
    model = unheard.convert(store(content), tmp_path / "made", layout)
    keys = content.get("model", content)
    keys = {key.removeprefix("module.ar.runtime.backbone."): value for key, value in keys.items()}
    np.testing.assert_allclose(model.embed((WAV, 16000)).frames, frames(model, keys), atol=1e-5)
    assert (model.statistics.mean, model.statistics.std) == ((pytest.approx(mean),), (pytest.approx(std),))
    assert model.provenance.encoder_only == ("decoder_embed.weight" not in keys)
    assert not [name for name in model.learner.export_state_dict() if "teacher" in name]


@pytest.mark.parametrize("fused", [False, True])
def test_a_converted_decoder_reconstructs_as_the_released_one_does(fused: bool, store: Callable[..., Path]) -> None:
    keys = released(fused)
    learner = convert(store(keys), "msm-mae").learner
    spec = torch.randn(1, 16, 24, generator=torch.Generator().manual_seed(2))
    mask = random(torch.rand(1, 6, generator=torch.Generator().manual_seed(3)), 0.5)
    pixels = learner.objectives["reconstruct"].head(learner.model(GRID.patchify(spec), mask).decoded)
    expected = decode(keys, encode(keys, spec, mask.keep[0]), mask.keep[0], heads=1)
    torch.testing.assert_close(pixels, expected, atol=1e-5, rtol=1e-5)
    assert learner.recipe.model.decoder_positions == "1d"


def test_the_predictor_of_m2d_comes_along(store: Callable[..., Path]) -> None:
    keys = m2d()
    learner = convert(store(keys), "m2d").learner
    spec = torch.randn(1, 16, 24, generator=torch.Generator().manual_seed(2))
    mask = random(torch.rand(1, 6, generator=torch.Generator().manual_seed(3)), 0.5)
    predicted = learner.model(GRID.patchify(spec), mask).predicted
    expected = decode(keys, encode(keys, spec, mask.keep[0]), mask.keep[0], heads=16)[:, mask.hide[0]]
    torch.testing.assert_close(predicted[:, :, 0], expected, atol=1e-5, rtol=1e-5)


def test_a_file_without_cls_token_and_a_safetensors_file_convert(tmp_path: Path) -> None:
    keys = released(cls=False)
    save_file({key: value.contiguous() for key, value in keys.items()}, tmp_path / "weights.safetensors")
    saved = convert(tmp_path / "weights.safetensors", "msm-mae", NAME)
    assert not saved.recipe.model.cls_token and saved.learner.model.encoder.cls_token is None


def test_the_terms_are_reported_and_kept(
    store: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["convert", str(store(whole(released()))), "-o", str(tmp_path / "made"), "--layout", "msm-mae"]) == 0
    output = capsys.readouterr().out
    config = json.loads((tmp_path / "made" / "config.json").read_text())
    card = (tmp_path / "made" / "README.md").read_text()
    for text in (output, config["provenance"]["licence"], card):
        assert "evaluation only" in text and "nttcslab/msm-mae" in text
    assert (
        f"{NAME}_paper/checkpoint-100.pth" in card
        and "no normalisation statistics" in card
        and "msm-mae README" in output
    )


@pytest.mark.parametrize("key", sorted(released(fused=True).keys() - {"norm_stats"}))
def test_a_missing_key_is_named(key: str, store: Callable[..., Path]) -> None:
    keys = released(fused=True)
    del keys[key]
    ours = key.replace(".mlp.", ".").split(".", 1)[-1] if "blocks" in key else ""
    needed = (
        "the file has 7 of 8x8"
        if key == "cls_token"
        else rf"missing model\S+{ours}|missing objectives|the file has no {key}"
    )
    with pytest.raises(CheckpointError, match=needed):
        convert(store(keys), "msm-mae")


def test_half_of_a_bias_pair_is_reported(store: Callable[..., Path]) -> None:
    keys = released()
    del keys["blocks.1.attn.v_bias"]
    with pytest.raises(
        CheckpointError, match=r"missing \S+blocks\.1\.attn\.qkv\.bias; unknown \S+blocks\.1\.attn\.q_bias"
    ):
        convert(store(keys), "msm-mae")


def test_unknown_and_misshaped_keys_are_named(store: Callable[..., Path], tmp_path: Path) -> None:
    strange = released() | {
        "fc_norm.weight": torch.zeros(3),
        "relative.bias": torch.zeros(3),
        "scale": torch.tensor(1.0),
    }
    with pytest.raises(CheckpointError, match=r"fc_norm\.weight, relative\.bias, scale belong to no known part"):
        convert(store(strange), "msm-mae")
    bent = released() | {"blocks.1.mlp.fc1.weight": torch.zeros(5, DIM)}
    with pytest.raises(CheckpointError, match=r"blocks\.1\.fc1\.weight is \(5, 128\), expected \(512, 128\)"):
        convert(store(bent, f"{NAME}_bent"), "msm-mae")
    flat = released() | {"pos_embed": torch.zeros(6)}
    with pytest.raises(CheckpointError, match="no pos_embed of rank 3"):
        convert(store(flat, f"{NAME}_flat"), "msm-mae")
    with pytest.raises(CheckpointError, match=r"not of layout m2d; its keys begin with conv\.weight"):
        convert(store({"conv.weight": torch.zeros(2)}, f"{NAME}_conv"), "m2d")


@pytest.mark.parametrize("name", ["16x32p8x8", "16x24p8x4", "24x24p8x8", "80x512p16x16"])
def test_a_name_of_another_input_is_refused(name: str, store: Callable[..., Path]) -> None:
    with pytest.raises(
        CheckpointError, match=r"--name states \d+ patches of .*, the file has 6 of 8x8; give its released name"
    ):
        convert(store(released()), "msm-mae", name)


def test_the_name_is_taken_from_the_folder_or_the_file_or_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "m2d_vit_base-16x24p8x8-221006-mr7").mkdir()
    for place in ("m2d_vit_base-16x24p8x8-221006-mr7/checkpoint-300.pth", f"{NAME}.pth", "nameless.pth"):
        torch.save(released(), tmp_path / place)
    for place in ("m2d_vit_base-16x24p8x8-221006-mr7/checkpoint-300.pth", f"{NAME}.pth"):
        assert convert(tmp_path / place, "msm-mae").recipe.model.frames == 24
    with pytest.raises(ConfigError, match="--name must contain the input size"):
        convert(tmp_path / "nameless.pth", "msm-mae")


@given(
    st.integers(1, 999),
    st.integers(1, 9999),
    st.integers(1, 99),
    st.integers(1, 99),
    st.booleans(),
    st.sampled_from(["", "m2d_as-"]),
)
def test_names_are_read_as_they_are_written(bands: int, frames: int, pf: int, pt: int, fast: bool, before: str) -> None:
    size = parse_name(f"{before}{bands}x{frames}p{pf}x{pt}{'p32k' if fast else ''}-0425/checkpoint-100.pth")
    assert (size.n_mels, size.frames, size.patch_size, size.sample_rate) == (
        bands,
        frames,
        (pf, pt),
        32000 if fast else 16000,
    )


@pytest.mark.parametrize("name", ["", "base", "80x512", "80x512p0x16", "80x512p16x0"])
def test_names_without_a_size_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="for example 80x512p16x16"):
        parse_name(name)


def test_an_encoder_alone_cannot_reconstruct(store: Callable[..., Path], tmp_path: Path) -> None:
    unheard.convert(store(released(decoder=0)), tmp_path / "made", "msm-mae")
    soundfile.write(tmp_path / "a.wav", WAV, 16000)
    with pytest.raises(CheckpointError, match="no trained decoder"):
        unheard.api.reconstruct(tmp_path / "made", tmp_path / "a.wav", tmp_path / "a.png")
    assert not (tmp_path / "a.png").exists()


@pytest.mark.parametrize("config", ['{"model_type": "bert", "architectures": []}', '{"format": 1}', "{", None])
def test_convert_replaces_models_of_this_library_only(
    config: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "model.safetensors").write_bytes(b"weights")
    if config is not None:
        (theirs / "config.json").write_text(config)
    before = {file.name: file.read_bytes() for file in theirs.iterdir()}
    assert main(["convert", "no.pth", "-o", str(theirs), "--layout", "msm-mae", "--overwrite"]) == 2
    assert "is not a model folder" in capsys.readouterr().err
    assert {file.name: file.read_bytes() for file in theirs.iterdir()} == before
    ours, empty = tmp_path / "ours", tmp_path / "empty"
    empty.mkdir()
    model = unheard.load("random-tiny")
    save_model(ours, model.learner, model.config, model.statistics, model.provenance)
    assert is_model(ours) and is_model(empty) and not is_model(theirs) and not is_model(tmp_path / "missing")
