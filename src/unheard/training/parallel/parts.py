"""Parts of a batch: for the accumulation of gradients, and for the losses of single windows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from torch import Tensor

from unheard.errors import ConfigError
from unheard.model.masking import Mask
from unheard.objectives.base import Batch


def split_batch(batch: Batch, mask: Mask, parts: int) -> list[tuple[Batch, Mask]]:
    """Split a batch and its mask into parts of equal size.

    Raises
    ------
    ConfigError
        When the windows of the batch do not divide into these parts.
    """
    if len(batch.spec) % parts:
        raise ConfigError(
            f"training.accumulate={parts} does not divide the {len(batch.spec)} windows per process; change"
            " training.batch_size or training.accumulate"
        )
    batches = zip(*(_chunks(getattr(batch, field.name), parts) for field in fields(batch)), strict=True)
    return [(Batch(*tensors), part) for tensors, part in zip(batches, mask.chunk(parts), strict=True)]


def one_by_one(batch: Batch) -> list[Batch]:
    """Split a batch into batches of one window."""
    columns = zip(*(_chunks(getattr(batch, field.name), batch.spec.shape[0]) for field in fields(batch)), strict=True)
    return [Batch(*tensors) for tensors in columns]


def _chunks(values: Tensor | tuple[Tensor, ...] | None, parts: int) -> Sequence[Any]:
    if isinstance(values, tuple):
        return list(zip(*(each.chunk(parts) for each in values), strict=True))
    return [None] * parts if values is None else values.chunk(parts)
