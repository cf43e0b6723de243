"""Checks of sizes and texts in untrusted files."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from unheard.errors import CheckpointError, shown
from unheard.model.sizes import resolve_sizes
from unheard.recipes.recipe import Recipe


def refuse_implausible(recipe: Recipe, tensors: Mapping[str, Tensor], source: str) -> None:
    """Refuse a recipe whose model is larger than its weights, by the sizes that cost time or memory before comparison.

    Raises
    ------
    CheckpointError
        Naming the size.
    """
    model, frontend = recipe.model, recipe.frontend
    chosen, elements = resolve_sizes(model), sum(value.numel() for value in tensors.values())
    patches = (frontend.n_mels // model.patch_size[0]) * -(-model.frames // model.patch_size[1])
    limits = {
        "model.depth": (chosen.depth, len(tensors)),
        "model.decoder_depth": (
            chosen.decoder_depth,
            max(len(tensors), 16),
        ),  # a file of an encoder has no decoder
        "model.frames": (patches * chosen.embed_dim, elements),
        "model.num_hypotheses": (model.num_hypotheses, elements),
    }
    for name, (value, most) in limits.items():
        if value > most:
            raise CheckpointError(
                f"the weights of {source} do not fit its configuration: {name} requires more than they hold"
            )


def printable(text: str, longest: int = 120) -> str:
    """Return an untrusted text for a terminal: control characters escaped, cut after ``longest`` characters."""
    cut = shown(text[: longest + 1])
    return cut if len(text) <= longest else f"{cut[:longest]}..."
