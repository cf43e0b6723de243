"""Released checkpoints: opened without running anything in them, and renamed to our layout.

Layouts (keys and shapes): MSM-MAE with separate ``q_bias`` and ``v_bias``, its newer form with one ``qkv.bias`` and
``norm_stats``, M2D with ``target_blocks`` and ``decoder_pred``, and encoder-only files of all of them. Sizes come from the
shapes of the tensors, the window and patch from ``name`` such as ``80x512p16x16``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from unheard.audio.frontend import MSM_MAE_16K, MSM_MAE_32K, Statistics
from unheard.config import override
from unheard.errors import CheckpointError, ConfigError
from unheard.model.sizes import ModelConfig
from unheard.objectives.latents import LatentsConfig
from unheard.objectives.reconstruct import ReconstructConfig
from unheard.recipes.learner import build
from unheard.recipes.recipe import ObjectivesConfig, Recipe
from unheard.weights.allowlist import load_tensors
from unheard.weights.checkpoint import Provenance, SavedModel, load_weights

LAYOUTS = ("msm-mae", "m2d")
NTT_LICENCE = (
    "published by NTT for evaluation only: internal testing of the paper's method, no distribution; see the LICENSE of nttcslab/{}"
)
M2D_STATISTICS = (-7.1, 4.2)  # fixed in the M2D reference and stored in its files
MSM_MAE_STATISTICS = (-5.4919, 5.0390)  # the README of msm-mae shows them; its files hold none


@dataclass(frozen=True)
class InputSize:
    """Window and patch, as released names spell them: ``<bands>x<frames>p<pf>x<pt>``, with ``p32k`` for 32 kHz."""

    n_mels: int
    frames: int
    patch_size: tuple[int, int]
    sample_rate: int


def parse_name(name: str) -> InputSize:
    """Read window and patch out of a released name.

    Raises
    ------
    ConfigError
        When the name has no such part.
    """
    found = re.search(r"(\d+)x(\d+)p(\d+)x(\d+)(p32k)?", name)
    if not found:
        raise ConfigError(f"--name must say the input size as released names do, for example 80x512p16x16; got {name!r}")
    bands, frames, pf, pt = (int(found[i]) for i in range(1, 5))
    return InputSize(bands, frames, (pf, pt), 32_000 if found[5] else 16_000)


def convert(file: str | Path, layout: str, name: str | None = None, settings: Iterable[str] = ()) -> SavedModel:
    """Read a released checkpoint as a model.

    Parameters
    ----------
    file : path
        The released ``.pth`` or ``.safetensors``.
    layout : {"msm-mae", "m2d"}
        Whose keys it has.
    name : str, optional
        Released name with the input size; taken from the path when left out.
    settings : iterable of str
        ``section.key=value`` for what neither shapes nor name tell, such as ``model.num_heads=3``.

    Raises
    ------
    ConfigError
        When layout or name are unknown.
    CheckpointError
        When the file holds anything but tensors and plain values, or its keys or shapes are not those of the layout.
    """
    if layout not in LAYOUTS:
        raise ConfigError(f"unknown layout {layout!r}; known: {', '.join(LAYOUTS)}")
    path = Path(file)
    size = parse_name(name or f"{path.parent.name}/{path.name}")
    keys = load_tensors(path)
    recipe = override(_recipe(keys, layout, size), settings)
    learner = build(recipe, seed=0)
    tensors = rename(keys, recipe)
    encoder_only = "decoder_embed.weight" not in keys
    if encoder_only:
        fresh = {key: value for key, value in learner.lasting_state().items() if not key.startswith("model.encoder.")}
        tensors = {**fresh, **tensors}
    load_weights(learner, tensors, str(path))
    learner.eval().requires_grad_(False)
    notes = ["The file holds the encoder only: embedding works, reconstruction does not."] if encoder_only else []
    if layout == "msm-mae" and "norm_stats" not in keys:
        notes.append("The file holds no normalisation statistics; those of the msm-mae README's example are used.")
    provenance = Provenance(f"{path.parent.name}/{path.name}", NTT_LICENCE.format(layout), notes=tuple(notes), encoder_only=encoder_only)
    return SavedModel(learner, recipe, _statistics(keys, layout), provenance)


def rename(keys: Mapping[str, Tensor], recipe: Recipe) -> dict[str, Tensor]:
    """Tensors of the MAE family under our names; separate query and value biases are joined.

    Raises
    ------
    CheckpointError
        When a key belongs to no part we know.
    """
    named: dict[str, Tensor] = {}
    left = {
        key: value
        for key, value in keys.items()
        if key not in ("norm_stats",) and not key.startswith(("target_", "audio_proj", "text_proj", "offline_predictor"))
    }
    for key in [key for key in left if key.endswith(".attn.q_bias")]:
        stem = key.removesuffix("q_bias")
        query, value = left.pop(key), left.pop(f"{stem}v_bias")
        left[f"{stem}qkv.bias"] = torch.cat([query, torch.zeros_like(query), value])
    for key, value in left.items():
        target, shaped = _rename_one(key, value, recipe)
        named[target] = shaped
    return named


def _rename_one(key: str, value: Tensor, recipe: Recipe) -> tuple[str, Tensor]:
    """One key of the MAE layout."""
    cls = int(recipe.model.cls_token)
    whole = {
        "cls_token": ("model.encoder.cls_token", value.flatten()),
        "pos_embed": ("model.encoder.positions", value[0, cls:] if value.ndim == 3 else value),
        "mask_token": ("model.decoder.mask_token", value.flatten()),
        "decoder_pos_embed": ("model.decoder.positions", value[0, cls:] if value.ndim == 3 else value),
        "patch_embed.proj.weight": ("model.encoder.patch_embed.weight", value.reshape(len(value), -1)),
        "patch_embed.proj.bias": ("model.encoder.patch_embed.bias", value),
    }
    if key in whole:
        return whole[key]
    pixels = recipe.objectives.reconstruct.weight > 0
    prefixes = {
        "blocks.": "model.encoder.transformer.blocks.",
        "norm.": "model.encoder.transformer.norm.",
        "decoder_blocks.": "model.decoder.transformer.blocks.",
        "decoder_norm.": "model.decoder.transformer.norm.",
        "decoder_embed.": "model.decoder.embed.",
        "decoder_pred.": "objectives.reconstruct.head." if pixels else "model.predictor.project.",
    }
    for theirs, ours in prefixes.items():
        if key.startswith(theirs):
            return ours + key.removeprefix(theirs).replace(".mlp.", "."), value
    raise CheckpointError(f"the key {key} belongs to no known part of this layout; is --layout right?")


def _recipe(keys: Mapping[str, Tensor], layout: str, size: InputSize) -> Recipe:
    """The configuration that the shapes and the name spell out."""
    for needed in ("pos_embed", "patch_embed.proj.weight", "blocks.0.attn.qkv.weight", "norm.weight"):
        if needed not in keys:
            raise CheckpointError(
                f"the file has no {needed}, so it is not of layout {layout}; its keys begin with {', '.join(list(keys)[:3])}"
            )
    patches = (size.n_mels // size.patch_size[0]) * (size.frames // size.patch_size[1])
    rows = keys["pos_embed"].shape[1] - int("cls_token" in keys)
    if rows != patches or tuple(keys["patch_embed.proj.weight"].shape[2:]) != size.patch_size:
        kernel = "x".join(str(n) for n in keys["patch_embed.proj.weight"].shape[2:])
        raise CheckpointError(
            f"--name says {patches} patches of {size.patch_size[0]}x{size.patch_size[1]}, "
            f"the file has {rows} of {kernel}; give its released name"
        )
    dim, decoder = keys["norm.weight"].shape[0], "decoder_embed.weight" in keys
    latents = layout == "m2d" and decoder and keys["decoder_pred.weight"].shape[0] == dim
    model = ModelConfig(
        frames=size.frames,
        patch_size=size.patch_size,
        mask_ratio=0.7 if layout == "m2d" else 0.75,
        embed_dim=dim,
        depth=_depth(keys, "blocks."),
        num_heads=_heads(dim),
        mlp_ratio=keys["blocks.0.mlp.fc1.weight"].shape[0] / dim,
        cls_token="cls_token" in keys,
    )
    if decoder:
        width = keys["decoder_embed.weight"].shape[0]
        model = replace(
            model,
            decoder_embed_dim=width,
            decoder_depth=_depth(keys, "decoder_blocks."),
            decoder_num_heads=16 if width == 512 else _heads(width),
        )
    pixels = ReconstructConfig(weight=0.0 if latents else 1.0)
    asked = ObjectivesConfig(pixels, LatentsConfig(weight=1.0 if latents else 0.0))
    frontend = replace(MSM_MAE_32K if size.sample_rate == 32_000 else MSM_MAE_16K, n_mels=size.n_mels)
    return Recipe(name=layout, paper="published weights", frontend=frontend, model=model, objectives=asked)


def _statistics(keys: Mapping[str, Tensor], layout: str) -> Statistics:
    if "norm_stats" in keys:
        mean, std = keys["norm_stats"].flatten().tolist()
        return Statistics((mean,), (std,))
    mean, std = M2D_STATISTICS if layout == "m2d" else MSM_MAE_STATISTICS
    return Statistics((mean,), (std,))


def _depth(keys: Mapping[str, Tensor], prefix: str) -> int:
    return 1 + max(int(key.removeprefix(prefix).split(".")[0]) for key in keys if key.startswith(prefix))


def _heads(dim: int) -> int:
    """Heads of width 64, as every published size has them (head counts are not in the shapes)."""
    return max(1, dim // 64)
