"""Files of AudioMAE: pre-training with the local decoder or the global one, and fine-tuned encoders with a classifier.

Sizes are taken from the shapes of the tensors. AudioMAE's images are time by frequency and ours frequency by time.
Patches are therefore transposed in the weights that read them and in those that predict them. The position tables are
not changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from torch import Tensor

from unheard.audio.frontend import Statistics
from unheard.audio.kaldi import AUDIOMAE
from unheard.config import override
from unheard.errors import CheckpointError
from unheard.model.sizes import ModelConfig
from unheard.objectives.reconstruct import ReconstructConfig
from unheard.recipes.recipe import ObjectivesConfig, Recipe
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

LICENCE = "published by Meta under CC BY-NC 4.0: not for commercial use; see the LICENSE of facebookresearch/AudioMAE"
# frames of the window: mean and deviation of the training set (reference script), which doubles the deviation
STATISTICS = {
    1024: (-4.2677393, 2 * 4.5689974),  # AudioSet
    512: (-6.6268077, 2 * 5.358466),  # ESC-50
    128: (-6.845978, 2 * 5.5654526),  # Speech Commands
}


def read(released: Released, settings: Iterable[str]) -> SavedModel:
    """Read a file of AudioMAE as a model; a fine-tuned one with its classifier.

    Raises
    ------
    CheckpointError
        When keys or shapes are not those of the layout.
    """
    keys = released.keys
    recipe = override(recipe_of(keys), settings)
    head = classifier_config(keys["head.weight"], norm="layer") if "head.weight" in keys else None
    frames = recipe.model.frames
    notes: tuple[str, ...] = ()
    if frames not in STATISTICS:
        notes = (f"The reference has no statistics for windows of {frames} frames; those of AudioSet are used.",)
    mean, std = STATISTICS.get(frames, STATISTICS[1024])
    return assemble(released, recipe, named(keys, recipe), Statistics((mean,), (std,)), LICENCE, notes, head)


def named(keys: Mapping[str, Tensor], recipe: Recipe) -> dict[str, Tensor]:
    """Return the tensors under our names, with transposed patches; see `mae.rename`."""
    plain = {key.replace(".meta_mlp.", ".bias."): value for key, value in keys.items()}
    tensors = rename(plain, cls=True, extra_prefixes=CLASSIFIER_PREFIXES)
    for name, value in tensors.items():
        if name == "model.encoder.patch_embed.weight":
            tensors[name] = transpose_patch(value.T, recipe).T
        elif name.startswith("objectives.reconstruct.head."):
            tensors[name] = transpose_patch(value, recipe)
    return tensors


def transpose_patch(values: Tensor, recipe: Recipe) -> Tensor:
    """Reorder rows (P, ...) within a patch from AudioMAE's order, time by frequency, to ours, frequency by time."""
    freq, time = recipe.model.patch_size
    return values.reshape(time, freq, *values.shape[1:]).transpose(0, 1).flatten(0, 1)


def recipe_of(keys: Mapping[str, Tensor]) -> Recipe:
    """Derive the configuration from the shapes.

    Raises
    ------
    CheckpointError
        When a key is missing or the position table is not of this layout.
    """
    has_decoder = any(key.startswith(("decoder_", "mask_token")) for key in keys)
    require(keys, {**ENCODER_NEEDS, **(DECODER_NEEDS if has_decoder else {})}, "audiomae")
    dim, _, patch_time, patch_freq = keys["patch_embed.proj.weight"].shape
    patches, rows = keys["pos_embed"].shape[1] - 1, AUDIOMAE.n_mels // patch_freq
    if "cls_token" not in keys or patches % rows:
        raise CheckpointError(
            f"the file's table of {patches} positions does not fit {rows} rows of patches and a CLS token, so it is not"
            " of layout audiomae"
        )
    model = ModelConfig(
        frames=patches // rows * patch_time,
        patch_size=(patch_freq, patch_time),
        token_order="time",
        mask_ratio=0.8,
        embed_dim=dim,
        depth=depth(keys, "blocks."),
        num_heads=heads(dim),
        mlp_ratio=keys["blocks.0.mlp.fc1.weight"].shape[0] / dim,
        final_norm="norm.weight" in keys,
        positions="audiomae",
    )
    model = _with_decoder(model, keys) if has_decoder else model
    objectives = ObjectivesConfig(ReconstructConfig(norm_pix=True))
    return Recipe("audiomae", "published weights", frontend=AUDIOMAE, model=model, objectives=objectives)


def _with_decoder(model: ModelConfig, keys: Mapping[str, Tensor]) -> ModelConfig:
    width, tau = keys["decoder_embed.weight"].shape[0], keys.get("decoder_blocks.0.attn.tau")
    return replace(
        model,
        decoder="global" if tau is None else "local",
        decoder_embed_dim=width,
        decoder_depth=depth(keys, "decoder_blocks."),
        decoder_num_heads=len(tau) if tau is not None else 16 if width == 512 else heads(width),
        decoder_positions="audiomae",
    )
