"""Training of heads on tokens, by the trainer of the MLP head."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import nn

from unheard.data.class_sets import Index
from unheard.evaluation.probe.heads import Table
from unheard.evaluation.probe.steps import Clips, Recipe, Rows, fit_predict
from unheard.evaluation.probe.token_heads.attentive import AttentiveProbe
from unheard.evaluation.probe.token_heads.cgp import ConvexGatedProbe
from unheard.evaluation.probe.token_heads.prototypes import BinarisedPrototypes
from unheard.evaluation.probe.token_heads.tokens import TokenRows, Tokens

TokenSource = Callable[[int], Tokens]
"""Returns the tokens of a run."""

PROTOTYPES = 256  # K; published: 10,000, for AudioSet (our choice for small tables)
BATCH, RATE, DECAY = 32, 1e-3, 0.05  # rate and decay of BAT; the batch is our choice, for CPUs
DECAYED = "head."  # BAT: prototypes, layer weights and vectors do not decay


def token_head(tokens: Tokens, head: str, clips: Clips, prototypes: int = PROTOTYPES) -> Table:
    """Return the class probabilities of the test clips from a head on tokens; see `fit_predict`.

    Parameters
    ----------
    head : {"cgp", "prototypes", "attentive"}
    prototypes : int
        K of the heads cgp and prototypes.
    """
    if head == "prototypes":  # reads the last layer only
        tokens = tokens[:, -1:]

    def prepare(train: Index, other: Index) -> tuple[Rows, Rows]:
        return TokenRows(tokens, train), TokenRows(tokens, other)

    build = partial(build_head, head, tokens.shape[1], tokens.shape[3], prototypes=prototypes)
    recipe = Recipe(lambda rows, classes: build(classes=classes), BATCH, RATE, DECAY, _decays)
    return fit_predict(prepare, recipe, clips)


def build_head(head: str, layers: int, dim: int, *, classes: int, prototypes: int = PROTOTYPES) -> nn.Module:
    """Return a head with initial weights."""
    if head == "cgp":
        return ConvexGatedProbe(layers, dim, classes, prototypes)
    if head == "prototypes":
        return BinarisedPrototypes(dim, classes, prototypes)
    return AttentiveProbe(layers, dim, classes)


def _decays(name: str) -> bool:
    """Whether a parameter decays: the matrix of the classifier."""
    return name.startswith(DECAYED) and name.endswith("weight") and not name.startswith("head.0")
