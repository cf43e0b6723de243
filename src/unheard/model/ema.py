"""The EMA teacher of latent objectives: an exponential moving average of the encoder's weights.

`unheard.model.targets` describes its input, and how its layers become targets.
"""

from __future__ import annotations

import copy

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from unheard.model.encoder import Encoder
from unheard.model.targets import TargetConfig, averaged, tapped
from unheard.model.transformer import initialise


class EmaTeacher(nn.Module):
    """A slowly moving average of the encoder, or of its blocks and final norm; it never gets a gradient.

    A teacher that owns the blocks has the patch embedding, positions and CLS token of the student.

    Parameters
    ----------
    encoder : Encoder
        The student's.
    init_from_student : bool
        Whether the teacher starts as a copy of the student, or with random weights.
    config : TargetConfig

    Raises
    ------
    ConfigError
        When the settings contradict each other or the depth of the encoder.
    """

    def __init__(self, encoder: Encoder, init_from_student: bool, config: TargetConfig = TargetConfig()) -> None:
        super().__init__()
        config.check(len(encoder.transformer.blocks))
        self.config = config
        self.encoder = copy.deepcopy(encoder) if config.owns == "encoder" else None
        if self.encoder is None:
            self.transformer = copy.deepcopy(encoder.transformer)
        if not init_from_student:
            if self.encoder is None:
                initialise(self.transformer)
            else:
                self.encoder.reset_parameters()
        self.requires_grad_(False)

    @torch.no_grad()
    def forward(
        self,
        encoder: Encoder,
        patches: Float[Tensor, "B N P"],
        index: Int[Tensor, "R M"] | None = None,
        valid: Bool[Tensor, "R M"] | None = None,
    ) -> Float[Tensor, "R M D"]:
        """Return the targets of the patches at ``index``, or of all, CLS left out.

        Parameters
        ----------
        encoder : Encoder
            The student's.
        valid : Bool[Tensor, "R M"], optional
            False on padding among these patches, which takes no part in norms over patches.
        """
        return averaged(self.layers(encoder, patches, index), self.config, valid)

    @torch.no_grad()
    def layers(
        self, encoder: Encoder, patches: Float[Tensor, "B N P"], index: Int[Tensor, "R M"] | None = None
    ) -> list[Float[Tensor, "R M D"]]:
        """Return the layers that `forward` averages, CLS left out."""
        own = encoder if self.encoder is None else self.encoder
        tokens = own.with_cls(own.tokens(patches, index))
        blocks = self.transformer if self.encoder is None else self.encoder.transformer
        return [own.split_cls(layer)[0] for layer in tapped(blocks, tokens, self.config)]

    @torch.no_grad()
    def ema_update(self, encoder: Encoder, momentum: float) -> None:
        """Move towards the student: teacher = momentum * teacher + (1 - momentum) * student."""
        move_towards(self, encoder.transformer if self.encoder is None else encoder, momentum)


@torch.no_grad()
def move_towards(teacher: nn.Module, student: nn.Module, momentum: float) -> None:
    """Update the parameters of a teacher: teacher = momentum * teacher + (1 - momentum) * student.

    Of parameters that are split over processes, each process updates its part.
    """
    ours, theirs = ([_own_part(each) for each in module.parameters()] for module in (teacher, student))
    torch._foreach_lerp_(ours, theirs, 1 - momentum)


def _own_part(parameter: Tensor) -> Tensor:
    """Return the part of this process of a DTensor, whose module is slow to import; another tensor as it is."""
    part: Tensor = parameter.to_local() if hasattr(parameter, "to_local") else parameter
    return part
