"""The masked pass: the one thing every method here does, whatever it then asks of it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from unheard.errors import ConfigError
from unheard.model.decoder import Decoder
from unheard.model.encoder import Encoder, take
from unheard.model.masking import Mask
from unheard.model.patches import Grid
from unheard.model.predictor import Predictor
from unheard.model.sizes import ModelConfig
from unheard.model.transformer import initialise


def alone(value: Tensor) -> Tensor:
    """The reduction of a single process: the value itself."""
    return value


@dataclass
class MaskedPass:
    """Everything one masked pass produced; objectives read it and nothing else of the model.

    Parameters
    ----------
    patches : Float[Tensor, "B N P"]
        The normalised input, cut into patches.
    mask : Mask
        ``keep`` (B, K) and ``hide`` (B, M).
    visible : Float[Tensor, "B K D"]
        Encoder output of the visible patches.
    cls : Float[Tensor, "B D"] or None
        Encoder output of the CLS token.
    decoded : Float[Tensor, "B N E"]
        Decoder output of every patch; E is 0 where nothing was to be decoded.
    predicted : Float[Tensor, "B M R D"] or None
        The predictor's guesses of the teacher's latents at hidden patches.
    target : Float[Tensor, "B M D"] or None
        The teacher's latents at hidden patches, without gradient.
    best : Int[Tensor, "B M"] or None
        Which hypothesis points nearest to the target's direction, where there are several.
    progress : Float[Tensor, ""]
        Share of the run that is done, in [0, 1]; temperatures follow it.
    measured : dict of Tensor
        What objectives measured on the way, each a scalar by name; for the journal.
    sum_over_processes : Callable
        Adds up a tensor over all processes of a run, without gradient.
    gather_over_processes : Callable
        Joins the tensors of all processes along the first axis; gradients find their way back.
    """

    patches: Float[Tensor, "B N P"]
    mask: Mask
    visible: Float[Tensor, "B K D"]
    cls: Float[Tensor, "B D"] | None
    decoded: Float[Tensor, "B N E"]
    predicted: Float[Tensor, "B M R D"] | None = None
    target: Float[Tensor, "B M D"] | None = None
    best: Int[Tensor, "B M"] | None = None
    progress: Float[Tensor, ""] = field(default_factory=lambda: torch.zeros(()))
    measured: dict[str, Tensor] = field(default_factory=dict)
    sum_over_processes: Callable[[Tensor], Tensor] = field(default=alone, repr=False)
    gather_over_processes: Callable[[Tensor], Tensor] = field(default=alone, repr=False)

    def best_guess(self) -> Float[Tensor, "B M D"]:
        """The prediction of each hidden patch: of several hypotheses the one nearest to the target.

        Raises
        ------
        ConfigError
            When the model was built without a predictor.
        """
        if self.predicted is None:
            raise ConfigError("this model predicts no latents; build it with objectives.latents.weight above 0")
        if self.best is None:
            return self.predicted[:, :, 0]
        return torch.take_along_dim(self.predicted, self.best[:, :, None, None], dim=2)[:, :, 0]


@torch.no_grad()
def nearest(predicted: Float[Tensor, "B M R D"], target: Float[Tensor, "B M D"]) -> Int[Tensor, "B M"]:
    """Which of the R hypotheses has the largest cosine with the target."""
    return F.cosine_similarity(predicted.float(), target[:, :, None].float(), dim=-1).argmax(dim=-1)


class Teacher(nn.Module):
    """A slowly moving average of the encoder's blocks and final norm.

    Patch embedding, positions and CLS token are the student's own. It sees the hidden patches only (M2D) and never gets a
    gradient.
    """

    def __init__(self, encoder: Encoder, copied: bool) -> None:
        super().__init__()
        self.transformer = copy.deepcopy(encoder.transformer)
        if not copied:
            initialise(self.transformer)
        self.requires_grad_(False)

    @torch.no_grad()
    def forward(self, encoder: Encoder, patches: Float[Tensor, "B N P"], hide: Int[Tensor, "B M"]) -> Float[Tensor, "B M D"]:
        """The teacher's latents of the hidden patches, CLS left out."""
        tokens = encoder.with_cls(encoder.tokens(patches, hide))
        return encoder.split_cls(self.transformer(tokens))[0]

    @torch.no_grad()
    def follow(self, encoder: Encoder, momentum: float) -> None:
        """Move towards the student: teacher = momentum * teacher + (1 - momentum) * student."""
        mine: list[Tensor] = list(self.transformer.parameters())
        theirs: list[Tensor] = list(encoder.transformer.parameters())
        torch._foreach_lerp_(mine, theirs, 1 - momentum)


class MaskedModel(nn.Module):
    """Encoder and decoder, with a latent predictor and its teacher where an objective needs them.

    Attributes
    ----------
    decodes : bool
        Whether a pass runs the decoder; switch it off with `without_decoder` when no objective reads it.
    hypotheses : int
        Predictions for each hidden patch.
    """

    def __init__(self, config: ModelConfig, grid: Grid, latents: bool = False, teacher_copied: bool = True) -> None:
        super().__init__()
        self.grid, self.decodes, self.hypotheses = grid, True, config.hypotheses
        self.encoder = Encoder(config, grid)
        self.decoder = Decoder(config, grid)
        self.predictor = Predictor(self.decoder.embed_dim, self.encoder.embed_dim, config.hypotheses) if latents else None
        self.teacher = Teacher(self.encoder, teacher_copied) if latents else None

    def forward(self, patches: Float[Tensor, "B N P"], mask: Mask) -> MaskedPass:
        """Encode what is visible, decode everything, and let the teacher look at what is hidden."""
        visible, cls = self.encoder(patches, mask.keep)
        decoded = self.decoder(visible, mask, cls) if self.decodes else visible.new_zeros(*patches.shape[:2], 0)
        out = MaskedPass(patches, mask, visible, cls, decoded)
        if self.predictor is not None and self.teacher is not None:
            out.predicted = self.predictor(take(decoded, mask.hide))
            out.target = self.teacher(self.encoder, patches, mask.hide)
            if self.predictor.hypotheses > 1:
                out.best = nearest(out.predicted, out.target)
        return out

    def without_decoder(self) -> None:
        """Leave the decoder out of every pass; its weights stay as they are."""
        self.decodes = False
        self.decoder.requires_grad_(False)
