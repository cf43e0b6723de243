"""Keys of the MAE family under our names: the common part of MSM-MAE, M2D, MaskSpec, AudioMAE and MATPAC files."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from unheard.audio.frontend import Statistics
from unheard.errors import CheckpointError
from unheard.model.classifier import ClassifierConfig
from unheard.model.patches import sincos_1d
from unheard.recipes.recipe import Recipe
from unheard.weights.checkpoint import Provenance, SavedModel, build_for
from unheard.weights.plausible import printable

RENAMES = {
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
CLASSIFIER_PREFIXES = {"fc_norm.": "classifier.norm.", "head.": "classifier.head."}
ENCODER_NEEDS = {
    "pos_embed": 3,
    "patch_embed.proj.weight": 4,
    "blocks.0.attn.qkv.weight": 2,
    "blocks.0.mlp.fc1.weight": 2,
}
"""Keys that an encoder of the family has, and their ranks."""
DECODER_NEEDS = {
    "decoder_embed.weight": 2,
    "decoder_pos_embed": 3,
    "decoder_blocks.0.attn.qkv.weight": 2,
    "decoder_pred.weight": 2,
}
"""The same for a decoder."""
AUDIOSET_CLASSES = 527
PIXEL_HEAD = "objectives.reconstruct.head."


@dataclass(frozen=True)
class Released:
    """A released checkpoint after reading.

    Parameters
    ----------
    file : Path
        Path of the file.
    keys : dict of Tensor
        Its tensors by their names in the file.
    name : str
        The name under which it was released, if known; some layouts read the window from it.
    """

    file: Path
    keys: dict[str, Tensor]
    name: str

    @property
    def title(self) -> str:
        """Return folder and file, for a model card."""
        return f"{self.file.parent.name}/{self.file.name}"


def rename(
    keys: Mapping[str, Tensor], cls: bool, head: str = PIXEL_HEAD, extra_prefixes: Mapping[str, str] = {}
) -> dict[str, Tensor]:
    """Return the tensors under our names.

    Separate query and value biases are concatenated, and the position of the CLS token is added to it.

    Parameters
    ----------
    keys : mapping
        Names and tensors of the file.
    cls : bool
        Whether the first row of its position tables belongs to a CLS token.
    head : str
        Our name for ``decoder_pred.``.
    extra_prefixes : mapping of str
        Prefixes of further parts, theirs and ours; `CLASSIFIER_PREFIXES` for a fine-tuned file.

    Raises
    ------
    CheckpointError
        Naming the unknown keys.
    """
    left = dict(keys)
    for stem in [
        key.removesuffix("q_bias") for key in left if key.endswith(".attn.q_bias") and f"{key[:-6]}v_bias" in left
    ]:
        query, value = left.pop(f"{stem}q_bias"), left.pop(f"{stem}v_bias")
        left[f"{stem}qkv.bias"] = torch.cat([query, torch.zeros_like(query), value])
    if cls and {"cls_token", "pos_embed"} <= left.keys():  # fine-tuning trains the position of CLS, too; ours has none
        left["cls_token"] = left["cls_token"] + left["pos_embed"][:, :1]
    prefixes = {**PREFIXES, "decoder_pred.": head, **extra_prefixes}
    names = {key: RENAMES.get(key) or _prefixed(key, prefixes) for key in left}
    unknown = [key for key, name in names.items() if name is None]
    if unknown:
        more = f" and {len(unknown) - 6} more" if len(unknown) > 6 else ""
        raise CheckpointError(
            f"{', '.join(map(printable, unknown[:6]))}{more} belong to no known part of this layout; check --layout"
        )
    return {name: _reshaped(key, left[key], int(cls)) for key, name in names.items() if name is not None}


def _prefixed(key: str, prefixes: Mapping[str, str]) -> str | None:
    for theirs, ours in prefixes.items():
        if key.startswith(theirs):
            return ours + key.removeprefix(theirs).replace(".mlp.", ".")
    return None


def _reshaped(key: str, value: Tensor, cls: int) -> Tensor:
    """Reshape: tokens (D), tables (N, D) without the row of CLS, the patch convolution as a matrix (D, P)."""
    if key.endswith("pos_embed"):
        return value.reshape(-1, value.shape[-1])[cls:]
    if key == "patch_embed.proj.weight":
        return value.flatten(1)
    return value.flatten() if key in RENAMES else value


def assemble(
    released: Released,
    recipe: Recipe,
    tensors: dict[str, Tensor],
    statistics: Statistics,
    licence: str,
    notes: tuple[str, ...] = (),
    head: ClassifierConfig | None = None,
) -> SavedModel:
    """Build a model of ``recipe`` with the tensors of a file; a decoder that the file lacks keeps its initial weights.

    Parameters
    ----------
    tensors : dict of Tensor
        Tensors under our names.
    head : ClassifierConfig, optional
        The classifier of a fine-tuned file; names of its tensors begin with ``classifier.``.

    Raises
    ------
    CheckpointError
        When tensors are missing, unexpected or of another shape.
    """
    encoder_only = not any(name.startswith("model.decoder.") for name in tensors)
    if encoder_only:
        notes = ("The file holds the encoder only: embedding works, reconstruction does not.", *notes)
    learner, classifier = build_for(recipe, head, tensors, str(released.file), encoder_only)
    learner.eval().requires_grad_(False)
    if classifier is not None:
        classifier.eval().requires_grad_(False)
    return SavedModel(
        learner,
        recipe,
        statistics,
        Provenance(released.title, licence, notes=notes, encoder_only=encoder_only),
        classifier,
    )


def classifier_config(
    head: Tensor, norm: Literal["layer", "batch", "none"], pool: Literal["mean", "cls"] = "mean"
) -> ClassifierConfig:
    """Return the configuration of a released head (C, D). Files have no class names, so classes are numbered.

    AudioSet's 527 classes can occur together, so each has its own score. Any other number of classes is taken as
    exclusive.
    """
    labels = tuple(f"class {number}" for number in range(len(head)))
    return ClassifierConfig(labels, "sigmoid" if len(labels) == AUDIOSET_CLASSES else "softmax", pool, norm)


def require(keys: Mapping[str, Tensor], ranks: Mapping[str, int], layout: str) -> None:
    """Refuse a file that lacks a required key of the layout.

    Raises
    ------
    CheckpointError
        Naming the key, its rank, and the keys of the file.
    """
    for needed, rank in ranks.items():
        if needed not in keys or keys[needed].ndim != rank or not keys[needed].numel():
            found = ", ".join(map(printable, list(keys)[:3]))
            raise CheckpointError(
                f"the file has no {needed} of rank {rank}, so it is not of layout {layout}; its keys begin with {found}"
            )


def depth(keys: Mapping[str, Tensor], prefix: str) -> int:
    """Return the number of blocks under a prefix such as ``blocks.``.

    Raises
    ------
    CheckpointError
        When they are not numbered from 0 without a gap.
    """
    numbers = {found[1] for key in keys if (found := re.match(rf"{re.escape(prefix)}(\d+)\.", key))}
    if numbers != {str(number) for number in range(len(numbers))}:
        raise CheckpointError(
            f"the blocks of the file are not numbered {prefix}0, {prefix}1 and so on without a gap; check --layout"
        )
    return len(numbers)


def decoder_positions(keys: Mapping[str, Tensor], patches: int) -> Literal["1d", "2d"]:
    """Return the kind of the file's decoder table; older files of MSM-MAE have the 1-D one."""
    table = keys["decoder_pos_embed"][0, -patches:]
    plain = sincos_1d(patches, table.shape[1])
    return "1d" if table.shape == plain.shape and torch.allclose(table.float(), plain, atol=1e-3) else "2d"


def heads(dim: int) -> int:
    """Return the number of heads of width 64, as in every published size (shapes do not contain it)."""
    return max(1, dim // 64)
