"""Feature distillation from frozen teachers, on visible and on hidden patches.

The objective generalises that of MAM-CLAP to several teachers of any kind. Xin, Peng, Lu: "Masked Audio Modeling with
CLAP and Multi-Objective Learning", Interspeech 2023 (arXiv 2401.15953). The paper does not specify the CLAP model, the
alignment of maps, the head, the distance and the weights. Each is a field here with our choice as its default, so
nothing trained with it reproduces the paper. Distillation into several layers follows USAD (arXiv 2506.18843).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from unheard.errors import ConfigError
from unheard.model.masked_model import MaskedPass
from unheard.model.masking import Mask
from unheard.model.transformer import initialise
from unheard.objectives.base import Batch, Objective, Totals, valid_at
from unheard.objectives.distill_config import DistillConfig, DistillTeacher
from unheard.objectives.registry import register
from unheard.objectives.teacher_loss import TeacherLoss
from unheard.objectives.teacher_schedules import TrainingProgress

__all__ = ["DistillConfig", "DistillObjective", "DistillTeacher"]


class DistillObjective(Objective):
    """Weighted sum of `TeacherLoss` over the teachers.

    Parameters
    ----------
    config : DistillConfig
    embed_dim, decoder_dim : int
        Widths of encoder and decoder.
    depth : int
        Blocks of the encoder.

    Raises
    ------
    ConfigError
        As `TeacherLoss`; when there is no teacher, or the encoder lacks a layer.
    """

    def __init__(self, config: DistillConfig, embed_dim: int, decoder_dim: int, depth: int) -> None:
        super().__init__()
        if not config.teachers:
            raise ConfigError('objectives.distill has no teacher; set objectives.distill.teachers=[{"name": "DIR"}]')
        for number, teacher in enumerate(config.teachers):
            if missing := [layer for layer in teacher.layers if layer > depth]:
                raise ConfigError(
                    f"objectives.distill.teachers.{number}.layers names layer {missing[0]}; the encoder has layers 1 to"
                    f" {depth}"
                )
        self.terms = nn.ModuleList(
            TeacherLoss(config, teacher, f"objectives.distill.teachers.{number}", embed_dim, decoder_dim)
            for number, teacher in enumerate(config.teachers)
        )
        self.weights = [teacher.weight for teacher in config.teachers]
        self.names = short_names([teacher.name for teacher in config.teachers])
        self.layers = tuple(sorted({layer for teacher in config.teachers for layer in teacher.layers}))
        self.needs_decoder = any(term.needs_decoder for term in self._losses())
        initialise(self)

    def totals(self, batch: Batch, mask: Mask) -> Totals:
        """Return the numbers of windows and of patches that are not padding, and the sums of targets and of their
        squares where running statistics need them.

        Raises
        ------
        ConfigError
            When the batch does not hold the targets of every teacher.
        """
        weights = batch.valid[..., None].float()
        found = {
            "visible": valid_at(batch, mask.keep).sum(),
            "hidden": valid_at(batch, mask.hide).sum(),
            "windows": weights.new_full((), len(batch.valid)),
            "patches": weights.sum(),
        }
        for number, (term, target) in enumerate(zip(self._losses(), self._targets(batch), strict=True)):
            if term.uses_running:
                sums = [(target * weights).sum((0, 1)), (target.square() * weights).sum((0, 1))]
                found[f"targets/{number}"] = torch.stack(sums)
        return found

    def loss(self, out: MaskedPass, batch: Batch, totals: Totals) -> Float[Tensor, ""]:
        """Return the loss over the patches that are not padding; with several teachers, the pass gets a term of each.

        Raises
        ------
        ConfigError
            As `totals`.
        """
        values = [
            term(out, batch, target, totals, totals.get(f"targets/{number}"))
            for number, (term, target) in enumerate(zip(self._losses(), self._targets(batch), strict=True))
        ]
        if len(values) > 1:
            out.terms |= {f"distill/{name}": value.detach() for name, value in zip(self.names, values, strict=True)}
        return torch.stack([weight * value for weight, value in zip(self.weights, values, strict=True)]).sum()

    def after_step(self, when: TrainingProgress) -> None:
        """Update the running statistics of the targets."""
        for term in self._losses():
            term.update_running()

    def _losses(self) -> list[TeacherLoss]:
        return [term for term in self.terms if isinstance(term, TeacherLoss)]

    def _targets(self, batch: Batch) -> tuple[Float[Tensor, "B N _"], ...]:
        if batch.targets is None or len(batch.targets) != len(self.terms):
            raise ConfigError(
                f"feature distillation needs the targets of {len(self.terms)} teachers; set the names of"
                " objectives.distill.teachers"
            )
        return batch.targets


def short_names(names: Sequence[str]) -> list[str]:
    """Return the last part of each name of a teacher, such as ``clap``; with its number in front if two are equal."""
    short = [re.split(r"[/\\:]", re.sub(r"[/\\]+$", "", name))[-1] or "teacher" for name in names]
    return short if len(set(short)) == len(short) else [f"{number}-{name}" for number, name in enumerate(short)]


register(
    "distill",
    DistillConfig,
    lambda config, model, _: DistillObjective(
        config, model.encoder.embed_dim, model.decoder.embed_dim, len(model.encoder.transformer.blocks)
    ),
)
