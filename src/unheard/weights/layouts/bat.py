"""Files of BAT: the encoder from Hugging Face, and the checkpoint that its own loader reads.

Sizes are taken from the shapes of the tensors. Every tensor but the gates and the input norm has the name of a plain
ViT's, so a lenient reader would drop them. Here a file without its gates is refused, and so is the file that the
pre-training script of the reference writes: it holds three networks, of which the loader of the reference reads none.
Patches are transposed as those of AudioMAE.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from torch import Tensor

from unheard.audio.decibels import DB_MINMAX
from unheard.config import override
from unheard.errors import CheckpointError
from unheard.objectives.reconstruct import ReconstructConfig
from unheard.recipes import bat
from unheard.recipes.recipe import ObjectivesConfig, Recipe
from unheard.weights.checkpoint import SavedModel
from unheard.weights.layouts.audiomae import transpose_patch
from unheard.weights.layouts.eat import NEEDS
from unheard.weights.layouts.mae import Released, assemble, depth, heads, rename, require

LICENCE = "published under the MIT licence; see the LICENSE of houtan-ghaffari/BAT_ICML2026"
STUDENT = "student.encoder."
LEFT_OUT = ("student.decoder.", "teacher.")


def read(released: Released, settings: Iterable[str]) -> SavedModel:
    """Read the encoder of a file of BAT as a model.

    Raises
    ------
    CheckpointError
        When keys or shapes are not those of the layout, or a block has no gate.
    """
    keys = encoder_keys(released.keys)
    recipe = override(recipe_of(keys), settings)
    return assemble(released, recipe, named(keys, recipe), DB_MINMAX.statistics(), LICENCE)


def encoder_keys(keys: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of the student's encoder without prefix; decoder and teacher are left out."""
    return {key.removeprefix(STUDENT): value for key, value in keys.items() if not key.startswith(LEFT_OUT)}


def named(keys: Mapping[str, Tensor], recipe: Recipe) -> dict[str, Tensor]:
    """Return the tensors of `encoder_keys` under our names, with transposed patches.

    Raises
    ------
    CheckpointError
        Naming an unknown key.
    """
    tensors = rename(keys, False, extra_prefixes={"pre_norm.": "model.encoder.input_norm."})
    weight = tensors["model.encoder.patch_embed.weight"]
    return tensors | {"model.encoder.patch_embed.weight": transpose_patch(weight.T, recipe).T}


def recipe_of(keys: Mapping[str, Tensor]) -> Recipe:
    """Derive the configuration from the shapes of the tensors of `encoder_keys`.

    Raises
    ------
    CheckpointError
        When a key is missing, or a block has no gate.
    """
    require(keys, NEEDS, "bat")
    blocks = depth(keys, "blocks.")
    if missing := [number for number in range(blocks) if f"blocks.{number}.attn.gate.weight" not in keys]:
        raise CheckpointError(
            f"block {missing[0]} of the file has no attn.gate.weight, and every block of BAT has a gate; without it the"
            " features have no meaning. Give the whole file, or another --layout"
        )
    dim, _, patch_time, patch_freq = keys["patch_embed.proj.weight"].shape
    published = bat.recipe()
    model = replace(
        published.model,
        frames=keys["pos_embed"].shape[1] * patch_freq // DB_MINMAX.n_mels * patch_time,
        patch_size=(patch_freq, patch_time),
        embed_dim=dim,
        depth=blocks,
        num_heads=heads(dim),
        mlp_ratio=keys["blocks.0.mlp.fc1.weight"].shape[0] / dim,
        decoder_preset="pixels",  # the smallest possible decoder; it is never trained
        decoder_projection="affine",
    )
    return replace(published, model=model, objectives=ObjectivesConfig(ReconstructConfig(weight=1.0)))
