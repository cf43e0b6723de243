"""Encoders of others, ready to embed: Hugging Face folders and HEAR modules, opened as frozen teachers.

    file -> wav -> windows of the model's trained length -> its map (C, f, t) -> frames (t, f C) -> mean = scene

The rows of a map are concatenated, lowest band first, as for models of this library. Windows follow each other at the
hop of the model. Columns centred after the end of a clip are dropped; at least one is kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32, Float64

from unheard.embedding.embedding_model import EmbeddingModel, Pending
from unheard.embedding.job import EmbeddingAccumulator, Options, Sound, blocks_of
from unheard.errors import ConfigError
from unheard.teachers.hear_module import HearTeacher
from unheard.teachers.hf_encoder import HfTeacher
from unheard.teachers.teacher import FrozenTeacher, Windows


@dataclass
class WavePiece:
    """A window of a clip: the samples that it reads.

    Parameters
    ----------
    wav : ndarray (S,)
    start : int
        Its first sample in the clip.
    """

    wav: Float32[np.ndarray, " S"]
    start: int


class ExternalModel(EmbeddingModel):
    """An encoder of others that embeds as models of this library do.

    Parameters
    ----------
    name : str
        As the user wrote it, such as ``hf:models/ast``.
    teacher : FrozenTeacher
    device : str
        Device of the encoder.
    """

    labels: tuple[str, ...] = ()

    def __init__(self, name: str, teacher: FrozenTeacher, device: str = "cpu") -> None:
        self.name, self.teacher, self._device = name, teacher.to(device), torch.device(device)
        self._rows = len(teacher.axes(teacher.sample_rate).edges) + 1
        self._scene_size = 0
        if isinstance(teacher, HearTeacher):
            self._scene_size = teacher.scenes(torch.zeros(1, teacher.sample_rate)).shape[1]

    def __repr__(self) -> str:
        return f"ExternalModel({self.name!r}, {self.embedding_size} values, {self.sample_rate} Hz)"

    @property
    def description(self) -> str:
        """Return the name."""
        return self.name

    @property
    def device(self) -> torch.device:
        """Return the device of the encoder."""
        return self._device

    @property
    def sample_rate(self) -> int:
        """Return the sample rate of the encoder's input in Hz; files are resampled to it."""
        return self.teacher.sample_rate

    @property
    def depth(self) -> int:
        """Return the number of layers, 0 for a HEAR module and for CLAP."""
        return self.teacher.depth if isinstance(self.teacher, HfTeacher) else 0

    @property
    def batch(self) -> int:
        """Return the number of windows that are encoded at once: by default half as many as for our smaller models."""
        return self.batch_size or super().batch // 2

    @property
    def embedding_size(self) -> int:
        """Return D': the channels of its map times the rows."""
        return self.teacher.dim * self._rows

    def row_size(self, options: Options) -> int:
        """Return the width of the rows of a table: of frames, or of scenes if frames are left out."""
        if self._scene_size and options.pool == "mean" and not options.frames:
            return self._scene_size
        width = self._at(options).dim * self._rows
        return width * (2 if options.pool == "mean+std" and not options.frames else 1)

    def check_options(self, options: Options) -> None:
        """Check options.

        Raises
        ------
        ConfigError
            When a hop or the CLS token is asked for, or there is no such layer.
        """
        if options.hop is not None or options.cls:
            raise ConfigError(f"{self.name} has frames at its own hop and no other; leave hop and cls out")
        self._at(options)

    def windows(self, sound: Sound, job: EmbeddingAccumulator) -> Iterator[WavePiece]:
        """Yield the windows of a clip: those of the model's trained length, or the whole clip."""
        counted = job.count_samples(blocks_of(sound, self.sample_rate))
        if self.teacher.windows is None:
            yield WavePiece(np.concatenate(list(counted)), 0)
        else:
            yield from cut_waves(counted, self.teacher.windows)

    @torch.inference_mode()
    def encode(self, pending: Pending, options: Options) -> None:
        """Encode all pending windows, batched by length, and pass the frames to their clips in order."""
        teacher, groups = self._at(options), dict[int, list[int]]()
        for index, (_, piece) in enumerate(pending):
            groups.setdefault(len(piece.wav), []).append(index)
        found: dict[int, tuple[np.ndarray | None, np.ndarray | None]] = {}
        for members in groups.values():
            for at in range(0, len(members), self.batch):
                chunk = members[at : at + self.batch]
                found.update(zip(chunk, self._outputs(teacher, [pending[i][1] for i in chunk], options), strict=True))
        for index, (job, piece) in enumerate(pending):
            frames, scene = found[index]
            if scene is not None:
                job.pool(scene[None], np.ones(1, np.float32))
            if frames is None:
                continue
            times = self._times(teacher, piece)
            frames = frames[: len(times)]
            if scene is None and len(frames):
                job.pool(frames, np.ones(len(frames), np.float32))
            job.keep(frames, 1000 * times)
        pending.clear()

    def _outputs(
        self, teacher: FrozenTeacher, pieces: Sequence[WavePiece], options: Options
    ) -> list[tuple[np.ndarray | None, np.ndarray | None]]:
        """Return frames (t, f C) and the encoder's own scene vector (D,) of windows of one length, as far as they are
        needed.
        """
        wav = torch.from_numpy(np.stack([piece.wav for piece in pieces])).to(self._device)
        own = isinstance(teacher, HearTeacher) and options.pool == "mean"
        scenes = list(teacher.scenes(wav).numpy()) if isinstance(teacher, HearTeacher) and own else [None] * len(pieces)
        if own and not options.frames:
            return [(None, scene) for scene in scenes]
        frames = teacher.run(wav).permute(0, 3, 2, 1).flatten(2).cpu().numpy()
        return list(zip(frames, scenes, strict=True))

    def _times(self, teacher: FrozenTeacher, piece: WavePiece) -> Float64[np.ndarray, " t"]:
        """Return the centres of the columns of a window in seconds from the start of the clip; none beyond its end, but
        at least one of the clip.
        """
        centres = np.asarray(teacher.axes(len(piece.wav)).columns)
        kept = int((centres <= len(piece.wav) / self.sample_rate).sum())
        return centres[: max(kept, 1 if piece.start == 0 else 0)] + piece.start / self.sample_rate

    def _at(self, options: Options) -> FrozenTeacher:
        """Return the teacher whose map is the layer of the options."""
        if options.layer is None:
            return self.teacher
        if not isinstance(self.teacher, HfTeacher):
            raise ConfigError(f"{self.name} has no layers to choose from; leave layer and layers out")
        return self.teacher.at_layer(options.layer)


def cut_waves(blocks: Iterable[Float32[np.ndarray, " _"]], windows: Windows) -> Iterator[WavePiece]:
    """Yield the windows of a clip from consecutive blocks; the last one may be shorter.

    A rest that would have no column is left out, unless it is the only window.
    """
    held, start = np.zeros(0, np.float32), 0
    for block in blocks:
        held = np.concatenate([held, block])
        while len(held) > windows.reach:
            yield WavePiece(held[: windows.reach], start)
            held, start = held[windows.step :], start + windows.step
    if len(held) >= windows.least or not start:
        yield WavePiece(held, start)
