"""Files of EAT, SSLAM and BAT: their keys give the same features, and a file that lacks a part is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from unheard import api
from unheard.audio.decibels import DB_MINMAX
from unheard.embedding.embedder import Model
from unheard.errors import CheckpointError, ConfigError
from unheard.recipes import find_recipe
from unheard.recipes.learner import PretrainModule, build
from unheard.weights.checkpoint import load_model, save_model
from unheard.weights.published import convert

DIM = 64  # one head of width 64, which the layouts derive
Keys = dict[str, Tensor]


def donor(name: str) -> PretrainModule:
    """A model of ours with random weights everywhere, to take released keys from."""
    recipe = find_recipe(name)
    sizes = {"embed_dim": DIM, "depth": 2, "num_heads": 1, "decoder_embed_dim": DIM, "decoder_depth": 2}
    model = replace(recipe.model, frames=64, decoder_num_heads=4 if name == "eat" else 1, **sizes)
    learner = build(replace(recipe, model=model)).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in learner.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return learner.requires_grad_(False)


def blocks(learner: PretrainModule) -> Keys:
    found = {}
    for name, value in learner.model.encoder.transformer.state_dict().items():
        found[name.replace(".fc", ".mlp.fc")] = value
    return found


def convolution(learner: PretrainModule) -> Tensor:
    """The patch embedding as the references store it: time by frequency."""
    return learner.model.encoder.patch_embed.weight.reshape(DIM, 1, 16, 16).transpose(2, 3).contiguous()


def eat_keys(learner: PretrainModule) -> Keys:
    encoder, part = learner.model.encoder, "modality_encoders.IMAGE."
    assert encoder.cls_token is not None and encoder.input_norm is not None and learner.model.predictor is not None
    return {
        f"{part}extra_tokens": encoder.cls_token[None, None],
        f"{part}local_encoder.proj.weight": convolution(learner),
        f"{part}local_encoder.proj.bias": encoder.patch_embed.bias,
        f"{part}fixed_positional_encoder.positions": encoder.positions[None],
        f"{part}context_encoder.norm.weight": encoder.input_norm.weight,
        f"{part}context_encoder.norm.bias": encoder.input_norm.bias,
        **{
            f"{part}decoder.blocks.{name.replace('.', '.0.', 1)}": value
            for name, value in learner.model.decoder.layers.state_dict().items()
        },
        f"{part}decoder.proj.weight": learner.model.predictor.project.weight,
        f"{part}decoder.proj.bias": learner.model.predictor.project.bias,
        **blocks(learner),
    }


def bat_keys(learner: PretrainModule) -> Keys:
    encoder = learner.model.encoder
    assert encoder.cls_token is not None and encoder.input_norm is not None
    return {
        "cls_token": encoder.cls_token[None, None],
        "pos_embed": encoder.positions[None],
        "patch_embed.proj.weight": convolution(learner),
        "patch_embed.proj.bias": encoder.patch_embed.bias,
        "pre_norm.weight": encoder.input_norm.weight,
        "pre_norm.bias": encoder.input_norm.bias,
        **blocks(learner),
    }


def same_features(first: PretrainModule, second: PretrainModule) -> None:
    patches = torch.randn(2, 32, 256, generator=torch.Generator().manual_seed(3))
    for ours, theirs in zip(first.model.encoder(patches), second.model.encoder(patches), strict=True):
        assert ours is not None and theirs is not None
        torch.testing.assert_close(ours, theirs)


def test_a_fairseq_file_of_eat_is_read_without_its_teacher(tmp_path: Path) -> None:
    learner = donor("eat")
    keys = eat_keys(learner)
    teacher = {name: value + 1 for name, value in keys.items() if ".decoder." not in name}
    torch.save({"model": {**keys, "_ema": teacher}, "extra_state": {"epoch": 1}}, tmp_path / "eat.pt")
    saved = convert(tmp_path / "eat.pt", "eat")
    same_features(learner, saved.learner)
    assert torch.equal(saved.learner.model.decoder.layers[1].weight, learner.model.decoder.layers[1].weight)
    assert saved.recipe.model.frames == 64 and saved.recipe.model.decoder_num_heads == 4
    save_model(tmp_path / "model", saved.learner, saved.recipe, saved.statistics, saved.provenance)
    same_features(learner, load_model(tmp_path / "model").learner)
    assert "MIT" in saved.provenance.licence


def test_a_fine_tuned_file_keeps_its_classifier(tmp_path: Path) -> None:
    learner = donor("eat")
    keys = {f"model.{name}": value for name, value in eat_keys(learner).items() if ".decoder." not in name}
    keys |= {"fc_norm.weight": torch.ones(DIM), "fc_norm.bias": torch.zeros(DIM)}
    keys |= {"head.weight": torch.randn(3, DIM), "head.bias": torch.zeros(3)}
    torch.save({"model": keys}, tmp_path / "tuned.pt")
    saved = convert(tmp_path / "tuned.pt", "sslam")
    assert saved.classifier is not None and saved.classifier.config.pool == "cls" and saved.provenance.encoder_only
    scores = Model(saved).classify((torch.randn(16000).numpy(), 16000))
    assert scores.shape == (3,) and scores.sum() == pytest.approx(1, abs=1e-5)


def test_a_longer_window_needs_the_positions_for_it(tmp_path: Path) -> None:
    torch.save({"model": eat_keys(donor("eat"))}, tmp_path / "eat.pt")
    assert convert(tmp_path / "eat.pt", "eat", settings=["model.frames=32"]).learner.grid.time == 2
    with pytest.raises(CheckpointError, match="needs 48 positions, but the file has 32; set it to at most 64"):
        convert(tmp_path / "eat.pt", "eat", settings=["model.frames=96"])


@pytest.mark.parametrize("kind", ["safetensors", "student"])
def test_a_file_of_bat_is_read_with_its_gates(tmp_path: Path, kind: str) -> None:
    learner = donor("bat")
    keys = {name: value.contiguous() for name, value in bat_keys(learner).items()}
    file = tmp_path / ("bat.safetensors" if kind == "safetensors" else "bat.pt")
    if kind == "safetensors":
        save_file(keys, file)
    else:
        student = {f"student.encoder.{name}": value for name, value in keys.items()}
        others = {"student.decoder.mask_token": torch.zeros(1, 1, 8), "teacher.encoder.cls_token": torch.zeros(1, 1, 8)}
        torch.save({"state_dict": {**student, **others}}, file)
    saved = convert(file, "bat")
    same_features(learner, saved.learner)
    assert saved.statistics == DB_MINMAX.statistics()


def test_a_file_of_bat_without_a_gate_is_refused(tmp_path: Path) -> None:
    keys = {name: value for name, value in bat_keys(donor("bat")).items() if "blocks.1.attn.gate" not in name}
    torch.save(keys, tmp_path / "bat.pt")
    with pytest.raises(CheckpointError, match=r"block 1 of the file has no attn\.gate\.weight"):
        convert(tmp_path / "bat.pt", "bat")


def test_the_file_of_the_pre_training_script_is_refused(tmp_path: Path) -> None:
    keys = bat_keys(donor("bat"))
    torch.save({"encoder": keys, "decoder": {}, "ema_encoder": keys}, tmp_path / "script.pt")
    with pytest.raises(CheckpointError, match="holds no tensors; its entries are encoder, decoder, ema_encoder"):
        convert(tmp_path / "script.pt", "bat")


def test_a_model_that_scales_each_window_is_not_exported(tmp_path: Path) -> None:
    torch.save(bat_keys(donor("bat")), tmp_path / "bat.pt")
    model = Model(convert(tmp_path / "bat.pt", "bat"))
    for out in (tmp_path / "hf", tmp_path / "enc.onnx"):
        with pytest.raises(ConfigError, match="cannot be exported, because it scales each window"):
            api.export(model, out)
