"""Files of MSM-MAE and M2D, which share their keys and shapes.

Supported files:

- MSM-MAE with separate ``q_bias`` and ``v_bias``
- its newer form with one ``qkv.bias`` and ``norm_stats``
- M2D with ``target_blocks`` and ``decoder_pred``
- encoder-only files of all of them

Sizes are taken from the shapes of the tensors, the window and patch from a name such as ``80x512p16x16``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial

from torch import Tensor

from unheard.audio.frontend import MSM_MAE_16K, MSM_MAE_32K, Statistics
from unheard.config import override
from unheard.errors import CheckpointError, ConfigError
from unheard.model.sizes import ModelConfig
from unheard.objectives.latents import LatentsConfig
from unheard.objectives.reconstruct import ReconstructConfig
from unheard.recipes.recipe import ObjectivesConfig, Recipe
from unheard.weights.checkpoint import SavedModel
from unheard.weights.layouts.mae import (
    DECODER_NEEDS,
    ENCODER_NEEDS,
    PIXEL_HEAD,
    Released,
    assemble,
    decoder_positions,
    depth,
    heads,
    rename,
    require,
)

LICENCE = (
    "published by NTT for evaluation only: internal testing of the paper's method, no distribution; see the LICENSE of"
    " nttcslab/{}"
)
M2D_STATISTICS = (-7.1, 4.2)  # fixed in the M2D reference and stored in its files
MSM_MAE_STATISTICS = (-5.4919, 5.0390)  # in the README of msm-mae; its files hold none
LEFT_OUT = (
    "norm_stats",
    "target_",
    "audio_proj",
    "text_proj",
    "offline_predictor",
    "head.",
)  # read separately, or not needed for embedding


@dataclass(frozen=True)
class InputSize:
    """Window and patch, as in released names: ``<bands>x<frames>p<pf>x<pt>``, with ``p32k`` for 32 kHz."""

    n_mels: int
    frames: int
    patch_size: tuple[int, int]
    sample_rate: int


def parse_name(name: str) -> InputSize:
    """Parse window and patch from a released name.

    Raises
    ------
    ConfigError
        When the name has no such part.
    """
    found = re.search(r"(\d+)x(\d+)p(\d+)x(\d+)(p32k)?", name)
    if not found or "0" in (found[3], found[4]):
        raise ConfigError(
            f"--name must contain the input size as released names do, for example 80x512p16x16; got {name!r}"
        )
    bands, frames, pf, pt = (int(found[i]) for i in range(1, 5))
    return InputSize(bands, frames, (pf, pt), 32_000 if found[5] else 16_000)


def read(layout: str, released: Released, settings: Iterable[str]) -> SavedModel:
    """Read a file of layout "msm-mae" or "m2d" as a model.

    Raises
    ------
    ConfigError
        When the name does not contain the input size.
    CheckpointError
        When keys or shapes are not those of the layout.
    """
    keys, notes = released.keys, []
    recipe = override(_recipe(keys, layout, parse_name(released.name)), settings)
    if any(key.startswith("head.") for key in keys):
        notes.append("The file was fine-tuned on a task; the head of that task is left out.")
    if layout == "msm-mae" and "norm_stats" not in keys:
        notes.append("The file holds no normalisation statistics; those of the msm-mae README's example are used.")
    return assemble(
        released, recipe, named(keys, recipe), _statistics(keys, layout), LICENCE.format(layout), tuple(notes)
    )


def named(keys: Mapping[str, Tensor], recipe: Recipe) -> dict[str, Tensor]:
    """Return the tensors that embedding and prediction need, under our names; see `mae.rename`."""
    head = PIXEL_HEAD if recipe.objectives.reconstruct.weight > 0 else "model.predictor.project."
    return rename(
        {key: value for key, value in keys.items() if not key.startswith(LEFT_OUT)}, recipe.model.cls_token, head
    )


read_msm_mae, read_m2d = partial(read, "msm-mae"), partial(read, "m2d")


def _recipe(keys: Mapping[str, Tensor], layout: str, size: InputSize) -> Recipe:
    """Derive the configuration from the shapes and the name."""
    decoder = _has_decoder(keys)
    require(keys, {**ENCODER_NEEDS, "norm.weight": 1, **(DECODER_NEEDS if decoder else {})}, layout)
    patches = (size.n_mels // size.patch_size[0]) * (size.frames // size.patch_size[1])
    rows = keys["pos_embed"].shape[1] - int("cls_token" in keys)
    if rows != patches or tuple(keys["patch_embed.proj.weight"].shape[2:]) != size.patch_size:
        kernel = "x".join(str(n) for n in keys["patch_embed.proj.weight"].shape[2:])
        raise CheckpointError(
            f"--name states {patches} patches of {size.patch_size[0]}x{size.patch_size[1]}, "
            f"the file has {rows} of {kernel}; give its released name"
        )
    dim = keys["norm.weight"].shape[0]
    latents = layout == "m2d" and decoder and keys["decoder_pred.weight"].shape[0] == dim
    model = ModelConfig(
        frames=size.frames,
        patch_size=size.patch_size,
        mask_ratio=0.7 if layout == "m2d" else 0.75,
        embed_dim=dim,
        depth=depth(keys, "blocks."),
        num_heads=heads(dim),
        mlp_ratio=keys["blocks.0.mlp.fc1.weight"].shape[0] / dim,
        cls_token="cls_token" in keys,
    )
    if decoder:
        width = keys["decoder_embed.weight"].shape[0]
        model = replace(
            model,
            decoder_embed_dim=width,
            decoder_depth=depth(keys, "decoder_blocks."),
            decoder_num_heads=16 if width == 512 else heads(width),
            decoder_positions=decoder_positions(keys, patches),
        )
    pixels = ReconstructConfig(weight=0.0 if latents else 1.0)
    objectives = ObjectivesConfig(pixels, LatentsConfig(weight=1.0 if latents else 0.0))
    frontend = replace(MSM_MAE_32K if size.sample_rate == 32_000 else MSM_MAE_16K, n_mels=size.n_mels)
    return Recipe(name=layout, paper="published weights", frontend=frontend, model=model, objectives=objectives)


def _statistics(keys: Mapping[str, Tensor], layout: str) -> Statistics:
    if "norm_stats" in keys:
        mean, std = keys["norm_stats"].flatten().tolist()
        return Statistics((mean,), (std,))
    mean, std = M2D_STATISTICS if layout == "m2d" else MSM_MAE_STATISTICS
    return Statistics((mean,), (std,))


def _has_decoder(keys: Mapping[str, Tensor]) -> bool:
    return any(key.startswith(("decoder_", "mask_token")) for key in keys)
