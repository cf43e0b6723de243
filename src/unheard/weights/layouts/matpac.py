"""Files of MATPAC and MATPAC++: training checkpoints, encoders for inference, and the AudioSet head.

Sizes and window are taken from the shapes: the position table has a row for each of five mel patches times the time
patches, and one for CLS. Teachers and the prototype head, which only training needs, are left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from unheard.audio.frontend import MATPAC, Statistics
from unheard.config import override
from unheard.errors import CheckpointError
from unheard.model.classifier import ClassifierConfig
from unheard.model.sizes import ModelConfig
from unheard.objectives.latents import LatentsConfig
from unheard.objectives.reconstruct import ReconstructConfig
from unheard.recipes import matpac
from unheard.recipes.recipe import ObjectivesConfig, Recipe
from unheard.weights.checkpoint import CLASSIFIER, SavedModel
from unheard.weights.layouts.mae import Released, assemble, classifier_config, depth, heads, rename, require

LICENCE = "published without a licence file (aurianworld/matpac); ask its authors before any use beyond reading"
STATISTICS = Statistics((-7.056,), (4.193,))
"""Mean and deviation used to train the published models (reference configuration)."""

LEFT_OUT = ("_ema.", "_cls_head_ema.", "cls_student_head.", "cls_head_loss.")
MULTIPLE = "mcl_heads.mcl_heads."
HEAD = {"head.weight": "head.weight", "head.bias": "head.bias"}  # their key: ours, in the classifier
NORM = ("running_mean", "running_var", "num_batches_tracked")
NEEDED = {  # key: rank
    "cls_token": 3,
    "pos_embed": 3,
    "patch_embed.proj.weight": 4,
    "student_encoder.blocks.0.attn.qkv.weight": 2,
    "student_encoder.blocks.0.mlp.fc1.weight": 2,
    "student_encoder.norm.weight": 1,
}
DECODER_NEEDS = {
    "decoder.decoder_embed.weight": 2,
    "decoder.decoder_pos_embed": 3,
    "decoder.decoder_blocks.0.attn.qkv.weight": 2,
}


def read(released: Released, settings: Iterable[str]) -> SavedModel:
    """Read a file of MATPAC as a model.

    Raises
    ------
    CheckpointError
        When keys or shapes are not those of the layout.
    """
    keys = released.keys
    head = _head(keys)
    notes = (
        ("The classes are those of AudioSet, in the order of their machine identifiers; the file has no names.",)
        if head
        else ()
    )
    return assemble(released, override(_recipe(keys), settings), named(keys), STATISTICS, LICENCE, notes, head)


def named(keys: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of a model folder, under our names; the five projections of MATPAC++ become one layer.

    Raises
    ------
    CheckpointError
        Naming the unknown keys.
    """
    multiple = any(key.startswith(MULTIPLE) for key in keys)
    plain: dict[str, Tensor] = {}
    for key, value in keys.items():
        unused = multiple and key.startswith(
            "decoder.decoder_pred."
        )  # MATPAC++ files keep the single projection untrained
        if not key.startswith((*LEFT_OUT, MULTIPLE, "head.", "head_norm.")) and not unused:
            plain[key.removeprefix("student_encoder.").removeprefix("decoder.")] = value
    for part in ("weight", "bias") if multiple else ():
        plain[f"decoder_pred.{part}"] = torch.cat(
            [keys[f"{MULTIPLE}{index}.{part}"] for index in range(hypotheses(keys))]
        )
    tensors = rename(plain, cls=True, head="model.predictor.project.")
    for theirs, ours in HEAD.items():
        if theirs in keys:
            tensors[CLASSIFIER + ours] = keys[theirs]
    return tensors | {
        f"{CLASSIFIER}norm.{part}": keys[f"head_norm.{part}"] for part in NORM if f"head_norm.{part}" in keys
    }


def hypotheses(keys: Mapping[str, Tensor]) -> int:
    """Return the number of projections of the predictor."""
    return sum(key.startswith(MULTIPLE) and key.endswith(".weight") for key in keys) or 1


def _recipe(keys: Mapping[str, Tensor]) -> Recipe:
    """Derive the configuration from the shapes."""
    decoder = _has_decoder(keys)
    require(keys, {**NEEDED, **(DECODER_NEEDS if decoder else {})}, "matpac")
    dim, kernel = keys["student_encoder.norm.weight"].shape[0], tuple(keys["patch_embed.proj.weight"].shape[2:])
    bands, patches = MATPAC.n_mels // max(1, kernel[0]), keys["pos_embed"].shape[1] - 1
    if MATPAC.n_mels % kernel[0] or patches % bands or not patches:
        raise CheckpointError(
            f"a table of {patches} positions does not fit {MATPAC.n_mels} mel bands in patches of"
            f" {kernel[0]}x{kernel[1]}"
        )
    published = matpac.plus() if hypotheses(keys) > 1 else matpac.recipe()
    model = ModelConfig(
        frames=patches // bands * kernel[1],
        patch_size=(kernel[0], kernel[1]),
        mask_ratio=published.model.mask_ratio,
        embed_dim=dim,
        depth=depth(keys, "student_encoder.blocks."),
        num_heads=heads(dim),
        mlp_ratio=keys["student_encoder.blocks.0.mlp.fc1.weight"].shape[0] / dim,
        decoder_preset="latents",
        num_hypotheses=hypotheses(keys),
    )
    if not decoder:
        # the smallest possible decoder; it is never trained
        objectives = ObjectivesConfig(ReconstructConfig(weight=1.0))
        return replace(published, name="matpac", model=replace(model, decoder_preset="pixels"), objectives=objectives)
    width = keys["decoder.decoder_embed.weight"].shape[0]
    model = replace(
        model,
        decoder_embed_dim=width,
        decoder_depth=depth(keys, "decoder.decoder_blocks."),
        decoder_num_heads=max(1, width // 32),  # as published: 512 channels, 16 heads
    )
    latents = LatentsConfig(weight=1.0, standardise_target=False)
    return replace(published, model=model, objectives=ObjectivesConfig(ReconstructConfig(weight=0.0), latents))


def _head(keys: Mapping[str, Tensor]) -> ClassifierConfig | None:
    """Return the AudioSet head, if the file has one, with a sigmoid for its many labels (the reference uses a
    softmax).
    """
    if "head.weight" not in keys:
        return None
    require(keys, {"head.weight": 2, "head.bias": 1, "head_norm.running_mean": 1, "head_norm.running_var": 1}, "matpac")
    return replace(classifier_config(keys["head.weight"], "batch"), activation="sigmoid")


def _has_decoder(keys: Mapping[str, Tensor]) -> bool:
    return any(key.startswith("decoder.") for key in keys)
