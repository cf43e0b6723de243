"""Batches of labelled clips for fine-tuning, augmented and prepared ahead of the step that takes them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Float32, Int
from torch import Tensor

from unheard.audio.frontend import Statistics
from unheard.audio.frontends import AnyFrontendConfig, build_frontend
from unheard.audio.waveform import Channel
from unheard.data.class_sets import AnnotatedClasses, ClassSets, Index
from unheard.data.corpus import Clip, Corpus, Skipped, scan_files
from unheard.data.crops import Indices, WindowSegments
from unheard.data.label_table import Labels
from unheard.data.open_store import pack_once
from unheard.data.packing import PackConfig
from unheard.data.prefetch import Prefetcher, RankSlice
from unheard.data.shards import HEADER
from unheard.data.store import WaveStore, open_store, to_device
from unheard.data.verification import Verification
from unheard.errors import DataError
from unheard.finetuning.augment import AugmentBatch, add_noise, gain, mixup, roll, spec_augment
from unheard.finetuning.recipe import FinetuneRecipe
from unheard.finetuning.shared_corpus import pack_shared, shared_folder
from unheard.finetuning.waveform_augment import augment_waveform
from unheard.progress import Track, silent

CLASS_WEIGHT = 1000.0  # AudioSet recipes of PSLA, AST, PaSST and MaskSpec; only ratios matter
DENSE = 16384  # clips whose labels are a dense matrix at one time (our choice)


@dataclass(frozen=True)
class LabelledBatch:
    """One batch.

    Parameters
    ----------
    clips : Clips
        Normalised spectrograms (B, F, T) with their targets.
    rows : Int[Tensor, "B"]
        Which clip of the store each began as.
    """

    clips: AugmentBatch
    rows: Int[Tensor, " B"]


@dataclass(frozen=True)
class PackedLabelledClips:
    """The clips of a table, packed, with what is known of each, in the order of the store.

    Parameters
    ----------
    store : WaveStore
    rows : Int64[ndarray, "n"]
        The row of the table behind each clip; rows that could not be read are missing.
    target : ClassSets
        The classes of each clip.
    known : AnnotatedClasses, optional
        The classes that are annotated in each clip; all are where it is None.
    """

    store: WaveStore
    rows: Indices
    target: ClassSets
    known: AnnotatedClasses | None = None

    @cached_property
    def verification(self) -> Verification:
        """The comparison of the packed clips with their checksums; it starts when this is first asked for."""
        return Verification(self.store)

    def marks(self, clips: Indices) -> tuple[Float32[np.ndarray, "k C"], Float32[np.ndarray, "k C"]]:
        """Return which classes some clips have, and which somebody judged, as 0 and 1."""
        target = self.target[clips].astype(np.float32)
        return target, np.ones_like(target) if self.known is None else self.known[clips].astype(np.float32)

    def at(self, rows: Index) -> Index:
        """Clips of the store for rows of the table, those that could not be read left out."""
        return np.flatnonzero(np.isin(self.rows, rows))


def open_sounds(
    labels: Labels,
    frontend: AnyFrontendConfig,
    channel: Channel,
    cache: Path,
    track: Track = silent,
    *,
    shared: Path | None = None,
    log: Callable[[str], None] = lambda text: None,
) -> PackedLabelledClips:
    """Read the clips of a table, one channel of each, into packed waves.

    Parameters
    ----------
    cache : Path
        Where a large corpus is packed; a small one stays in memory.
    shared : Path, optional
        A folder of packed clips of several runs, in place of ``cache``: see `shared_folder`.
    say : callable
        Takes a line about a shared corpus.

    Raises
    ------
    DataError
        When none can be read.
    """
    packing = PackConfig(frontend, "int16", channel=channel)
    folder = None if shared is None else shared_folder(shared, labels, packing)
    if folder is not None and (folder / HEADER).is_file():
        log(f"corpus     found packed in {folder}")
        store = open_store(folder)
    elif folder is not None:
        store = pack_shared(_corpus(labels, track), packing, folder, track, log)
    else:
        store = pack_once(_corpus(labels, track), packing, cache, track)
    if not isinstance(store, WaveStore):
        raise DataError(f"{store.folder or cache} holds no waves; delete it")
    rows = np.array([int(row) for row in store.labels], np.int64)
    return PackedLabelledClips(
        store, rows, labels.target.take(rows), None if labels.known is None else labels.known.take(rows)
    )


def _corpus(labels: Labels, track: Track) -> Corpus:
    """The clips of a table, labelled with the numbers of their rows."""
    clips, skipped = [], []
    names = labels.files
    files = scan_files(Path(), dict.fromkeys(names), track)
    for row, (name, start, end) in enumerate(zip(names, labels.start, labels.end, strict=True)):
        found, begin = files[name], start or 0.0
        if isinstance(found, str):
            skipped.append(Skipped(name, f"{name}: {found}"))
            continue
        length, size, content = found
        seconds = min(length, np.inf if end is None else end) - begin
        if seconds <= 0:
            skipped.append(Skipped(name, f"{name}: holds no samples from {begin:g} s on"))
            continue
        clips.append(Clip(name, seconds, start=begin, end=end, size=size, content=content, label=str(row)))
    if not clips:
        raise DataError(f"none of the {len(labels)} clips of the table can be read; the first one: {skipped[0].reason}")
    return Corpus(Path(), tuple(clips), tuple(skipped))


def clip_weights(target: ClassSets, clips: Indices, offset: float) -> Float[np.ndarray, " n"]:
    """Sampling weight of each of some clips: the sum over its classes of 1000 / (clips of the class + offset)."""
    rarity = CLASS_WEIGHT / (torch.from_numpy(target.counts(clips)) + offset).clamp(min=1e-6)
    weight = np.empty(len(clips))
    for first in range(0, len(clips), DENSE):
        some = clips[first : first + DENSE]
        weight[first : first + DENSE] = (torch.from_numpy(target[some]).float() @ rarity).double().numpy()
    return np.maximum(
        weight, weight[weight > 0].min() if (weight > 0).any() else 1.0
    )  # a clip without labels is drawn like a common one


class LabelledLoader(Prefetcher[LabelledBatch]):
    """Iterates over the batches of ``steps``, each a function of the recipe's seed, the step and the process's rank; a
    context manager.

    Parameters
    ----------
    sounds : Sounds
    clips : Int64[ndarray, "n"]
        Which clips of the store are trained on.
    recipe : FinetuneRecipe
    statistics : Statistics
    width : int
        Frames of a window.
    share : Share
        What this process takes of every batch.
    steps : range
    """

    def __init__(
        self,
        sounds: PackedLabelledClips,
        clips: Indices,
        recipe: FinetuneRecipe,
        statistics: Statistics,
        width: int,
        share: RankSlice,
        *,
        device: torch.device | str,
        steps: range,
    ) -> None:
        super().__init__(steps)
        self.sounds, self.clips, self.recipe, self.statistics, self.width = sounds, clips, recipe, statistics, width
        self.device, self.share = torch.device(device), share
        self.frontend = build_frontend(sounds.store.frontend).to(self.device)
        task = recipe.task
        self.epoch_size = min(task.epoch_clips or len(clips), len(clips))
        balanced = task.balance == "class"
        self._weights = (
            clip_weights(sounds.target, clips, task.class_weight_offset) if balanced else np.ones(len(clips))
        )
        self.order = lru_cache(maxsize=2)(self._sample_epoch)

    def _sample_epoch(self, epoch: int) -> Indices:
        """Clips of an epoch in their order: drawn by weight without replacement (an exponential race; Efraimidis,
        Spirakis 2006).
        """
        times = (
            np.random.default_rng([self.recipe.training.seed, 1, epoch]).exponential(size=len(self.clips))
            / self._weights
        )
        return np.asarray(self.clips[np.argsort(times, kind="stable")[: self.epoch_size]])

    @property
    def store(self) -> WaveStore:
        """The packed clips."""
        return self.sounds.store

    def clips_of(self, step: int) -> list[int]:
        """Numbers of the clips in the batch of one step, of all processes."""
        clips: list[int] = self._ids(step * self.share.batch_size + np.arange(self.share.batch_size)).tolist()
        return clips

    def _ids(self, places: Indices) -> Indices:
        """Clips at places of the order of all epochs, one epoch after the other."""
        return np.array(
            [self.order(int(place // self.epoch_size))[place % self.epoch_size] for place in places], np.int64
        )

    def batch(self, step: int) -> LabelledBatch:
        """The share of this process in the batch of one step; batches run through epochs without gaps, so few clips
        repeat.
        """
        size, mine = self.share.batch_size, self.share.local_slice
        places = step * size + np.arange(size)
        rng = np.random.default_rng([self.recipe.training.seed, 2, step])
        draws = rng.random((size, 3))
        ids = self._ids(places[mine])
        spare = np.maximum(self.sounds.store.frames[ids] - self.width, 0)
        starts = (draws[mine, 0] * (spare + 1)).astype(np.int64)
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)) + self.share.rank)
        return LabelledBatch(
            self._clips(ids, starts, draws[mine, 1:].astype(np.float32), generator), to_device(ids, self.device)
        )

    def _clips(
        self, ids: Indices, starts: Indices, jitter: Float[np.ndarray, "B 2"], generator: torch.Generator
    ) -> AugmentBatch:
        """Windows of clips as augmented spectrograms."""
        augment_config, store = self.recipe.augment, self.sounds.store
        heard = to_device(np.minimum(jitter, np.float32(1 - 2.0**-24)), self.device)
        target, known = (to_device(each, self.device) for each in self.sounds.marks(ids))
        if augment_config.waves:
            clips = self._augmented(self._waves(ids, starts, target, known), generator)
            spec, frames = self.frontend(clips.values, heard)[..., : self.width], self._frames(clips.lengths)
            target, known = clips.target, clips.known
        else:
            pieces = WindowSegments.single(ids, starts, store.frames, self.width)
            spec, frames = (
                store.windows(pieces, len(ids), self.width, self.device, heard),
                to_device(pieces.lengths, self.device),
            )
        clips = AugmentBatch(self.statistics.normalise(spec), frames, target, known)
        clips = AugmentBatch(clips.values * clips.valid_mask[:, None], frames, target, known)
        if augment_config.noise:
            clips = add_noise(clips, augment_config.noise, generator)
        if augment_config.mask_freq or augment_config.mask_time:
            clips = spec_augment(clips, augment_config.mask_freq, augment_config.mask_time, generator)
        return (
            mixup(clips, augment_config.spec_mixup_prob, augment_config.spec_mixup_alpha, generator)
            if augment_config.spec_mixup_prob
            else clips
        )

    @property
    def _hops(self) -> int:
        """Hops of sound that the frames of a window reach over."""
        return max(self.width, -(-self.frontend.num_samples(self.width) // self.frontend.hop_size))

    def _waves(self, ids: Indices, starts: Indices, target: Tensor, known: Tensor) -> AugmentBatch:
        """The sound of windows, a little more where a frame reaches further than a hop, and what may be needed to play
        it faster.
        """
        store, hop, augment_config = self.sounds.store, self.frontend.hop_size, self.recipe.augment.waveform
        wide = math.ceil(self._hops * (max(1.0, *augment_config.speed) if augment_config.probability else 1.0))
        rows = store.index.rows[ids].astype(np.int64)
        hops = np.zeros(len(store), np.int64)
        hops[ids] = -(-rows // hop)
        starts = np.minimum(starts, np.maximum(hops[ids] - 1, 0))
        wav = store.waves(WindowSegments.single(ids, starts, hops, wide), len(ids), wide, self.device)
        return AugmentBatch(wav, to_device(np.minimum(rows - starts * hop, wide * hop), self.device), target, known)

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
        """Frames of a window that belong to its first ``samples`` samples."""
        window = 0 if self.frontend.framing.pad else self.frontend.framing.frame_size
        return (1 + (samples - self.frontend.framing.lookahead - window).clamp(min=0) // self.frontend.hop_size).clamp(
            max=self.width
        )
