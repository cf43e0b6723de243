"""Batches of labelled clips for fine-tuning, augmented and prefetched."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from unheard.audio.frontend import Statistics
from unheard.audio.frontend_kinds import build_frontend
from unheard.data.class_sets import ClassSets
from unheard.data.prefetch import BatchPlan, Prefetcher
from unheard.data.store import WaveStore
from unheard.data.windows.crops import WindowSegments
from unheard.data.windows.order import Indices
from unheard.devices import to_device
from unheard.finetuning.augment import AugmentBatch, add_noise, gain, mixup, roll, spec_augment
from unheard.finetuning.clips import PackedLabelledClips
from unheard.finetuning.recipe import FinetuneRecipe
from unheard.finetuning.waveform_augment import augment_waveform

CLASS_WEIGHT = 1000.0  # AudioSet recipes of PSLA, AST, PaSST and MaskSpec; only ratios matter
DENSE = 16384  # clips whose labels are a dense matrix at one time (our choice)


@dataclass(frozen=True)
class LabelledBatch:
    """One batch of augmented clips.

    Parameters
    ----------
    clips : AugmentBatch
        Normalised spectrograms (B, F, T) with their targets.
    rows : Int[Tensor, "B"]
        Index of the clip in the store, before mixing.
    starts : Int[Tensor, "B"]
        First frame of the window in the clip.
    """

    clips: AugmentBatch
    rows: Int[Tensor, " B"]
    starts: Int[Tensor, " B"]


def clip_weights(target: ClassSets, clips: Indices, offset: float) -> Float[np.ndarray, " n"]:
    """Return the sampling weight of clips: the sum over their classes of 1000 / (clips of the class + offset)."""
    rarity = CLASS_WEIGHT / (torch.from_numpy(target.counts(clips)) + offset).clamp(min=1e-6)
    weight = np.empty(len(clips))
    for first in range(0, len(clips), DENSE):
        part = clips[first : first + DENSE]
        weight[first : first + DENSE] = (torch.from_numpy(target[part]).float() @ rarity).double().numpy()
    # a clip without labels gets the lowest weight
    return np.maximum(weight, weight[weight > 0].min() if (weight > 0).any() else 1.0)


class LabelledLoader(Prefetcher[LabelledBatch]):
    """Iterate over the batches of some steps; a context manager.

    A batch depends only on the seed of the recipe, the step and the rank of the process.

    Parameters
    ----------
    sounds : PackedLabelledClips
    clips : Int64[ndarray, "n"]
        Indices of the training clips in the store.
    recipe : FinetuneRecipe
    statistics : Statistics
    width : int
        Frames of a window.
    plan : BatchPlan
    """

    def __init__(
        self,
        sounds: PackedLabelledClips,
        clips: Indices,
        recipe: FinetuneRecipe,
        statistics: Statistics,
        width: int,
        plan: BatchPlan,
    ) -> None:
        super().__init__(plan.steps, plan.device)
        self.sounds, self.clips, self.recipe, self.statistics, self.width = sounds, clips, recipe, statistics, width
        self.share = plan.share
        self.frontend = build_frontend(sounds.store.frontend).to(self.device)
        task = recipe.task
        self.epoch_size = min(task.epoch_clips or len(clips), len(clips))
        balanced = task.balance == "class"
        self._weights = (
            clip_weights(sounds.target, clips, task.class_weight_offset) if balanced else np.ones(len(clips))
        )
        self._repeats = balanced and self.epoch_size == len(clips)
        self.order = lru_cache(maxsize=2)(self._sample_epoch)

    def _sample_epoch(self, epoch: int) -> Indices:
        """Return the clips of an epoch in order: weighted sampling without replacement (Efraimidis, Spirakis 2006).

        A balanced epoch as large as the table is drawn with replacement: otherwise it would hold each clip once.
        """
        generator = np.random.default_rng([self.recipe.training.seed, 1, epoch])
        if self._repeats:
            chance = self._weights / self._weights.sum()
            return np.asarray(self.clips[generator.choice(len(self.clips), self.epoch_size, p=chance)])
        times = generator.exponential(size=len(self.clips)) / self._weights
        return np.asarray(self.clips[np.argsort(times, kind="stable")[: self.epoch_size]])

    @property
    def store(self) -> WaveStore:
        """The packed clips."""
        return self.sounds.store

    def clips_of(self, step: int) -> list[int]:
        """Return the indices of the clips in the batch of a step, over all processes."""
        clips: list[int] = self._ids(step * self.share.batch_size + np.arange(self.share.batch_size)).tolist()
        return clips

    def _ids(self, places: Indices) -> Indices:
        """Return the clips at positions of the concatenated epochs."""
        return np.array(
            [self.order(int(position // self.epoch_size))[position % self.epoch_size] for position in places], np.int64
        )

    def batch(self, step: int) -> LabelledBatch:
        """Return the part of the batch of a step that belongs to this process; batches may span two epochs."""
        size, own = self.share.batch_size, self.share.local_slice
        places = step * size + np.arange(size)
        rng = np.random.default_rng([self.recipe.training.seed, 2, step])
        draws = rng.random((size, 3))
        ids = self._ids(places[own])
        spare = np.maximum(self.sounds.store.frames[ids] - self.width, 0)
        starts = (draws[own, 0] * (spare + 1)).astype(np.int64)
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)) + self.share.rank)
        clips = self._clips(ids, starts, draws[own, 1:].astype(np.float32), generator)
        return LabelledBatch(clips, to_device(ids, self.device), to_device(starts, self.device))

    def _clips(
        self, ids: Indices, starts: Indices, jitter: Float[np.ndarray, "B 2"], generator: torch.Generator
    ) -> AugmentBatch:
        """Return windows of clips as augmented spectrograms."""
        augment_config, store = self.recipe.augment, self.sounds.store
        offsets = to_device(np.minimum(jitter, np.float32(1 - 2.0**-24)), self.device)
        target, known = (to_device(each, self.device) for each in self.sounds.marks(ids))
        if augment_config.waves:
            clips = self._augmented(self._waves(ids, starts, target, known), generator)
            spec, frames = self.frontend(clips.values, offsets)[..., : self.width], self._frames(clips.lengths)
            target, known = clips.target, clips.known
        else:
            pieces = WindowSegments.single(ids, starts, store.frames, self.width)
            spec = store.windows(pieces, len(ids), self.width, self.device, offsets)
            frames = torch.from_numpy(pieces.lengths)
        clips = AugmentBatch(spec, frames, target, known)
        values = self.statistics.normalise(spec, clips.valid_mask) * clips.valid_mask[:, None]
        clips = AugmentBatch(values, frames, target, known)
        if augment_config.noise:
            clips = add_noise(clips, augment_config.noise, generator)
        if augment_config.mask_freq or augment_config.mask_time:
            clips = spec_augment(clips, augment_config.mask_freq, augment_config.mask_time, generator)
        if not augment_config.spec_mixup_prob:
            return clips
        share, partner = augment_config.spec_mixup_share, augment_config.spec_mixup_partner
        chance, alpha = augment_config.spec_mixup_prob, augment_config.spec_mixup_alpha
        return mixup(clips, chance, alpha, generator, share_of=share, partner_of=partner)

    @property
    def _hops(self) -> int:
        """Number of hops that the frames of a window cover."""
        return max(self.width, -(-self.frontend.num_samples(self.width) // self.frontend.hop_size))

    def _waves(self, ids: Indices, starts: Indices, target: Tensor, known: Tensor) -> AugmentBatch:
        """Return the waveforms of windows, with the extra samples that long frames and speed changes need."""
        store, hop, augment_config = self.sounds.store, self.frontend.hop_size, self.recipe.augment.waveform
        wide = math.ceil(self._hops * (max(1.0, *augment_config.speed) if augment_config.probability else 1.0))
        rows = store.index.rows[ids].astype(np.int64)
        hops = np.zeros(len(store), np.int64)
        hops[ids] = -(-rows // hop)
        starts = np.minimum(starts, np.maximum(hops[ids] - 1, 0))
        wav = store.waves(WindowSegments.single(ids, starts, hops, wide), len(ids), wide, self.device)
        return AugmentBatch(wav, torch.from_numpy(np.minimum(rows - starts * hop, wide * hop)), target, known)

    def _augmented(self, clips: AugmentBatch, generator: torch.Generator) -> AugmentBatch:
        augment_config = self.recipe.augment
        if augment_config.gain_db != (0, 0):
            clips = gain(clips, augment_config.gain_db, generator)
        if augment_config.waveform.probability:
            clips = augment_waveform(clips, augment_config.waveform, self.frontend.sample_rate, generator)
            size = self._hops * self.frontend.hop_size
            clips = replace(clips, values=clips.values[:, :size], lengths=clips.lengths.clamp(max=size))
        if augment_config.max_time_shift_seconds:
            clips = roll(clips, round(augment_config.max_time_shift_seconds * self.frontend.sample_rate), generator)
        return (
            mixup(clips, augment_config.wave_mixup_prob, augment_config.wave_mixup_alpha, generator, centred=True)
            if augment_config.wave_mixup_prob
            else clips
        )

    def _frames(self, samples: Int[Tensor, " B"]) -> Int[Tensor, " B"]:
        """Return the number of frames of a window that cover its first ``samples`` samples."""
        window = 0 if self.frontend.framing.pad else self.frontend.framing.frame_size
        return (1 + (samples - self.frontend.framing.lookahead - window).clamp(min=0) // self.frontend.hop_size).clamp(
            max=self.width
        )
