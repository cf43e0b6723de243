"""Open a sound file and decode it to its end, whatever length its header states.

libsndfile decodes wav (8, 16, 24, 32 bit and float), flac, ogg, opus, mp3 and aiff. PyAV (the extra ``av``) decodes the
other formats that FFmpeg reads.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from functools import cache
from io import BufferedReader
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from jaxtyping import Float32

from unheard.addresses import address_of
from unheard.audio.archives.members import byte_size, find_member, open_bytes, refuse_archive
from unheard.audio.container import Container, Patched, inspect
from unheard.audio.decoder import Decoder
from unheard.audio.limits import RATES
from unheard.audio.standard_input import StandardInput, is_standard_input
from unheard.audio.suffixes import AV_SUFFIXES
from unheard.errors import AudioError, RemoteError, UnheardError, require, shown
from unheard.remote.listing import entry_of

TABLES = frozenset({".csv", ".tsv", ".txt", ".json", ".xlsx"})
"""Suffixes of tables and texts, which users give by mistake in place of a sound file."""

_ESTIMATED = frozenset({"MP3", "OGG"})
"""Formats whose header only estimates the length: a few samples may be missing at the end."""

_FLAC_PIECE = 1 << 12
"""Samples of a flac file that are decoded at once: the usual block size."""

_SOFT_END = 0.05
"""Seconds that may be missing at the end of a file in one of these formats."""

_RAW = frozenset({"AAC", "AC3", "AMR"})
"""Formats of FFmpeg without a container: the length is estimated from the bit rate, and can be many times too large."""

_PRIMING = 0.2
"""Seconds by which the declared length of a container may exceed its sound, for samples that prime the codec (our
choice).
"""


_OGG_LAST_PAGE = 255 * 120 * 48
"""Samples in one page of an ogg file: at most 255 packets of 120 ms at 48 kHz."""

_OGG_LEAD = 1.0
"""Seconds of an ogg file that are decoded before the requested start; opus needs 0.08 (our choice)."""


def open_sound(path: str | Path) -> Decoder:
    """Open a sound file, here or at an address, or a member of an archive.

    Raises
    ------
    AudioError
        When it is missing, is not a supported sound file, or has a sample rate out of range.
    """
    decoder = StandardInput(str(path)) if is_standard_input(path) else _open_file(Path(path))
    if not RATES[0] <= decoder.sample_rate <= RATES[1]:
        decoder.close()
        raise AudioError(
            f"{shown(path)}: its header states {decoder.sample_rate} Hz; accepted are {RATES[0]} to {RATES[1]} Hz, so"
            " the header is damaged"
        )
    return decoder


def _open_file(path: Path) -> Decoder:
    suffix = path.suffix.lower()
    try:
        member = _is_member(path)
        if suffix in TABLES:
            raise AudioError(
                f"{shown(path)}: a table or text, not a sound file; give sound files or the folder that holds them"
            )
        if not byte_size(path):
            raise AudioError(f"{shown(path)}: not a sound file: it is empty")
        container = inspect(path)
        if not container.sound:
            raise AudioError(f"{shown(path)}: not a sound file that can be read: it holds no mp3 frame")
        return _Av(path, member) if suffix in AV_SUFFIXES else _Sndfile(path, container, member)
    except RemoteError as error:  # it names the file
        raise AudioError(str(error)) from error
    except OSError as error:
        raise AudioError(f"{shown(path)}: cannot be read ({error.strerror or error})") from error


def _is_member(path: Path) -> bool:
    """Return whether a path names a member of an archive or an address rather than a local file; refuse what is
    neither.
    """
    address = address_of(path)
    if not address and path.is_file():
        refuse_archive(path)
        return False
    if find_member(path) is not None:
        return True
    if address:
        refuse_archive(path)
        entry_of(address)  # raises the reason why it cannot be read
        return True
    raise AudioError(
        f"{shown(path)}: is a folder; give one sound file" if path.is_dir() else f"{shown(path)}: no such file"
    )


@cache
def av_installed() -> bool:
    """Return whether the extra ``av`` is installed."""
    return importlib.util.find_spec("av") is not None


class _Sequential(soundfile.SoundFile):  # type: ignore[misc]
    """A sound file that is read sequentially.

    soundfile seeks after each read of a seekable file, which corrupts the next samples of an mp3 file.
    """

    def seekable(self) -> bool:
        """Return False."""
        return False


class _Sndfile(Decoder):
    """A file that libsndfile decodes."""

    def __init__(self, path: Path, container: Container, member: bool) -> None:
        self.path, self.note = path, container.note
        self._source: BufferedReader | Patched | None = open_bytes(path) if member or container.head else None
        if container.head and self._source is not None:
            self._source = Patched(self._source, container.head, container.skip)
        try:
            self._file = _Sequential(os.fsencode(path) if self._source is None else self._source)
        except (RuntimeError, TypeError, ValueError) as error:
            self.close()
            raise AudioError(f"{shown(path)}: not a sound file that can be read; convert it to wav or flac") from error
        self.sample_rate, self.channels = self._file.samplerate, self._file.channels
        self.format, self.subtype = self._file.format, self._file.subtype
        self.frames = (
            self._file.frames if self._file.frames < 2**62 else 0
        )  # the value of libsndfile for an unknown length
        if self.format == "FLAC" and container.frames is not None:
            self.frames = container.frames

    def _next(self, count: int) -> Float32[np.ndarray, "S C"]:
        try:  # where a flac file is damaged, the whole requested block is lost
            count = _FLAC_PIECE if self.format == "FLAC" else count
            samples: Float32[np.ndarray, "S C"] = self._file.read(count, dtype="float32", always_2d=True)
            return samples
        except (RuntimeError, ValueError, OSError):
            if self.frames <= 0 and not self.note:  # otherwise the declared length names what is missing
                self.note = f"it is truncated: it is damaged after {self.came} samples"
            return np.zeros((0, self.channels), np.float32)

    def _ended(self) -> None:
        missing = self.frames - self.came
        if not self.note and missing > (_SOFT_END * self.sample_rate if self.format in _ESTIMATED else 0):
            self.note = f"it is truncated: its header declares {self.frames} samples, it holds {self.came}"

    def skip(self, count: int) -> None:
        target = self.came + count
        place = self._seekable_place(target)
        if place > self.came:
            try:
                self.came = self._file.seek(place)
            except (RuntimeError, ValueError) as error:
                raise AudioError(f"{shown(self.path)}: it is truncated before the requested part") from error
        super().skip(target - self.came)

    def _seekable_place(self, target: int) -> int:
        """Return the last sample at or before ``target`` where decoding gives the samples of the whole file; 0: the
        beginning.

        The samples of mp3 depend on the preceding ones. libsndfile places the last page of vorbis wrongly, as if it
        were full. Some subtypes, such as GSM 6.10, are not seekable.
        """
        if self.format == "MP3" or not soundfile.SoundFile.seekable(self._file):
            return 0
        if self.format == "OGG":
            return max(0, min(target - round(_OGG_LEAD * self.sample_rate), self.frames - _OGG_LAST_PAGE))
        return target

    def close(self) -> None:
        if hasattr(self, "_file"):
            self._file.close()
        if self._source is not None:
            self._source.close()


class _Av(Decoder):
    """A file that FFmpeg decodes: its first audio track."""

    def __init__(self, path: Path, member: bool) -> None:
        try:
            require("av", "av")
        except UnheardError as error:
            raise AudioError(f"{shown(path)}: {error}") from error
        import av

        self.path, self.note = path, ""
        self._source = open_bytes(path) if member else None
        name = os.fsencode(path).decode("utf-8", "surrogateescape")
        try:
            self._container = av.open(name if self._source is None else self._source, metadata_errors="ignore")
        except (OSError, ValueError, av.FFmpegError) as error:
            raise AudioError(f"{shown(path)}: not a sound file that can be read; convert it to wav or flac") from error
        if not self._container.streams.audio:
            self._container.close()
            raise AudioError(f"{shown(path)}: it holds no audio track")
        stream = self._container.streams.audio[0]
        self.sample_rate, self.channels = int(stream.rate or 0), int(stream.channels or 1)
        self.format, self.subtype = (
            str(self._container.format.name).split(",")[0].upper(),
            str(stream.codec_context.name).upper(),
        )
        seconds = (
            float(stream.duration * stream.time_base) if stream.duration else float(self._container.duration or 0) / 1e6
        )
        self.frames = 0 if self.format in _RAW else round(seconds * self.sample_rate)
        # the length of the container is that of its longest track
        self._declared = self.frames if stream.duration or len(self._container.streams) == 1 else 0
        self._blocks = self._decode(stream)

    def _decode(self, stream: Any) -> Iterator[Float32[np.ndarray, "S C"]]:
        import av

        resampler = av.AudioResampler(format="fltp")
        try:
            for frame in self._container.decode(stream):
                yield from (each.to_ndarray().T for each in resampler.resample(frame) if each.samples)
            yield from (each.to_ndarray().T for each in resampler.resample(None) if each.samples)
        except (OSError, ValueError, av.FFmpegError):
            self.note = f"it is truncated: it is damaged after {self.came} samples"

    def _ended(self) -> None:
        if not self.note and self._declared - self.came > _PRIMING * self.sample_rate:  # FFmpeg ends without an error
            self.note = f"it is truncated: its header declares {self._declared} samples, it holds {self.came}"

    def _next(self, count: int) -> Float32[np.ndarray, "S C"]:
        block = next(self._blocks, None)
        return np.zeros((0, self.channels), np.float32) if block is None else block.astype(np.float32, copy=False)

    def close(self) -> None:
        self._container.close()
        if self._source is not None:
            self._source.close()
