"""Which layer holds the labels: the linear head on each layer, and a learned gate over all of them.

The gate is a softmax weight for each layer, learned together with the linear head on their weighted sum (as in ELMo,
Peters et al. 2018, and SUPERB, Yang et al. 2021), on training clips only. Picking the best single layer by its test
score is not honest; the gate is.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float

from unheard.evaluation.probe.heads import Table, Target, lbfgs, loss_per_clip, standardise
from unheard.evaluation.probe.linear import LinearHeads
from unheard.evaluation.probe.protocol import ProtocolSplit, Predictions
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
    """Answers of a gate with its linear head, and the weight of each layer.

        minimise over a, W, b:  sum_i loss(W sum_l softmax(a)_l x_il + b, y_i) + |W|^2 / (2 C)

    Layers are standardised one by one, so that weights compare; the gate starts out even.
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
    """Score each layer, and the gate.

    Parameters
    ----------
    name : str
        The embedding whose regularisation, chosen on training clips, is used for all layers and the gate.
    layers : Float[ndarray, "n L D"]

    Returns
    -------
    scores : list of LayerScore
    said : list of ndarray
        The gate's answers.
    """
    protocol, labels = heads.protocol, heads.protocol.labels
    weights: list[Weights] = []

    def layer_mix(run: int, part: ProtocolSplit) -> Table:
        strength = heads.strength(name, run, part)
        answer, weight = scalar_mix(
            layers[part.train], labels.ternary_targets[part.train], layers[part.test], strength, labels.multilabel
        )
        weights.append(weight)
        return answer

    gate_said = protocol.answers(layer_mix, same=True)
    mean, least, most = (spread(np.stack(weights), axis=0) for spread in (np.mean, np.min, np.max))
    found = []
    for layer in track(range(layers.shape[1]), layers.shape[1], "layers"):
        score = protocol.scores(
            f"layer {layer + 1}", "linear", heads.answers(name, vectors=[layers[:, layer]] * len(protocol.runs))
        )[0]
        shown = (float(values[layer]) for values in (mean, least, most))
        found.append(LayerScore(layer + 1, score.mean, score.low, score.high, *shown))
    return found, gate_said
