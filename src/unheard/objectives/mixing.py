"""Batches with mixtures: every window, and after them the mixture of each window with the one before it (SSLAM)."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from unheard.model.masking import Mask
from unheard.model.mixtures import Sources, mixture, outside_tokens, region_columns
from unheard.model.patches import Grid
from unheard.objectives.base import Batch

OTHER_NOISE = 2**48  # larger than a seed of `training_mask`: the decoder's noise of a mixture is its own


def with_mixtures(batch: Batch, mask: Mask, grid: Grid) -> tuple[Batch, Mask, Sources | None]:
    """Return a batch of 2 B windows with its mask and the sources of the mixtures.

    The second half has the masks of the first. A batch without ``previous`` is returned as it is.
    """
    if batch.previous is None or batch.previous_frames is None or batch.regions is None:
        return batch, mask, None
    regions = region_columns(batch.regions, grid.time)
    inside = regions.repeat_interleave(grid.patch_size[1], dim=1)
    both = batch.frames, batch.previous_frames
    sources = Sources(grid.patchify(batch.previous), grid.valid(batch.previous_frames), outside_tokens(regions, grid))
    doubled = replace(
        batch,
        spec=torch.cat([batch.spec, mixture(batch.spec, batch.previous, both, inside)]),
        valid=torch.cat([batch.valid, batch.valid | sources.mixed()]),
        clips=_twice(batch.clips),
        frames=torch.cat([batch.frames, torch.maximum(*both)]),
        start_seconds=_twice(batch.start_seconds),
        noise=_twice(batch.noise),
        wav=None,
        previous=None,
        previous_frames=None,
        regions=None,
    )
    seed = None if mask.seed is None else torch.cat([mask.seed, mask.seed + OTHER_NOISE])
    return doubled, Mask(_twice(mask.keep), _twice(mask.hide), seed), sources


def _twice(values: Tensor) -> Tensor:
    return torch.cat([values, values])
