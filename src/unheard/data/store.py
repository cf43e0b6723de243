"""Reading of a packed corpus, from which windows are cut: one interface for spectrograms and waves.

Windows of waves are transformed on the requested device. Their frames are those of the whole clip: samples on both
sides of a window are read from the clip, and reflected only at its ends.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Float32, Int16, Int32, Int64
from torch import Tensor

from unheard.audio.framing import INT16_SCALE, Frontend
from unheard.audio.frontend_kinds import AnyFrontendConfig, build_frontend
from unheard.audio.resample import resample
from unheard.data.shard_layout import HEADER, Frames, Header, Index, Texts, dequantise, shard_name
from unheard.data.windows.crops import WindowSegments
from unheard.devices import to_device
from unheard.errors import DataError
from unheard.files import FILES, differing_files, read_json
from unheard.remote.shards import RemoteShards

Device = torch.device | str


class Store(ABC):
    """Packed clips.

    Parameters
    ----------
    header : Header
    index : Index
    shards : sequence of arrays, (rows, ...)
        Maps of the shard files, or arrays in memory; or `RemoteShards`.
    folder : Path, optional
        Folder of the shards.
    """

    def __init__(
        self, header: Header, index: Index, shards: Sequence[Frames] | RemoteShards, folder: Path | None = None
    ) -> None:
        self.header, self.index, self.folder = header, index, folder
        self.shards = shards if isinstance(shards, RemoteShards) else tuple(shards)
        self.frontend, self.statistics = header.frontend, header.statistics
        self.band_statistics = header.band_statistics
        self.fingerprint, self.skipped, self.frames = header.fingerprint, header.skipped, index.frames
        self.names: Texts = index.path

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def files(self) -> list[Path]:
        """Return the shards as local files; empty if they are in memory or at an address."""
        if self.folder is None or isinstance(self.shards, RemoteShards):
            return []
        return [self.folder / shard_name(number) for number in range(len(self.shards))]

    def categories(self, column: Literal["domain", "label", "caption"]) -> tuple[list[str], Int32[np.ndarray, " n"]]:
        """Return the different texts of a column, sorted, and the number of each clip's text; see `Texts.categories`.

        Labels are joined by ``|``. A corpus without the column has the text "" for each clip.
        """
        texts = getattr(self.index, column)
        return ([""], np.zeros(len(self), np.int32)) if texts is None else texts.categories()

    @property
    def seconds_total(self) -> float:
        """Return the seconds of audio."""
        return float(self.index.seconds.sum())

    @abstractmethod
    def windows(
        self,
        pieces: WindowSegments,
        batch: int,
        width: int,
        device: Device = "cpu",
        jitter_noise: Float[Tensor, "B 2"] | None = None,
    ) -> Float[Tensor, "B F T"]:
        """Return un-normalised spectrograms of a batch of windows, on ``device``; undefined where no segment of
        ``pieces`` lies.

        Parameters
        ----------
        jitter_noise : Float[Tensor, "B 2"], optional
            Uniform numbers for a front end that varies its bands in training.
        """

    @abstractmethod
    def waves(
        self, pieces: WindowSegments, batch: int, width: int, device: Device = "cpu"
    ) -> Float[Tensor, "B S"] | None:
        """Return the waveforms of the same windows, zero where no segment lies; None when there are no waves."""

    def clip(self, number: int, start: int = 0, frames: int | None = None) -> Float32[np.ndarray, "T F"]:
        """Return the spectrogram of one clip, or ``frames`` frames of it from ``start``; only those are read and
        transformed.
        """
        left = int(self.frames[number]) - start
        frames = left if frames is None else min(frames, left)
        zero = np.zeros(1, np.int64)
        pieces = WindowSegments(zero, zero + number, zero + start, zero, zero + frames)
        return self.windows(pieces, 1, frames)[0].T.contiguous().numpy()

    def verify(self) -> None:
        """Compare every file of the corpus with its checksum. A store in memory has no checksums and passes.

        Raises
        ------
        DataError
            Naming the files that differ.
        """
        if self.folder is None or isinstance(self.shards, RemoteShards):  # compared when they are downloaded
            return
        if differing := differing_files(self.folder, read_json(self.folder / HEADER).get(FILES, {})):
            raise DataError(
                f"{self.folder}: {', '.join(differing)} differ from their checksums; copy the corpus again, or pack it"
                " into a new folder"
            )


class SpecStore(Store):
    """Packed spectrograms."""

    def windows(
        self,
        pieces: WindowSegments,
        batch: int,
        width: int,
        device: Device = "cpu",
        jitter_noise: Float[Tensor, "B 2"] | None = None,
    ) -> Float[Tensor, "B F T"]:
        """Return the stored frames, 0 as stored where no segment lies; ``jitter_noise`` have no effect on packed
        spectrograms.
        """
        return dequantise(
            to_device(self.copy_windows(pieces, batch, width), device), self.header.value_range
        ).transpose(1, 2)

    def waves(
        self, pieces: WindowSegments, batch: int, width: int, device: Device = "cpu"
    ) -> Float[Tensor, "B S"] | None:
        """Return None."""
        return None

    def gather(
        self, ids: Int64[np.ndarray, " B"], starts: Int64[np.ndarray, " B"], width: int
    ) -> tuple[Frames, Int64[np.ndarray, " B"]]:
        """Return windows of ``width`` frames from frame ``starts`` of clips ``ids``.

        Returns
        -------
        windows : array, (B, width, F)
            Stored values; 0 after the end of a clip.
        real : Int64[ndarray, "B"]
            Frames of each window that belong to the clip.
        """
        pieces = WindowSegments.single(ids, starts, self.frames, width)
        return self.copy_windows(pieces, len(ids), width), pieces.lengths

    def copy_windows(self, pieces: WindowSegments, batch: int, width: int) -> Frames:
        """Return a batch of windows made of ``pieces``, (B, width, F); 0 where no segment lies.

        Every segment is one contiguous copy of bytes.
        """
        row = self.frontend.n_mels * np.dtype(self.header.dtype).itemsize
        out = (np.empty if pieces.full(batch, width) else np.zeros)(batch * width * row, np.uint8)
        sources = self.index.shard[pieces.ids].tolist()
        first = ((self.index.offset[pieces.ids] + pieces.starts) * row).tolist()
        to = ((pieces.windows * width + pieces.offsets) * row).tolist()
        flat = self._bytes_of(sources)
        for source, a, b, size in zip(sources, first, to, (pieces.lengths * row).tolist(), strict=True):
            out[b : b + size] = flat[source][a : a + size]
        return np.asarray(out.view(self.header.dtype).reshape(batch, width, self.frontend.n_mels))

    @cached_property
    def _flat(self) -> list[Frames]:
        return [_bytes(self.shards[number]) for number in range(len(self.shards))]

    def _bytes_of(self, sources: list[int]) -> Mapping[int, Frames] | list[Frames]:
        """Return some shards as bytes, by their numbers; only these are downloaded."""
        if isinstance(self.shards, RemoteShards):
            return {source: _bytes(self.shards[source]) for source in dict.fromkeys(sources)}
        return self._flat


class WaveStore(Store):
    """Packed waves. The front end is applied to windows of them.

    If their rate is not that of the front end, windows are resampled on the device. Their outermost frames are then
    those of a clip that ends there.
    """

    @property
    def sample_rate(self) -> int:
        """Hz."""
        return self.header.sample_rate or self.frontend.sample_rate

    def with_frontend(self, frontend: AnyFrontendConfig) -> WaveStore:
        """Return the same waves with a front end that `check_frontend` accepts."""
        return WaveStore(replace(self.header, frontend=frontend), self.index, self.shards, self.folder)

    def samples(self, number: int) -> Int16[np.ndarray, " S"]:
        """Return the stored samples of one clip."""
        index = self.index
        first = int(index.offset[number])
        return np.asarray(self.shards[int(index.shard[number])][first : first + int(index.rows[number])])

    def windows(
        self,
        pieces: WindowSegments,
        batch: int,
        width: int,
        device: Device = "cpu",
        jitter_noise: Float[Tensor, "B 2"] | None = None,
    ) -> Float[Tensor, "B F T"]:
        """Return the spectrogram of each window."""
        frontend = self._frontend.to(device)
        if self.sample_rate != frontend.sample_rate:
            sound = resample(self.waves(pieces, batch, width, device), self.sample_rate, frontend.sample_rate)
            spec: Tensor = frontend(sound, jitter_noise)
            return spec[..., :width]
        segments, rows, begin = [], np.zeros((batch, width), np.int64), 0
        for window, number, start, offset, length in zip(*pieces.columns(), strict=True):
            segments.append(frontend.segment(self.samples(number), start, length))
            rows[window, offset : offset + length] = np.arange(begin, begin + length)
            begin += len(segments[-1]) // frontend.hop_size
        return frontend.spectrograms_from_segments(
            to_device(np.concatenate(segments), device), to_device(rows, device), jitter_noise
        )

    def waves(self, pieces: WindowSegments, batch: int, width: int, device: Device = "cpu") -> Float[Tensor, "B S"]:
        """Return ``width`` hops of waveform for each window, at `sample_rate`."""
        hop = self.hop
        out = np.zeros((batch, round(width * hop)), np.int16)
        for window, number, start, offset, length in zip(*pieces.columns(), strict=True):
            sound = self.samples(number)[round(start * hop) : round((start + length) * hop)]
            first = round(offset * hop)
            out[window, first : first + len(sound)] = sound[: max(0, out.shape[1] - first)]
        return to_device(out, device).float() / INT16_SCALE

    @property
    def hop(self) -> float:
        """Return the samples from one frame to the next, at `sample_rate`."""
        return self.frontend.hop_size * self.sample_rate / self.frontend.sample_rate

    @cached_property
    def _frontend(self) -> Frontend:
        return build_frontend(self.frontend)


def make_store(
    header: Header, index: Index, shards: Sequence[Frames] | RemoteShards, folder: Path | None = None
) -> Store:
    """Create the store for the kind of the shards."""
    return (WaveStore if header.kind == "wav" else SpecStore)(header, index, shards, folder)


def _bytes(values: Frames) -> Frames:
    return np.asarray(values).reshape(-1).view(np.uint8)
