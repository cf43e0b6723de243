"""Batches for pre-training: normalised windows of packed clips, and the transforms of recipes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import TracebackType

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from unheard.audio.frontend import Statistics
from unheard.data.prefetch import BatchPlan, Prefetcher
from unheard.data.store import Store
from unheard.data.windows.crops import CropSampler, WindowSegments
from unheard.data.windows.order import Indices
from unheard.data.windows.reading_ahead import ShardReader
from unheard.devices import to_device
from unheard.errors import ConfigError
from unheard.model.patches import Grid
from unheard.objectives.base import Batch
from unheard.remote.shards import RemoteShards

AHEAD = 64
"""Steps after which a shard that is read or downloaded in advance is used (our choice)."""


class PretrainLoader(Prefetcher[Batch]):
    """Iterate over the batches of some steps; a context manager. A batch depends only on the sampler's seed and the
    step.

    Parameters
    ----------
    store : Store
    sampler : CropSampler
    grid : Grid
        Its frames are the sampler's width.
    statistics : Statistics
        Statistics for the normalisation of spectrograms.
    plan : BatchPlan
    transforms : sequence of callable
        Functions applied to each batch, in order: labels, captions, a teacher's targets.
    numbers : int, optional
        Uniform numbers of a window for its masks; one for each patch where left out.

    Raises
    ------
    ConfigError
        When the window does not fit the grid.
    """

    def __init__(
        self,
        store: Store,
        sampler: CropSampler,
        grid: Grid,
        statistics: Statistics,
        plan: BatchPlan,
        transforms: Sequence[Callable[[Batch], Batch]] = (),
        numbers: int | None = None,
    ) -> None:
        super().__init__(plan.steps, plan.device)
        if not 0 <= sampler.width - grid.frames < grid.patch_size[1] or store.frontend.n_mels != grid.n_mels:
            raise ConfigError(
                f"windows of {store.frontend.n_mels} bands x {sampler.width} frames do not fit a grid of {grid.n_mels}"
                f" x {grid.frames}; set model.frames to a multiple of the patch width"
            )
        self.store, self.sampler, self.grid, self.statistics = store, sampler, grid, statistics
        self.share, self.transforms = plan.share, transforms
        self.mixtures = plan.mixtures
        self.numbers = grid.num_patches if numbers is None else numbers
        files = store.files if sampler.in_blocks else []
        self._reader = ShardReader(files) if files else None

    @property
    def epoch_size(self) -> int:
        """Return the number of windows of one epoch."""
        return self.sampler.size

    def clips_of(self, step: int) -> list[int]:
        """Return the clips in which the windows of one step begin, for all processes."""
        epochs, positions = self.sampler.positions(step, self.share.batch_size)
        clips: list[int] = self.sampler.draw(epochs, positions)[0].tolist()
        return clips

    def batch(self, step: int) -> Batch:
        """Return the part of this process of the batch of one step."""
        whole = self.sampler.positions(step, self.share.batch_size)
        epochs, positions = (values[self.share.local_slice] for values in whole)
        self._expect(step + AHEAD)
        pieces, spec, frames = self._windows(epochs, positions)
        count = len(positions)
        config = self.store.frontend
        starts = pieces.starts[:count] * (config.hop_size / config.sample_rate)
        batch = Batch(
            spec=spec,
            valid=self.grid.valid(frames),
            clips=to_device(pieces.ids[:count], self.device),
            frames=frames,
            start_seconds=to_device(starts.astype(np.float32), self.device),
            noise=to_device(self.sampler.noise(epochs, positions, self.numbers), self.device),
            wav=self.store.waves(pieces, count, self.grid.frames, self.device),
        )
        if self.mixtures:
            batch.previous, batch.previous_frames, batch.regions = self._previous(*whole)
        for transform in self.transforms:
            batch = transform(batch)
        return batch

    def _expect(self, step: int) -> None:
        """Download or read the shards of a later step of this process in the background."""
        ahead = self.store.shards if isinstance(self.store.shards, RemoteShards) else self._reader
        if ahead is not None:
            epochs, positions = (
                values[self.share.local_slice] for values in self.sampler.positions(step, self.share.batch_size)
            )
            clips = self.sampler.draw(epochs, positions)[0]
            ahead.expect(np.unique(self.store.index.shard[clips]).tolist())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the threads."""
        super().__exit__(kind, error, trace)
        if self._reader is not None:
            self._reader.close()

    def _windows(
        self, epochs: Indices, positions: Indices
    ) -> tuple[WindowSegments, Float[Tensor, "B F T"], Int[Tensor, " B"]]:
        """Return the pieces of windows, the normalised windows, and their real frames."""
        pieces, count = self.sampler.pieces(epochs, positions), len(positions)
        jitter_noise = to_device(self.sampler.jitter(epochs, positions), self.device)
        raw = self.store.windows(pieces, count, self.sampler.width, self.device, jitter_noise)
        if pieces.full(count, self.sampler.width):
            spec = self.statistics.normalise(raw).contiguous()
        else:
            covered = to_device(pieces.mask(count, self.sampler.width), self.device)
            spec = self.statistics.normalise(raw, covered).contiguous() * covered[:, None, :]
        return pieces, spec[..., : self.grid.frames], to_device(pieces.real_frames(count), self.device)

    def _previous(self, epochs: Indices, positions: Indices) -> tuple[Tensor, Tensor, Tensor]:
        """Return the window before each window of this process, its real frames, and the numbers for the regions."""
        share = self.share.local_slice
        _, spec, frames = self._windows(np.roll(epochs, 1)[share], np.roll(positions, 1)[share])
        # the first window of the batch has two more numbers than its masks take
        numbers = self.sampler.noise(epochs[:1], positions[:1], self.numbers + 2)[:, self.numbers :]
        regions = to_device(np.repeat(numbers, len(spec), axis=0), self.device)
        return spec, frames, regions
