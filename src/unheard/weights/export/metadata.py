"""Description of a model for programs that do not know this library: short texts by name."""

from __future__ import annotations

import json

from unheard.audio.frontend_kinds import build_frontend
from unheard.errors import ConfigError
from unheard.model.sizes import resolve_sizes
from unheard.recipes.learner import grid_of
from unheard.version import __version__
from unheard.weights.checkpoint import SavedModel

OWN_LICENCE = "set by the person who trained the weights"


def describe(saved: SavedModel) -> dict[str, str]:
    """Return the metadata of an exported model.

    Rates are in Hz, durations in milliseconds; labels are a JSON list in the order of the scores, channel is the
    channel of a sound that a classifier takes (mix: the mean of all).
    """
    recipe, front, grid = saved.recipe, build_frontend(saved.recipe.frontend), grid_of(saved.recipe)
    hop_ms = 1000 * front.hop_size / front.sample_rate
    values = {
        "recipe": recipe.name,
        "frontend": recipe.frontend.kind,
        "input": "mono waveform between -1 and 1, float32 (batch, samples), at sample_rate; one sample or more",
        "sample_rate": str(front.sample_rate),
        "hop_ms": f"{hop_ms:g}",
        "patch_ms": f"{hop_ms * grid.patch_size[1]:g}",
        "window_ms": f"{hop_ms * grid.frames:g}",
        "first_time_ms": f"{1000 * front.frame_centre(0) + hop_ms * (grid.patch_size[1] - 1) / 2:g}",
        "embedding_size": str(resolve_sizes(recipe.model).embed_dim * grid.freq),
        "licence": saved.provenance.licence or OWN_LICENCE,
        "source": saved.provenance.source,
        "unheard_version": __version__,
    }
    if saved.classifier is not None:
        values["channel"] = saved.classifier.config.channel
        values["labels"] = json.dumps(saved.classifier.config.labels, ensure_ascii=False)
        values["activation"] = saved.classifier.config.activation
    return values


def refuse_padding(pad_window: bool) -> None:
    """Refuse a model that encodes the padding of its last window: other programs do not.

    Raises
    ------
    ConfigError
        When ``pad_window`` is set.
    """
    if pad_window:
        raise ConfigError("a model that pads its last windows cannot be exported; load it without pad_window")


def check_exportable(saved: SavedModel) -> None:
    """Refuse a model whose normalisation an exported model cannot compute.

    Raises
    ------
    ConfigError
        When it scales each window by its own extremes.
    """
    if saved.statistics.top_db is not None:
        raise ConfigError(
            f"a model with the front end {saved.recipe.frontend.kind} cannot be exported, because it scales each window"
            " by its own extremes; embed with unheard instead"
        )
