"""Files of MaskSpec: pre-trained models, and fine-tuned encoders with a classifier on the mean token or the CLS token.

Sizes are taken from the shapes of the tensors. The files hold no front end and no statistics: those of PaSST and of
AudioSet are used.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from torch import Tensor

from unheard.audio.kaldi import MASKSPEC
from unheard.audio.presets import MASKSPEC_AUDIOSET
from unheard.config import override
from unheard.errors import CheckpointError
from unheard.model.classifier import ClassifierConfig
from unheard.recipes import maskspec
from unheard.recipes.recipe import Recipe
from unheard.weights.checkpoint import SavedModel
from unheard.weights.layouts.mae import (
    CLASSIFIER_PREFIXES,
    DECODER_NEEDS,
    ENCODER_NEEDS,
    Released,
    assemble,
    classifier_config,
    depth,
    heads,
    rename,
    require,
)

LICENCE = (
    "published with code under Apache-2.0 (WangHelin1997/MaskSpec), trained on AudioSet; the files state no terms of"
    " their own"
)
NOTE = "The file holds no normalisation statistics; those of AudioSet from the reference are used."


def read(released: Released, settings: Iterable[str]) -> SavedModel:
    """Read a file of MaskSpec as a model; a fine-tuned one with its classifier.

    Raises
    ------
    CheckpointError
        When keys or shapes are not those of the layout.
    """
    keys = released.keys
    recipe = override(recipe_of(keys), settings)
    tensors = rename(keys, cls=True, extra_prefixes=CLASSIFIER_PREFIXES)
    return assemble(released, recipe, tensors, MASKSPEC_AUDIOSET, LICENCE, (NOTE,), _head(keys))


def recipe_of(keys: Mapping[str, Tensor]) -> Recipe:
    """Derive the configuration from the shapes.

    Raises
    ------
    CheckpointError
        When a key is missing or the position table is not of this layout.
    """
    has_decoder = any(key.startswith(("decoder_", "mask_token")) for key in keys)
    require(keys, {"cls_token": 3, **ENCODER_NEEDS, **(DECODER_NEEDS if has_decoder else {})}, "maskspec")
    dim, _, patch_freq, patch_time = keys["patch_embed.proj.weight"].shape
    patches, rows = keys["pos_embed"].shape[1] - 1, MASKSPEC.n_mels // patch_freq
    if patches < 1 or patches % rows:
        raise CheckpointError(
            f"the file's table of {patches} positions does not fit {rows} rows of patches, so it is not of layout"
            " maskspec"
        )
    known = maskspec.recipe()
    model = replace(
        known.model,
        frames=patches // rows * patch_time,
        patch_size=(patch_freq, patch_time),
        embed_dim=dim,
        depth=depth(keys, "blocks."),
        num_heads=heads(dim),
        mlp_ratio=keys["blocks.0.mlp.fc1.weight"].shape[0] / dim,
        final_norm="norm.weight" in keys,
    )
    if has_decoder:
        width = keys["decoder_embed.weight"].shape[0]
        number = 16 if width == 512 else heads(width)
        model = replace(
            model, decoder_embed_dim=width, decoder_depth=depth(keys, "decoder_blocks."), decoder_num_heads=number
        )
    return replace(known, paper="published weights", model=model)


def _head(keys: Mapping[str, Tensor]) -> ClassifierConfig | None:
    """Return the classifier of a fine-tuned file; ``fc_norm`` indicates the mean token, its absence the CLS token."""
    if "head.weight" not in keys:
        return None
    mean = "fc_norm.weight" in keys
    return classifier_config(keys["head.weight"], "layer" if mean else "none", "mean" if mean else "cls")
