"""Embedding of one clip: options, accumulated frames, their pooling in one pass, and the result."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from operator import index
from pathlib import Path
from typing import Literal, TypeAlias, get_args

import numpy as np
from jaxtyping import Float, Float32

from unheard.audio.waveform import from_array, stream
from unheard.errors import AudioError, ConfigError, shown

Pool = Literal["mean", "mean+std", "max", "none"]
Layer: TypeAlias = int | Sequence[int] | None
"""Blocks whose outputs are used, 1 to depth, or negative from the end; None: the last one, normalised."""
Sound: TypeAlias = str | Path | tuple[np.ndarray, int]
LiveFrames: TypeAlias = tuple[Float32[np.ndarray, "t D"], Float32[np.ndarray, " t"]]
"""Frame embeddings (t, D') with the centres of their time steps in milliseconds."""
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
    layer : int or sequence of int, optional
        The block whose output is used, 1 to depth, or negative from the end; None: the last one. Outputs of several
        blocks are concatenated in the order of the numbers. The output of the last block is normalised.
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
    window : float, optional
        Only for tables: one row for every part of this many seconds instead of one for every file.
    on_error : {"skip", "raise"}
        Only for tables: list sounds that cannot be read, or raise the error of the first one.
    """

    layer: Layer = None
    pool: Pool = "mean"
    hop: float | None = None
    frames: bool = True
    cls: bool = False
    window: float | None = None
    on_error: Literal["skip", "raise"] = "skip"

    def __post_init__(self) -> None:
        object.__setattr__(self, "layer", plain_layer(self.layer))


def plain_layer(layer: Layer) -> int | tuple[int, ...] | None:
    """Return the one form in which a choice of layers is compared and stored: a number if it is one."""
    if layer is None:
        return None
    numbers = tuple(map(index, layer)) if isinstance(layer, Iterable) else (index(layer),)
    return numbers[0] if len(numbers) == 1 else numbers


def blocks_of(sound: Sound, sample_rate: int) -> Iterable[Float32[np.ndarray, " s"]]:
    """Return a sound as mono float32 at a sample rate: a file in blocks, as they are asked for, an array as one block.

    Raises
    ------
    AudioError
        When it cannot be read, also while it is iterated.
    """
    if isinstance(sound, str | Path):
        return stream(sound, sample_rate)
    return [from_array(sound[0], sound[1], sample_rate)]


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


def dataset_sound(item: object, sample_rate: int) -> Sound:
    """Return an item of an audio dataset in a form that ``embed`` takes.

    Parameters
    ----------
    item : object
        A path, ``(array, sample_rate)``, a dictionary with ``array`` and ``sampling_rate`` as in Hugging Face datasets,
        a dictionary with such a value under ``audio``, a decoder of torchcodec, or an array alone.
    sample_rate : int
        Hz, of an array alone.

    Raises
    ------
    AudioError
        When it has none of these forms.
    """
    if isinstance(item, dict) and "audio" in item:
        return dataset_sound(item["audio"], sample_rate)
    if isinstance(item, dict) and {"array", "sampling_rate"} <= item.keys():
        return np.asarray(item["array"]), int(item["sampling_rate"])
    if hasattr(item, "get_all_samples"):  # torchcodec.decoders.AudioDecoder
        samples = item.get_all_samples()
        return np.asarray(samples.data), int(samples.sample_rate)
    if hasattr(item, "shape"):
        return np.asarray(item), sample_rate
    return checked_sound(item)


class Pooling:
    """Accumulates frames of a clip and computes its scene vector.

    Parameters
    ----------
    pool : {"mean", "mean+std", "max", "none"}
        Mean over time, weighted by the real frames of each time step; concatenated mean and standard deviation;
        maximum; or all frames.
    """

    def __init__(self, pool: Pool) -> None:
        if pool not in get_args(Pool):
            raise ConfigError(f"pool must be one of {', '.join(get_args(Pool))}; got {pool!r}")
        self.pool = pool
        self._weight = 0.0
        self._sum: np.ndarray | None = None
        self._square: np.ndarray | None = None
        self._max: np.ndarray | None = None
        self._kept: list[np.ndarray] = []

    def add(self, frames: Float32[np.ndarray, "t D"], weights: Float32[np.ndarray, " t"]) -> None:
        """Add frames; ``weights`` are the numbers of real spectrogram frames of each."""
        if self.pool == "none":
            self._kept.append(frames)
        elif self.pool == "max":
            top = frames.max(axis=0)
            self._max = top if self._max is None else np.maximum(self._max, top)
        else:
            wide = frames.astype(np.float64)
            self._weight += float(weights.sum())
            self._sum = _accumulate(self._sum, weights @ wide)
            self._square = _accumulate(self._square, weights @ np.square(wide))

    def result(self) -> Float32[np.ndarray, "*shape"]:
        """Return the scene vector (D,), (2 D,) for "mean+std", or all frames (T, D) for "none"."""
        if self.pool == "none":
            return np.concatenate(self._kept)
        if self.pool == "max":
            return np.asarray(self._max, dtype=np.float32)
        mean = np.asarray(self._sum) / self._weight
        if self.pool == "mean":
            return mean.astype(np.float32)
        deviation = np.sqrt(np.maximum(np.asarray(self._square) / self._weight - mean**2, 0))
        return np.concatenate([mean, deviation]).astype(np.float32)


def _accumulate(total: np.ndarray | None, value: np.ndarray) -> np.ndarray:
    return value if total is None else total + value


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
        self.samples = self._reported = 0
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

    def new_seconds(self) -> float:
        """Return the seconds of audio that were counted since the call before."""
        new, self._reported = self.samples - self._reported, self.samples
        return new / self.sample_rate

    def pool(self, frames: Float32[np.ndarray, "t D"], weights: Float32[np.ndarray, " t"]) -> None:
        """Add the frames of one window to the scene, with their weights."""
        self.pooling.add(frames, weights)

    def keep(self, frames: Float32[np.ndarray, "t D"], times_ms: Float[np.ndarray, " t"]) -> None:
        """Keep the frames of one window, if the options ask for them. Windows come in the order of their starts."""
        if self.options.frames:
            self.frames.append(frames)
            self.times.append(times_ms)

    @property
    def kept(self) -> int:
        """Return the number of values of the kept frames."""
        return sum(frames.size for frames in self.frames)

    def take_complete(self) -> LiveFrames:
        """Remove the kept frames that come before those of every later window, and return them in order of time."""
        return self.take(next((float(times[0]) for times in reversed(self.times) if len(times)), 0.0))

    def take(self, until: float = math.inf) -> LiveFrames:
        """Remove the kept frames with centres before ``until`` milliseconds, and return them in order of time."""
        times = np.concatenate(self.times or [np.zeros(0)])
        frames = np.concatenate(self.frames or [np.zeros((0, self.width), np.float32)])
        order = np.argsort(times, kind="stable")
        taken, left = order[times[order] < until], order[times[order] >= until]
        self.frames, self.times = [frames[left]], [times[left]]
        return frames[taken], times[taken].astype(np.float32)

    def result(self) -> Embedding:
        """Return the embedding, frames in order of time."""
        return Embedding(self.pooling.result(), *self.take(), self.samples / self.sample_rate)


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
