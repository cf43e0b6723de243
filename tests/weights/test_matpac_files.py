"""Files of MATPAC in miniature: training checkpoints, encoder-only files, the AudioSet head."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import unheard
from unheard.config import override
from unheard.errors import CheckpointError
from unheard.model.masking import random
from unheard.recipes import find_recipe
from unheard.recipes.learner import PretrainModule, build
from unheard.weights.layouts.matpac import STATISTICS
from unheard.weights.published import convert

SIZES = (
    "frames=96",
    "embed_dim=128",
    "depth=2",
    "num_heads=2",
    "decoder_embed_dim=64",
    "decoder_depth=1",
    "decoder_num_heads=2",
)
HEAD = [f"objectives.prototypes.{size}" for size in ("prototypes=12", "hidden_dim=16", "bottleneck_dim=8")]
CLASSES = 5
TEACHERS = ("_ema", "_cls_head_ema")
WAV = np.random.default_rng(0).normal(0, 0.1, 16000).astype(np.float32)  # 98 frames: a window and a bit


def learner_of(name: str) -> PretrainModule:
    """A model whose every weight is its own, biases and gains included."""
    learner = build(override(find_recipe(name), [*(f"model.{size}" for size in SIZES), *HEAD]), seed=1)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in learner.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return learner.eval()


def theirs(name: str) -> str:
    """The published name of one of our parameters."""
    for ours, published in (
        ("model.encoder.transformer.", "student_encoder."),
        ("model.teacher.transformer.", "_ema."),
        ("model.encoder.patch_embed.", "patch_embed.proj."),
        ("model.encoder.positions", "pos_embed"),
        ("model.encoder.", ""),
        ("model.decoder.transformer.blocks.", "decoder.decoder_blocks."),
        ("model.decoder.transformer.norm.", "decoder.decoder_norm."),
        ("model.decoder.embed.", "decoder.decoder_embed."),
        ("model.decoder.positions", "decoder.decoder_pos_embed"),
        ("model.decoder.", "decoder."),
        ("model.predictor.project.", "decoder.decoder_pred."),
    ):
        if name.startswith(ours):
            return published + name.removeprefix(ours).replace(".fc", ".mlp.fc")
    return name.replace("objectives.prototypes.student.", "cls_student_head.").replace(
        "objectives.prototypes.teacher.", "_cls_head_ema."
    )


def shaped(name: str, value: Tensor) -> Tensor:
    """A tensor as the published files shape it."""
    if name.endswith("pos_embed"):
        return torch.cat([torch.zeros(1, value.shape[1]), value])[None]
    if name.endswith("_token"):
        return value.reshape(1, 1, -1)
    return value.reshape(-1, 1, 16, 16) if name == "patch_embed.proj.weight" else value


def released(learner: PretrainModule, encoder_only: bool = False) -> dict[str, Tensor]:
    """The flat part of a file: everything but the teachers.

    Five projections are kept separate, in addition to the single one they replace.
    """
    skipped = ("objectives.prototypes.center", "objectives.prototypes.pending")
    named = {theirs(name): value for name, value in learner.state_dict().items() if not name.startswith(skipped)}
    keys = {name: shaped(name, value.detach().clone()) for name, value in named.items() if not name.startswith("_")}
    if encoder_only:
        return {name: value for name, value in keys.items() if not name.startswith(("decoder.", "cls_student_head."))}
    if learner.recipe.model.num_hypotheses > 1:
        for part in ("weight", "bias"):
            for index, one in enumerate(
                keys[f"decoder.decoder_pred.{part}"].chunk(learner.recipe.model.num_hypotheses)
            ):
                keys[f"mcl_heads.mcl_heads.{index}.{part}"] = one.clone()
            keys[f"decoder.decoder_pred.{part}"] = torch.full_like(one, torch.nan)
    return keys | {"cls_head_loss.center": torch.zeros(1, 1, 12)}


def training_file(learner: PretrainModule, file: Path) -> Path:
    """A fairseq checkpoint: configuration objects around the model, teachers nested in it."""
    state = {theirs(name): value for name, value in learner.state_dict().items()}
    nested = {
        part: {k.removeprefix(f"{part}."): v for k, v in state.items() if k.startswith(f"{part}.")}
        for part in ("_ema", "_cls_head_ema")
    }
    torch.save(
        {"args": argparse.Namespace(lr=[3e-4]), "model": released(learner) | nested, "extra_state": {"epoch": 300}},
        file,
    )
    return file


@pytest.mark.parametrize("name", ["matpac", "matpac++"])
def test_a_training_checkpoint_predicts_what_the_trained_model_did(name: str, tmp_path: Path) -> None:
    learner = learner_of(name)
    saved = convert(training_file(learner, tmp_path / "checkpoint_last.pt"), "matpac")
    assert saved.recipe.name == name and saved.statistics == STATISTICS and not saved.recipe.frontend.center
    assert saved.recipe.model.frames == 96 and not saved.provenance.encoder_only
    spec = torch.randn(2, 80, 96, generator=torch.Generator().manual_seed(3))
    mask = random(torch.rand(2, 30, generator=torch.Generator().manual_seed(4)), 0.7)
    ours, original = (each.model(each.grid.patchify(spec), mask) for each in (saved.learner, learner))
    torch.testing.assert_close(ours.visible, original.visible)
    torch.testing.assert_close(ours.predicted, original.predicted)


def test_an_inference_file_embeds_and_says_what_it_lacks(tmp_path: Path) -> None:
    learner = learner_of("matpac++")
    torch.save(released(learner, encoder_only=True), tmp_path / "matpac_plus_6s_2048_enconly.pt")
    model = unheard.convert(tmp_path / "matpac_plus_6s_2048_enconly.pt", tmp_path / "made", "matpac")
    assert model.provenance.encoder_only and "encoder only" in model.provenance.notes[0]
    again = unheard.load(tmp_path / "made").embed((WAV, 16000))
    assert again.frames.shape == (7, 5 * 128)  # 98 frames: six time steps of a window, one of the rest
    spec = STATISTICS.normalise(model.frontend(torch.from_numpy(WAV)[None]))[..., :96]
    tokens = learner.model.encoder(learner.grid.patchify(spec))[0]
    np.testing.assert_allclose(again.frames[:6], learner.grid.to_timesteps(tokens)[0].detach().numpy(), atol=1e-4)


def test_the_audioset_head_gives_each_class_a_score_of_its_own(tmp_path: Path) -> None:
    keys = released(learner_of("matpac"), encoder_only=True)
    generator = torch.Generator().manual_seed(5)
    weight, mean, var = (torch.randn(shape, generator=generator) for shape in ((CLASSES, 128), (128,), (128,)))
    keys |= {
        "head.weight": weight,
        "head.bias": torch.ones(CLASSES),
        "head_norm.running_mean": mean,
        "head_norm.running_var": var.exp(),
    }
    torch.save(keys | {"head_norm.num_batches_tracked": torch.tensor(9)}, tmp_path / "enc_and_head.pt")
    model = unheard.convert(tmp_path / "enc_and_head.pt", tmp_path / "made", "matpac")
    scores = model.classify((WAV[: 16 * 95 * 10 + 400 - 160], 16000))  # 95 frames: less than one window
    tokens = model.embed((WAV[: 16 * 95 * 10 + 400 - 160], 16000)).scene.reshape(5, 128).mean(axis=0)
    logits = (torch.from_numpy(tokens) - mean) / (var.exp() + 1e-5).sqrt() @ weight.T + 1
    np.testing.assert_allclose(scores, torch.sigmoid(logits).numpy(), atol=1e-4)
    assert len(model.labels) == CLASSES and "machine identifiers" in model.provenance.notes[-1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"surprise": torch.zeros(1)}, "surprise belong to no known part"),
        ({"pos_embed": torch.zeros(1, 30, 128)}, "29 positions does not fit 80 mel bands in patches of 16x16"),
        (
            {"student_encoder.norm.weight": None},
            r"no student_encoder\.norm\.weight of rank 1, so it is not of layout matpac",
        ),
        ({"head.weight": torch.zeros(3, 128)}, r"no head\.bias"),
        ({"student_encoder.blocks.1.norm1.bias": None}, r"missing model\.encoder\.transformer\.blocks\.1\.norm1\.bias"),
    ],
)
def test_a_file_of_another_kind_is_reported_key_by_key(
    change: dict[str, Tensor | None], message: str, tmp_path: Path
) -> None:
    keys = released(learner_of("matpac"), encoder_only=True) | change
    torch.save({key: value for key, value in keys.items() if value is not None}, tmp_path / "file.pt")
    with pytest.raises(CheckpointError, match=message):
        convert(tmp_path / "file.pt", "matpac")


def test_the_window_comes_from_the_table_whatever_the_file_is_called(tmp_path: Path) -> None:
    learner = learner_of("matpac")
    longer = build(replace(learner.recipe, model=replace(learner.recipe.model, frames=160)), seed=0)
    torch.save(released(longer, encoder_only=True), tmp_path / "assets_as_608.pt")
    assert convert(tmp_path / "assets_as_608.pt", "matpac").recipe.model.frames == 160
