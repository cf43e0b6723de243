"""The EMA teacher of latent objectives: an exponential moving average of the encoder's weights."""

from __future__ import annotations

import copy

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from unheard.model.encoder import Encoder
from unheard.model.transformer import initialise


class EmaTeacher(nn.Module):
    """A slowly moving average of the encoder's blocks and final norm.

    Patch embedding, positions and CLS token are the student's own. Its input is the hidden patches only (M2D), and it
    never gets a gradient.
    """

    def __init__(self, encoder: Encoder, init_from_student: bool) -> None:
        super().__init__()
        self.transformer = copy.deepcopy(encoder.transformer)
        if not init_from_student:
            initialise(self.transformer)
        self.requires_grad_(False)

    @torch.no_grad()
    def forward(
        self, encoder: Encoder, patches: Float[Tensor, "B N P"], hide: Int[Tensor, "B M"]
    ) -> Float[Tensor, "B M D"]:
        """Return the teacher's latents of the hidden patches, CLS left out."""
        tokens = encoder.with_cls(encoder.tokens(patches, hide))
        return encoder.split_cls(self.transformer(tokens))[0]

    @torch.no_grad()
    def ema_update(self, encoder: Encoder, momentum: float) -> None:
        """Move towards the student: teacher = momentum * teacher + (1 - momentum) * student."""
        teacher: list[Tensor] = list(self.transformer.parameters())
        student: list[Tensor] = list(encoder.transformer.parameters())
        torch._foreach_lerp_(teacher, student, 1 - momentum)
