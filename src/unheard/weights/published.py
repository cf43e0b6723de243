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
from typing import Literal

import torch
from torch import Tensor

from unheard.audio.frontend import MSM_MAE_16K, MSM_MAE_32K, Statistics
from unheard.config import override
from unheard.errors import CheckpointError, ConfigError
from unheard.model.patches import sincos_1d
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
LEFT_OUT = ("norm_stats", "target_", "audio_proj", "text_proj", "offline_predictor")  # read apart, or parts that embedding has no use for
WHOLE = {
    "cls_token": "model.encoder.cls_token",
    "pos_embed": "model.encoder.positions",
    "mask_token": "model.decoder.mask_token",
    "decoder_pos_embed": "model.decoder.positions",
    "patch_embed.proj.weight": "model.encoder.patch_embed.weight",
    "patch_embed.proj.bias": "model.encoder.patch_embed.bias",
}
PREFIXES = {
    "blocks.": "model.encoder.transformer.blocks.",
    "norm.": "model.encoder.transformer.norm.",
    "decoder_blocks.": "model.decoder.transformer.blocks.",
    "decoder_norm.": "model.decoder.transformer.norm.",
    "decoder_embed.": "model.decoder.embed.",
}
ENCODER_NEEDS = {  # key: rank
    "pos_embed": 3, "patch_embed.proj.weight": 4, "blocks.0.attn.qkv.weight": 2, "blocks.0.mlp.fc1.weight": 2, "norm.weight": 1,
}  # fmt: skip
DECODER_NEEDS = {"decoder_embed.weight": 2, "decoder_pos_embed": 3, "decoder_blocks.0.attn.qkv.weight": 2, "decoder_pred.weight": 2}
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
    if not found or "0" in (found[3], found[4]):
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
    fine_tuned = [key for key in keys if key.startswith("head.")]
    keys = {key: value for key, value in keys.items() if key not in fine_tuned}
    recipe = override(_recipe(keys, layout, size), settings)
    learner = build(recipe, seed=0)
    tensors = rename(keys, recipe)
    encoder_only = not _has_decoder(keys)
    if encoder_only:
        fresh = {key: value for key, value in learner.lasting_state().items() if not key.startswith("model.encoder.")}
        tensors = {**fresh, **tensors}
    load_weights(learner, tensors, str(path))
    learner.eval().requires_grad_(False)
    notes = ["The file holds the encoder only: embedding works, reconstruction does not."] if encoder_only else []
    if fine_tuned:
        notes.append("The file was fine-tuned on a task; the head of that task is left out.")
    if layout == "msm-mae" and "norm_stats" not in keys:
        notes.append("The file holds no normalisation statistics; those of the msm-mae README's example are used.")
    provenance = Provenance(f"{path.parent.name}/{path.name}", NTT_LICENCE.format(layout), notes=tuple(notes), encoder_only=encoder_only)
    return SavedModel(learner, recipe, _statistics(keys, layout), provenance)


def rename(keys: Mapping[str, Tensor], recipe: Recipe) -> dict[str, Tensor]:
    """Tensors of the MAE family under our names; separate query and value biases are joined.

    Raises
    ------
    CheckpointError
        Naming the keys that belong to no part we know.
    """
    left = {key: value for key, value in keys.items() if not key.startswith(LEFT_OUT)}
    for stem in [key.removesuffix("q_bias") for key in left if key.endswith(".attn.q_bias") and f"{key[:-6]}v_bias" in left]:
        query, value = left.pop(f"{stem}q_bias"), left.pop(f"{stem}v_bias")
        left[f"{stem}qkv.bias"] = torch.cat([query, torch.zeros_like(query), value])
    named = {key: _rename_one(key, value, recipe) for key, value in left.items()}
    unknown = [key for key, pair in named.items() if pair is None]
    if unknown:
        more = f" and {len(unknown) - 6} more" if len(unknown) > 6 else ""
        raise CheckpointError(f"{', '.join(unknown[:6])}{more} belong to no known part of this layout; is --layout right?")
    return dict(pair for pair in named.values() if pair is not None)


def _rename_one(key: str, value: Tensor, recipe: Recipe) -> tuple[str, Tensor] | None:
    """One key of the MAE layout; None for one it does not have."""
    if key in WHOLE:
        return WHOLE[key], _reshaped(key, value, int(recipe.model.cls_token))
    head = "objectives.reconstruct.head." if recipe.objectives.reconstruct.weight > 0 else "model.predictor.project."
    for theirs, ours in {**PREFIXES, "decoder_pred.": head}.items():
        if key.startswith(theirs):
            return ours + key.removeprefix(theirs).replace(".mlp.", "."), value
    return None


def _reshaped(key: str, value: Tensor, cls: int) -> Tensor:
    """Our shapes: tokens (D), tables (N, D) without the row of the CLS token, the patch convolution as a matrix (D, P)."""
    if key.endswith("pos_embed"):
        return value.reshape(-1, value.shape[-1])[cls:]
    return value.flatten(1) if key == "patch_embed.proj.weight" else value.flatten()


def _recipe(keys: Mapping[str, Tensor], layout: str, size: InputSize) -> Recipe:
    """The configuration that the shapes and the name spell out."""
    decoder = _has_decoder(keys)
    for needed, rank in {**ENCODER_NEEDS, **(DECODER_NEEDS if decoder else {})}.items():
        if needed not in keys or keys[needed].ndim != rank:
            raise CheckpointError(
                f"the file has no {needed} of rank {rank}, so it is not of layout {layout}; its keys begin with {', '.join(list(keys)[:3])}"
            )
    patches = (size.n_mels // size.patch_size[0]) * (size.frames // size.patch_size[1])
    rows = keys["pos_embed"].shape[1] - int("cls_token" in keys)
    if rows != patches or tuple(keys["patch_embed.proj.weight"].shape[2:]) != size.patch_size:
        kernel = "x".join(str(n) for n in keys["patch_embed.proj.weight"].shape[2:])
        raise CheckpointError(
            f"--name says {patches} patches of {size.patch_size[0]}x{size.patch_size[1]}, "
            f"the file has {rows} of {kernel}; give its released name"
        )
    dim = keys["norm.weight"].shape[0]
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
            decoder_positions=_decoder_positions(keys, patches),
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


def _has_decoder(keys: Mapping[str, Tensor]) -> bool:
    return any(key.startswith(("decoder_", "mask_token")) for key in keys)


def _depth(keys: Mapping[str, Tensor], prefix: str) -> int:
    return 1 + max(int(found[1]) for key in keys if (found := re.match(rf"{re.escape(prefix)}(\d+)\.", key)))


def _decoder_positions(keys: Mapping[str, Tensor], patches: int) -> Literal["1d", "2d"]:
    """Which table the file's decoder has; older files of MSM-MAE have the 1-D one."""
    table = keys["decoder_pos_embed"][0, -patches:]
    plain = sincos_1d(patches, table.shape[1])
    return "1d" if table.shape == plain.shape and torch.allclose(table.float(), plain, atol=1e-3) else "2d"


def _heads(dim: int) -> int:
    """Heads of width 64, as every published size has them (head counts are not in the shapes)."""
    return max(1, dim // 64)
