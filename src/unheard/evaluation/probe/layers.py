"""Layer-wise results: the linear head on each layer, and learned layer weights.

The layer weights are a softmax over layers, learned together with a linear head on the weighted sum of the layers (as
in ELMo, Peters et al. 2018, and SUPERB, Yang et al. 2021). They are learned on training clips only. Selecting the best
single layer by its test score would be biased.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float

from unheard.evaluation.probe.heads import Table, Target, lbfgs, loss_per_clip, standardise
from unheard.evaluation.probe.linear import LinearHeads
from unheard.evaluation.probe.protocol import Predictions, ProtocolSplit
from unheard.evaluation.probe.report import LayerScore
from unheard.model.classification import probabilities
from unheard.progress import Track, silent

Layers = Float[np.ndarray, "n L D"]
Weights = Float[np.ndarray, " L"]
LAYER_MIX = "learned layer weights"
"""Name of the gated embedding in a report."""


def scalar_mix(
    train: Layers, target: Target, test: Float[np.ndarray, "m L D"], strength: float, multilabel: bool
) -> tuple[Table, Weights]:
    """Fit layer weights and a linear head. Return the predictions and the weight of each layer.

        minimise over a, W, b:  sum_i loss(W sum_l softmax(a)_l x_il + b, y_i) + |W|^2 / (2 C)

    Each layer is standardised, so that the weights are comparable. The initial weights are uniform.
    """
    sides = [standardise(train[:, layer], test[:, layer]) for layer in range(train.shape[1])]
    x, other = (torch.from_numpy(np.stack(side, axis=1).astype(np.float32)) for side in zip(*sides, strict=True))
    y = torch.from_numpy(target.astype(np.float32))
    layer_mix, weight, bias = torch.zeros(x.shape[1]), torch.zeros(x.shape[2], y.shape[1]), torch.zeros(y.shape[1])

    def mixed(rows: torch.Tensor) -> torch.Tensor:
        return torch.einsum("nld,l->nd", rows, layer_mix.softmax(dim=0)) @ weight + bias

    lbfgs(
        lambda: loss_per_clip(mixed(x), y, multilabel) + weight.square().sum() / (2 * strength * len(x)),
        [layer_mix, weight, bias],
    )
    return probabilities(mixed(other), multilabel).double().numpy(), layer_mix.softmax(dim=0).double().numpy()


def layer_scores(
    heads: LinearHeads, name: str, layers: Layers, track: Track = silent
) -> tuple[list[LayerScore], Predictions]:
    """Score each layer and the learned layer weights.

    Parameters
    ----------
    heads : LinearHeads
    name : str
        Embedding whose regularisation, selected on training clips, is used for all layers.
    layers : Float[ndarray, "n L D"]

    Returns
    -------
    scores : list of LayerScore
    predictions : list of ndarray
        Predictions with the learned layer weights.
    """
    protocol, labels = heads.protocol, heads.protocol.labels
    weights: list[Weights] = []

    def fit_predict(run: int, part: ProtocolSplit) -> Table:
        strength = heads.strength(name, run, part)
        answer, weight = scalar_mix(
            layers[part.train], labels.ternary_targets[part.train], layers[part.test], strength, labels.multilabel
        )
        weights.append(weight)
        return answer

    predictions = protocol.answers(fit_predict, same=True)
    mean, least, most = (spread(np.stack(weights), axis=0) for spread in (np.mean, np.min, np.max))
    found = []
    for layer in track(range(layers.shape[1]), layers.shape[1], "layers"):
        score = protocol.scores(
            f"layer {layer + 1}", "linear", heads.answers(name, vectors=[layers[:, layer]] * len(protocol.runs))
        )[0]
        shown = (float(values[layer]) for values in (mean, least, most))
        found.append(LayerScore(layer + 1, score.mean, score.low, score.high, *shown))
    return found, predictions
