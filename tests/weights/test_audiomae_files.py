"""Files of AudioMAE in their three layouts become models that compute what the released network computes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from unheard.api import convert
from unheard.config import override
from unheard.errors import CheckpointError
from unheard.model.patches import Grid, position_table
from unheard.objectives.reconstruct import Reconstruct
from unheard.recipes import find_recipe
from unheard.recipes.learner import PretrainModule, build
from unheard.weights import published
from unheard.weights.layouts.audiomae import STATISTICS

PATCH, FRAMES = (16, 8), 64  # mel bands x frames; not square, so that a turned patch shows
GRID = Grid.of(128, FRAMES, PATCH, "time")
SIZES = (
    "frames=64",
    "patch_size=16x8",
    "embed_dim=64",
    "depth=2",
    "num_heads=1",
    "decoder_embed_dim=32",
    "decoder_depth=2",
)
Keys = dict[str, Tensor]


def donor(decoder: str) -> PretrainModule:
    """A model of ours with random weights everywhere, to take released keys from."""
    heads = 4 if decoder == "local" else 1
    sizes = (*SIZES, f"decoder={decoder}", f"decoder_num_heads={heads}")
    learner = build(override(find_recipe("audiomae"), [f"model.{size}" for size in sizes])).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in learner.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return learner.requires_grad_(False)


def released(learner: PretrainModule) -> Keys:
    """The keys of a released file; patches as random as can be, positions as published."""
    draw = torch.Generator().manual_seed(2)
    assert learner.model.encoder.cls_token is not None
    keys = {
        "cls_token": learner.model.encoder.cls_token[None, None],
        "pos_embed": F.pad(position_table("audiomae", GRID, 64), (0, 0, 1, 0))[None],
        "patch_embed.proj.weight": torch.randn(64, 1, PATCH[1], PATCH[0], generator=draw) * 0.1,
        "patch_embed.proj.bias": learner.model.encoder.patch_embed.bias,
        "mask_token": learner.model.decoder.mask_token[None, None],
        "decoder_pos_embed": F.pad(position_table("audiomae", GRID, 32), (0, 0, 1, 0))[None],
        "decoder_pred.weight": torch.randn(128, 32, generator=draw) * 0.1,
        "decoder_pred.bias": torch.randn(128, generator=draw) * 0.1,
    }
    for name, value in learner.model.encoder.transformer.state_dict().items():
        keys[theirs(name)] = value
    for name, value in learner.model.decoder.transformer.state_dict().items():
        keys["decoder_" + theirs(name)] = value
    keys |= {f"decoder_embed.{name}": value for name, value in learner.model.decoder.embed.state_dict().items()}
    return keys


def theirs(name: str) -> str:
    if ".attn.bias." in name:
        return name.replace(".attn.bias.", ".attn.meta_mlp.")
    return name.replace(".fc1.", ".mlp.fc1.").replace(".fc2.", ".mlp.fc2.")


def tokens(keys: Keys, spec: Tensor) -> Tensor:
    """Embedded patches, as the reference makes them: a convolution over an image of time by frequency."""
    weight, bias = (keys[f"patch_embed.proj.{name}"] for name in ("weight", "bias"))
    image = F.conv2d(spec.transpose(1, 2)[:, None], weight, bias, stride=(PATCH[1], PATCH[0]))
    return image.flatten(2).transpose(1, 2) + keys["pos_embed"][:, 1:]


def saved(keys: Keys, folder: Path) -> Path:
    torch.save({"model": keys, "epoch": 32}, folder / "pretrained.pth")
    return folder / "pretrained.pth"


@pytest.fixture
def fine_tuned() -> Callable[[int], Keys]:
    def make(classes: int) -> Keys:
        draw = torch.Generator().manual_seed(3)
        keys = released(donor("global"))
        keys = {name: value for name, value in keys.items() if not name.startswith(("decoder_", "mask_token", "norm."))}
        head = {
            "head.weight": torch.randn(classes, 64, generator=draw),
            "head.bias": torch.randn(classes, generator=draw),
        }
        return (
            keys
            | head
            | {"fc_norm.weight": torch.rand(64, generator=draw), "fc_norm.bias": torch.rand(64, generator=draw)}
        )

    return make


@pytest.mark.parametrize("decoder", ["local", "global"])
def test_a_pre_trained_file_hears_and_draws_as_released(decoder: str, tmp_path: Path) -> None:
    learner = donor(decoder)
    keys = released(learner)
    made = published.convert(saved(keys, tmp_path), "audiomae").learner
    spec = torch.randn(1, 128, FRAMES)
    patches = GRID.patchify(spec)
    assert torch.allclose(made.model.encoder.tokens(patches), tokens(keys, spec), atol=1e-5)
    decoded = torch.randn(1, GRID.num_patches, 32)
    head = made.objectives["reconstruct"]
    assert isinstance(head, Reconstruct)
    predicted = head.head(decoded)
    image = F.linear(decoded, keys["decoder_pred.weight"], keys["decoder_pred.bias"]).reshape(
        1, 8, 8, PATCH[1], PATCH[0]
    )
    expected = image.permute(0, 1, 3, 2, 4).reshape(1, FRAMES, 128).transpose(1, 2)  # time by frequency, turned
    assert torch.allclose(GRID.unpatchify(predicted), expected, atol=1e-5)
    for name, value in learner.model.decoder.transformer.state_dict().items():
        assert torch.equal(made.model.decoder.transformer.state_dict()[name], value), name
    assert torch.equal(made.model.encoder.positions, keys["pos_embed"][0, 1:])
    assert made.recipe.model.decoder == decoder and made.recipe.model.positions == "audiomae"


def test_a_fine_tuned_file_classifies_and_embeds(fine_tuned: Callable[[int], Keys], tmp_path: Path) -> None:
    keys = fine_tuned(5)
    model = convert(saved(keys, tmp_path), tmp_path / "model", "audiomae")
    wav = np.random.default_rng(0).normal(0, 0.1, 400 + 160 * (FRAMES - 1)).astype(np.float32)  # one whole window
    spec = model.statistics.normalise(model.frontend(torch.from_numpy(wav)[None]))
    encoder = model.encoder
    outputs = encoder.transformer(encoder.with_cls(tokens(keys, spec)))
    pooled = F.layer_norm(outputs[:, 1:].mean(dim=1), (64,), keys["fc_norm.weight"], keys["fc_norm.bias"], 1e-6)
    scores = F.linear(pooled, keys["head.weight"], keys["head.bias"]).softmax(dim=-1)[0]
    assert np.allclose(model.classify((wav, 16000)), scores, atol=1e-4)
    assert model.labels == tuple(f"class {number}" for number in range(5))
    assert model.embed((wav, 16000)).scene.shape == (64 * 8,)
    assert model.provenance.encoder_only and "CC BY-NC" in model.provenance.licence


def test_audioset_s_classes_are_scored_each_on_its_own(fine_tuned: Callable[[int], Keys], tmp_path: Path) -> None:
    classifier = published.convert(saved(fine_tuned(527), tmp_path), "audiomae").classifier
    assert classifier is not None and classifier.config.activation == "sigmoid" and len(classifier.config.labels) == 527


def test_statistics_are_those_of_the_set_the_window_tells_and_the_deviation_is_doubled(tmp_path: Path) -> None:
    made = published.convert(saved(released(donor("local")), tmp_path), "audiomae")
    assert (made.statistics.mean, made.statistics.std) == ((STATISTICS[1024][0],), (2 * 4.5689974,))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda keys: keys.pop("pos_embed"), "has no pos_embed of rank 3"),
        (lambda keys: keys.pop("decoder_blocks.1.attn.tau"), "missing model.decoder.transformer.blocks.1.attn.tau"),
        (lambda keys: keys.update(extra=torch.zeros(1)), "extra belong to no known part"),
        (lambda keys: keys.update(pos_embed=torch.zeros(1, 70, 64)), "69 positions does not fit 8 rows"),
    ],
)
def test_another_file_is_refused_by_name(change: Callable[[Keys], object], message: str, tmp_path: Path) -> None:
    keys = released(donor("local"))
    change(keys)
    with pytest.raises(CheckpointError, match=message):
        published.convert(saved(keys, tmp_path), "audiomae")
