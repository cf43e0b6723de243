"""Embedding of one clip: options, accumulated frames, and result."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from jaxtyping import Float, Float32

from unheard.embedding.pooling import Pool, Pooling
from unheard.errors import AudioError, shown

Sound: TypeAlias = str | Path | tuple[np.ndarray, int]
Blocks: TypeAlias = Iterable[np.ndarray]


@dataclass(frozen=True)
class Embedding:
    """Embedding of one clip, as float32 numpy arrays.

    Parameters
    ----------
    scene : ndarray (D',)
        One vector for the whole clip; (T, D') with pool "none".
    frames : ndarray (T, D')
        One vector for each time step: the concatenated outputs of its frequency patches, lowest band first.
    times_ms : ndarray (T,)
        Centre of each time step in milliseconds: the mean centre time of its patch's frames.
    seconds : float
        Length of the clip.
    """

    scene: Float32[np.ndarray, "*shape"]
    frames: Float32[np.ndarray, "T D"]
    times_ms: Float32[np.ndarray, " T"]
    seconds: float

    def __repr__(self) -> str:
        return f"Embedding(scene {self.scene.shape}, frames {self.frames.shape}, {self.seconds:g} s)"


@dataclass(frozen=True)
class Options:
    """Options of embeddings.

    Parameters
    ----------
    layer : int, optional
        The block whose output is used, 1 to depth, or negative from the end; None: the last one, normalised.
    pool : {"mean", "mean+std", "max", "none"}
        Aggregation of frames to the scene vector.
    hop : float, optional
        Seconds between frames; must divide a patch's duration. None: one patch. Smaller hops encode shifted windows.
        With ``window``: seconds from the start of one row to the next; None: the window.
    frames : bool
        Keep the frames; without them memory does not grow with the length of a clip.
    cls : bool
        Use the CLS token of each window, as its only frame, instead of the patch tokens of the last layer; excludes
        layer.
    layers : bool
        Concatenate the outputs of all blocks, the first block's first, instead of one layer.
    window : float, optional
        Only for tables: one row for every part of this many seconds instead of one for every file.
    """

    layer: int | None = None
    pool: Pool = "mean"
    hop: float | None = None
    frames: bool = True
    cls: bool = False
    layers: bool = False
    window: float | None = None


def checked_sound(sound: object) -> Sound:
    """Check that a sound has one of the accepted forms, and return it.

    Raises
    ------
    AudioError
        Naming the accepted forms, also when the rate comes before the array.
    """
    if (
        isinstance(sound, tuple)
        and len(sound) == 2
        and isinstance(sound[0], int | float | np.number)
        and hasattr(sound[1], "__len__")
    ):
        raise AudioError(
            f"the sample rate {sound[0]!s:.20} comes before the array; give (array, sample_rate), in this order"
        )
    if isinstance(sound, str | Path) or (isinstance(sound, tuple) and len(sound) == 2):
        return sound
    shape = getattr(sound, "shape", None)
    problem = f"an array of shape {shape} has no sample rate" if shape is not None else f"got {sound!r:.80}"
    raise AudioError(f"{problem}; give a path or (array, sample_rate), or a list of these")


class EmbeddingAccumulator:
    """The accumulated frames of one clip.

    Parameters
    ----------
    sound : Sound
    options : Options
    sample_rate : int
        Of the samples that are counted, in Hz.
    width : int
        Of a frame.
    """

    def __init__(self, sound: Sound, options: Options, sample_rate: int, width: int) -> None:
        self.sound, self.options, self.sample_rate, self.width = sound, options, sample_rate, width
        self.samples = 0
        self.pooling = Pooling(options.pool)
        self.frames: list[np.ndarray] = []
        self.times: list[np.ndarray] = []

    @property
    def name(self) -> str:
        """Return a description of the clip, for messages."""
        return (
            shown(self.sound) if isinstance(self.sound, str | Path) else f"an array of shape {np.shape(self.sound[0])}"
        )

    def count_samples(self, waves: Blocks) -> Iterator[np.ndarray]:
        """Yield waveform blocks unchanged and count their samples."""
        for wave in waves:
            self.samples += len(wave)
            yield wave

    def pool(self, frames: Float32[np.ndarray, "t D"], weights: Float32[np.ndarray, " t"]) -> None:
        """Add the frames of one window to the scene, with their weights."""
        self.pooling.add(frames, weights)

    def keep(self, frames: Float32[np.ndarray, "t D"], times_ms: Float[np.ndarray, " t"]) -> None:
        """Keep the frames of one window, if the options ask for them."""
        if self.options.frames:
            self.frames.append(frames)
            self.times.append(times_ms)

    def result(self) -> Embedding:
        """Return the embedding, frames in order of time."""
        times = np.concatenate(self.times) if self.times else np.zeros(0)
        frames = np.concatenate(self.frames) if self.frames else np.zeros((0, self.width), dtype=np.float32)
        order = np.argsort(times, kind="stable")
        return Embedding(
            self.pooling.result(), frames[order], times[order].astype(np.float32), self.samples / self.sample_rate
        )


def finished(
    jobs: list[EmbeddingAccumulator], skip: Callable[[Sound, AudioError], None] | None
) -> Iterator[tuple[Sound, Embedding]]:
    """Yield the embeddings of finished clips; an embedding that is not finite is an error of its clip."""
    for job in jobs:
        embedding = job.result()
        if np.isfinite(embedding.scene).all() and np.isfinite(embedding.frames).all():
            yield job.sound, embedding
            continue
        error = AudioError(
            f"{job.name}: its embedding is not finite; check the sound with unheard data check, and the model's weights"
        )
        if skip is None:
            raise error
        skip(job.sound, error)
