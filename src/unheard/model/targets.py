"""What the EMA teacher encodes and how its layers become targets.

    hidden   the teacher encodes the hidden patches of each view; target: its output (M2D, MATPAC)
    all      the teacher encodes the whole window once for all views; target y of patch n:

        y_n = LN( mean over the last K layers l of IN(h_l)_n )      (data2vec 2.0, EAT, BAT)

h_l: output of block l, or of its MLP before the residual; IN: instance norm, over the patches of the window for each
channel; LN: LayerNorm over channels; both without gain and bias. Patches of pure padding take no part in IN.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from unheard.config import Count, Positive
from unheard.errors import ConfigError
from unheard.model.transformer import Transformer


@dataclass(frozen=True, kw_only=True)
class TargetConfig:
    """Input, weights and targets of the EMA teacher."""

    sees: Literal["hidden", "all"] = "hidden"
    """Patches that the teacher encodes: the hidden ones of each view (M2D, MATPAC), or once all of the window (EAT,
    BAT).
    """
    owns: Literal["blocks", "encoder"] = "blocks"
    """Weights of its own: blocks and final norm (M2D, MATPAC), or the whole encoder with patch embedding and CLS token
    (EAT, BAT).
    """
    layers: Count | None = 1
    """Number of last blocks whose outputs are averaged; null: all (EAT, BAT)."""
    taps: Literal["last", "block", "mlp"] = "last"
    """What is averaged. last: the output of the encoder. block: outputs of blocks (BAT). mlp: outputs of their MLPs
    before the residual (EAT).
    """
    norm: Literal["none", "instance_layer"] = "none"
    """instance_layer: each layer is normalised over the patches of the window, and the mean over the channels."""
    norm_eps: Positive = 1e-5
    """Added to the variances of both norms (EAT; BAT: 1e-6)."""
    utterance_layers: Count | None = None
    """Number of last blocks averaged for the target of the CLS token (SSLAM: 1); null: those of the patches."""

    def check(self, depth: int) -> None:
        """Compare the settings with each other and with the depth of the encoder.

        Raises
        ------
        ConfigError
            When they contradict.
        """
        if self.taps == "last" and self.layers != 1:
            raise ConfigError(
                f"teacher.layers={self.layers or 'null'} averages blocks, but teacher.taps=last is the output of the"
                " encoder; set teacher.taps=block or mlp"
            )
        if self.layers is not None and self.layers > depth:
            raise ConfigError(
                f"teacher.layers is {self.layers}, but the encoder has {depth} blocks; set it to at most {depth}"
            )
        if self.utterance_layers is not None and self.sees == "hidden":
            raise ConfigError("teacher.utterance_layers needs targets of all patches; set teacher.sees=all")
        if self.utterance_layers is not None and self.utterance_layers > (self.layers or depth):
            raise ConfigError(
                f"teacher.utterance_layers is {self.utterance_layers}, but teacher.layers averages"
                f" {self.layers or depth} blocks; set it to at most {self.layers or depth}"
            )
        if self.sees == "hidden" and self.norm != "none":
            raise ConfigError(
                "teacher.norm=instance_layer needs all patches of the window; set teacher.sees=all, or"
                " teacher.norm=none"
            )


def tapped(
    transformer: Transformer, tokens: Float[Tensor, "B N D"], config: TargetConfig
) -> list[Float[Tensor, "B N D"]]:
    """Return the layers that the targets average, CLS included."""
    if config.taps == "last":
        return [transformer(tokens)]
    which = 0 if config.taps == "block" else 1
    return [layer[which] for layer in transformer.branches(tokens)[-(config.layers or 0) :]]


def averaged(
    layers: list[Float[Tensor, "B N D"]], config: TargetConfig, valid: Bool[Tensor, "B N"] | None = None
) -> Float[Tensor, "B N D"]:
    """Return the targets of patches from the layers of the teacher; float32 where they are normalised.

    Parameters
    ----------
    valid : Bool[Tensor, "B N"], optional
        False on patches of padding, which take no part in the instance norm.
    """
    if config.norm == "none":
        return layers[0] if len(layers) == 1 else torch.stack(layers).mean(dim=0)
    with torch.autocast(layers[0].device.type, enabled=False):
        mean = torch.stack([instance_norm(layer.float(), config.norm_eps, valid) for layer in layers]).mean(dim=0)
        return F.layer_norm(mean, mean.shape[-1:], eps=config.norm_eps)


def instance_norm(
    tokens: Float[Tensor, "B N D"], eps: float, valid: Bool[Tensor, "B N"] | None = None
) -> Float[Tensor, "B N D"]:
    """Standardise each channel over the patches of a window, with the biased variance."""
    if valid is None:
        mean, variance = tokens.mean(dim=1, keepdim=True), tokens.var(dim=1, correction=0, keepdim=True)
    else:
        weights = valid[..., None].to(tokens.dtype)
        count = weights.sum(dim=1, keepdim=True).clamp(min=1)
        mean = (tokens * weights).sum(dim=1, keepdim=True) / count
        variance = ((tokens - mean).square() * weights).sum(dim=1, keepdim=True) / count
    return (tokens - mean) / (variance + eps).sqrt()
