"""Files of EAT and SSLAM: fairseq checkpoints, fine-tuned ones with a classifier, and their Hugging Face ports.

Sizes are taken from the shapes of the tensors, the window from the position table: 1024 frames, or fewer. The table of
newer files has 768 columns, so ``model.frames`` may be set to any multiple of 16 up to 12 288. The EMA teacher, which
only training needs, is left out. Patches are transposed as those of AudioMAE.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from torch import Tensor

from unheard.audio.frontend import Statistics
from unheard.audio.kaldi import AUDIOMAE
from unheard.config import override
from unheard.errors import CheckpointError
from unheard.model.classifier import ClassifierConfig
from unheard.objectives.reconstruct import ReconstructConfig
from unheard.recipes import eat
from unheard.recipes.learner import grid_of
from unheard.recipes.recipe import ObjectivesConfig, Recipe
from unheard.weights.checkpoint import SavedModel
from unheard.weights.layouts.audiomae import transpose_patch
from unheard.weights.layouts.mae import (
    CLASSIFIER_PREFIXES,
    Released,
    assemble,
    classifier_config,
    depth,
    heads,
    rename,
    require,
)

LICENCE = "published under the MIT licence; see the LICENSE of {}"
STATISTICS = Statistics((-4.268,), (2 * 4.569,))
"""Mean and twice the deviation of AudioSet: what the reference subtracts and divides by."""
WINDOW = 1024  # frames of a training window
PART = "modality_encoders.IMAGE."
NAMES = {  # theirs, in either kind of file: as in files of the MAE family
    "extra_tokens": "cls_token",
    "local_encoder.proj.weight": "patch_embed.proj.weight",
    "local_encoder.proj.bias": "patch_embed.proj.bias",
    "fixed_positional_encoder.positions": "pos_embed",
    "decoder.proj.weight": "decoder_pred.weight",
    "decoder.proj.bias": "decoder_pred.bias",
}
NEEDS = {
    "cls_token": 3,
    "pos_embed": 3,
    "patch_embed.proj.weight": 4,
    "pre_norm.weight": 1,
    "blocks.0.attn.qkv.weight": 2,
    "blocks.0.mlp.fc1.weight": 2,
}  # key: rank


def read(released: Released, settings: Iterable[str]) -> SavedModel:
    """Read a file of EAT as a model; a fine-tuned one with its classifier.

    Raises
    ------
    CheckpointError
        When keys or shapes are not those of the layout.
    """
    return _read(released, settings, LICENCE.format("cwx-worst-one/EAT"))


def read_sslam(released: Released, settings: Iterable[str]) -> SavedModel:
    """Read a file of SSLAM, which has the layout of EAT.

    Raises
    ------
    CheckpointError
        As `read`.
    """
    return _read(released, settings, LICENCE.format("ta012/SSLAM"))


def _read(released: Released, settings: Iterable[str], licence: str) -> SavedModel:
    keys = plain(released.keys)
    recipe = override(recipe_of(keys), settings)
    return assemble(released, recipe, named(keys, recipe), STATISTICS, licence, head=_head(keys))


def plain(keys: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors under the names of the MAE family, where they have one."""
    found = {}
    for key, value in keys.items():
        name = key.removeprefix("model.").removeprefix(PART).replace("context_encoder.norm.", "pre_norm.")
        name = NAMES.get(name, name)
        if name.startswith("decoder.blocks."):
            name = "conv." + name.removeprefix("decoder.blocks.").replace(".0.", ".", 1)
        if name in found:
            raise CheckpointError(f"the file holds two tensors {name}, so it is not of layout eat; check --layout")
        found[name] = value
    return found


def named(keys: Mapping[str, Tensor], recipe: Recipe) -> dict[str, Tensor]:
    """Return the tensors of `plain` under our names, with the positions of the window and transposed patches.

    Raises
    ------
    CheckpointError
        When the position table has fewer columns than the window, or a key is unknown.
    """
    own = {"pre_norm.": "model.encoder.input_norm.", "conv.": "model.decoder.layers."}
    tensors = rename(keys, False, "model.predictor.project.", {**CLASSIFIER_PREFIXES, **own})
    for name, value in tensors.items():
        if name == "model.encoder.positions":
            tensors[name] = _of_window(value, recipe)
        elif name == "model.encoder.patch_embed.weight":
            tensors[name] = transpose_patch(value.T, recipe).T
    return tensors


def _of_window(table: Tensor, recipe: Recipe) -> Tensor:
    """Return the positions of the columns of the window."""
    rows = grid_of(recipe).num_patches
    if len(table) < rows:
        raise CheckpointError(
            f"model.frames={recipe.model.frames} needs {rows} positions, but the file has {len(table)}; set it to at"
            f" most {len(table) * recipe.model.frames // rows}"
        )
    return table[:rows]


def recipe_of(keys: Mapping[str, Tensor]) -> Recipe:
    """Derive the configuration from the shapes of the tensors of `plain`.

    Raises
    ------
    CheckpointError
        When a key is missing.
    """
    require(keys, NEEDS, "eat")
    dim, _, patch_time, patch_freq = keys["patch_embed.proj.weight"].shape
    columns = keys["pos_embed"].shape[1] * patch_freq // AUDIOMAE.n_mels
    published = eat.recipe()
    model = replace(
        published.model,
        frames=min(WINDOW, columns * patch_time),
        patch_size=(patch_freq, patch_time),
        embed_dim=dim,
        depth=depth(keys, "blocks."),
        num_heads=heads(dim),
        mlp_ratio=keys["blocks.0.mlp.fc1.weight"].shape[0] / dim,
    )
    if "conv.0.weight" not in keys:
        # the smallest possible decoder; it is never trained
        objectives = ObjectivesConfig(ReconstructConfig(weight=1.0))
        return replace(published, model=replace(model, decoder="global"), objectives=objectives)
    width, inputs, kernel, _ = keys["conv.0.weight"].shape
    model = replace(
        model,
        decoder_embed_dim=width,
        decoder_depth=depth(keys, "conv."),
        decoder_num_heads=dim // inputs,
        decoder_kernel=kernel,
    )
    return replace(published, model=model)


def _head(keys: Mapping[str, Tensor]) -> ClassifierConfig | None:
    return classifier_config(keys["head.weight"], "layer", "cls") if "head.weight" in keys else None
