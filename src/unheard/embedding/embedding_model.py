"""What embeds: the base class of models of this library and of encoders of others."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any, Literal, TypeAlias, overload

import torch

from unheard.embedding.job import (
    Embedding,
    EmbeddingAccumulator,
    Layer,
    LiveFrames,
    Options,
    Pool,
    Sound,
    checked_sound,
    finished,
)
from unheard.errors import AudioError, ConfigError, warn_audio
from unheard.read_ahead import read_ahead, reader_count

PENDING = 4
"""Batches of windows collected before encoding, so that windows of equal length share a batch (our choice)."""

BATCHES = {"cpu": 16, "cuda": 256}
"""Windows encoded at once on a device; on a CPU, larger batches exceed the cache (our choice)."""

SPOOL_VALUES = 4_000_000
"""Values of the frames of one clip that stay in memory when there is a spool: 16 MB (our choice)."""

Pending: TypeAlias = list[tuple[EmbeddingAccumulator, Any]]
"""Windows that wait for the encoder, each with the clip it belongs to."""


class EmbeddingModel(ABC):
    """Audio in, embeddings out; the result of `unheard.load`.

    Attributes
    ----------
    origin : str
        Name or absolute path from which the model was loaded; empty for one that was built in Python.
    workers : int or None
        Threads that read sounds ahead; 0: none. None: one for each core, at most 16. Embeddings do not depend on it.
    batch_size : int or None
        Windows encoded at once. None: 16 on a CPU, 256 on other devices. Embeddings depend on it up to rounding.
    """

    origin: str = ""
    workers: int | None = None
    batch_size: int | None = None

    @property
    def batch(self) -> int:
        """Return the number of windows that are encoded at once."""
        return self.batch_size or BATCHES.get(self.device.type, BATCHES["cuda"])

    @property
    def readers(self) -> int:
        """Return the number of threads that read sounds ahead."""
        return reader_count() if self.workers is None else self.workers

    def set_speed(self, workers: int | None = None, batch_size: int | None = None) -> None:
        """Set ``workers`` and ``batch_size``; None selects the default.

        Raises
        ------
        ConfigError
            When a number is too small.
        """
        for name, value, least in (("workers", workers, 0), ("batch_size", batch_size, 1)):
            if value is not None and value < least:
                raise ConfigError(f"{name} must be at least {least}; got {value}")
        self.workers, self.batch_size = workers, batch_size

    @property
    @abstractmethod
    def description(self) -> str:
        """Return the name of the model, for reports."""

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """Return the device of the encoder."""

    @property
    @abstractmethod
    def sample_rate(self) -> int:
        """Return the sample rate of the encoder's input in Hz; files are resampled to it."""

    @property
    @abstractmethod
    def depth(self) -> int:
        """Return the number of layers, 0 if only the last output can be embedded."""

    @abstractmethod
    def row_size(self, options: Options) -> int:
        """Return the width of the rows of a table: of frames, or of scenes if frames are left out."""

    @abstractmethod
    def check_options(self, options: Options) -> None:
        """Check options before anything is read.

        Raises
        ------
        ConfigError
            When a layer, pool or hop does not exist.
        """

    @abstractmethod
    def windows(self, sound: Sound, job: EmbeddingAccumulator) -> Iterator[Any]:
        """Yield the windows of a clip, and count its samples."""

    @abstractmethod
    def encode(self, pending: Pending, options: Options) -> None:
        """Encode all pending windows, pass the frames to their clips in order, and empty the list."""

    @overload
    def embed(
        self, sound: Sound, *, layer: Layer = ..., pool: Pool = ..., hop: float | None = ..., frames: bool = ...
    ) -> Embedding: ...

    @overload
    def embed(
        self,
        sound: list[Sound],
        *,
        layer: Layer = ...,
        pool: Pool = ...,
        hop: float | None = ...,
        frames: bool = ...,
        on_error: Literal["raise"] = ...,
    ) -> list[Embedding]: ...

    @overload
    def embed(
        self,
        sound: list[Sound],
        *,
        layer: Layer = ...,
        pool: Pool = ...,
        hop: float | None = ...,
        frames: bool = ...,
        on_error: Literal["skip"],
    ) -> list[Embedding | None]: ...

    def embed(
        self,
        sound: Sound | list[Sound],
        *,
        layer: Layer = None,
        pool: Pool = "mean",
        hop: float | None = None,
        frames: bool = True,
        on_error: Literal["raise", "skip"] = "raise",
    ) -> Embedding | list[Embedding] | list[Embedding | None]:
        """Embed a file, an array with its sample rate, or a list of them. Any length from one sample to hours works.

        Parameters
        ----------
        sound : path, (array, sample_rate), or a list of them
            Arrays have the shape (samples,) or (channels, samples).
        layer : int or sequence of int, optional
            The block whose output is used, 1 to depth, or negative from the end; several are concatenated. Default: the
            last one, normalised.
        pool : {"mean", "mean+std", "max", "none"}
            Aggregation of frames to the scene vector.
        hop : float, optional
            Seconds between frames; must divide the duration of a patch. Default: one patch.
        frames : bool
            Keep the frames; without them memory does not grow with the length of a clip.
        on_error : {"raise", "skip"}
            With skip, a sound of a list that cannot be read gives None at its place, and an `AudioWarning`.

        Raises
        ------
        AudioError
            When a sound cannot be read.
        ConfigError
            When a layer, pool or hop does not exist, or skip is given for a single sound.

        Examples
        --------
        >>> import numpy as np, unheard
        >>> unheard.load("random-tiny").embed((np.zeros(16000), 16000)).scene.shape
        (960,)
        """
        options = Options(layer, pool, hop, frames)
        if on_error not in ("raise", "skip"):
            raise ConfigError(f"on_error must be raise or skip; got {on_error!r}")
        if not isinstance(sound, list):
            if on_error == "skip":
                raise ConfigError('on_error="skip" needs a list of sounds; a single one either has an embedding or not')
            return next(self.embed_many([sound], options))[1]
        if on_error == "raise":
            return [embedding for _, embedding in self.embed_many(sound, options)]
        return self._embed_readable(sound, options)

    def _embed_readable(self, sounds: list[Sound], options: Options) -> list[Embedding | None]:
        """Return the embedding of each sound, None for one that cannot be read, with a warning."""
        unreadable: Counter[int] = Counter()  # by identity: a list may hold one object several times

        def skip(sound: Sound, error: AudioError) -> None:
            unreadable[id(sound)] += 1
            warn_audio(str(error))

        done = iter(list(self.embed_many(sounds, options, skip)))
        return [None if unreadable[id(sound)] else next(done)[1] for sound in sounds]

    def embed_many(
        self,
        sounds: Iterable[Sound],
        options: Options = Options(),
        skip: Callable[[Sound, AudioError], None] | None = None,
        readers: int | None = None,
        spool: Callable[[Sound, LiveFrames], None] | None = None,
        advance: Callable[[float], object] = lambda seconds: None,
    ) -> Iterator[tuple[Sound, Embedding]]:
        """Embed clips in batches across them, with few windows in memory; yield each clip with its embedding, in order.

        With ``skip``, a clip that cannot be read is passed to it and left out; without it the error is raised.
        ``readers`` threads read clips ahead; by default as many as `EmbeddingModel.readers`. With ``spool``, the frames
        of a clip with more than `SPOOL_VALUES` values are passed to it in order of time, before the embedding with the
        last ones. Frames of one clip follow those of the clip before, and its embedding. ``advance`` is called with the
        seconds of audio whose windows have come.
        """
        self.check_options(options)
        width = self.row_size(replace(options, frames=True))
        pending: Pending = []
        jobs: list[EmbeddingAccumulator] = []
        most = PENDING * self.batch
        started = (EmbeddingAccumulator(sound, options, self.sample_rate, width) for sound in sounds)
        for job, windows in read_ahead(started, self._windows, self.readers if readers is None else readers):
            jobs.append(job)
            try:
                for window in windows:
                    pending.append((job, window))
                    advance(job.new_seconds())
                    if len(pending) < most:
                        continue
                    self.encode(pending, options)
                    yield from finished(jobs[:-1], skip)  # all of their windows are encoded
                    jobs = [job]
                    if spool is not None and job.kept > SPOOL_VALUES:
                        spool(job.sound, job.take_complete())
            except AudioError as error:
                if skip is None:
                    raise
                skip(job.sound, error)
                jobs.remove(job)
                pending = [(owner, window) for owner, window in pending if owner is not job]
            if not pending or len(jobs) >= most:
                self.encode(pending, options)
                yield from finished(jobs, skip)
                jobs = []
        self.encode(pending, options)
        yield from finished(jobs, skip)

    def _windows(self, job: EmbeddingAccumulator) -> Iterator[Any]:
        """Yield the windows of a clip; a sound of another form is an error of the iteration."""
        yield from self.windows(checked_sound(job.sound), job)
