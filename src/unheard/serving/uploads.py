"""Uploaded sounds: decoded once, held in memory, never written to the disk."""

from __future__ import annotations

import os
import secrets
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile
from threading import Lock

import numpy as np
from jaxtyping import Float32

from unheard.audio.decode import open_sound
from unheard.audio.waveform import BLOCK, from_array
from unheard.errors import AudioError, shown
from unheard.serving.limits import Limits, RefusedError, not_found

MOST_RATE, MOST_CHANNELS = 192_000, 16
"""Largest sample rate in Hz and number of channels of an upload (our choice)."""

HELD_RATE = 48_000
"""Hz: uploads of a higher rate are resampled (our choice)."""

MOST_NAME = 200
"""Characters of a name that are kept."""


@dataclass(frozen=True)
class Upload:
    """An uploaded sound.

    Parameters
    ----------
    id, name : str
    wav : ndarray (S,)
        Mono.
    sample_rate : int
        Hz.
    note : str
        A note for the user, for example that the file is truncated; may be empty.
    """

    id: str
    name: str
    wav: Float32[np.ndarray, " S"]
    sample_rate: int
    note: str = ""

    @property
    def seconds(self) -> float:
        """Return the length."""
        return len(self.wav) / self.sample_rate


class Uploads:
    """The uploads of a server; when they exceed their memory, the oldest ones are dropped."""

    def __init__(self, limits: Limits) -> None:
        self._limits, self._lock = limits, Lock()
        self._held: OrderedDict[str, Upload] = OrderedDict()

    def add(self, name: str, content: bytes) -> Upload:
        """Decode an upload and hold it.

        Raises
        ------
        AudioError
            When it is no sound that can be read.
        RefusedError
            When it is too long.
        """
        made = decode(name, content, self._limits.upload_seconds)
        with self._lock:
            self._held[made.id] = made
            while sum(each.wav.nbytes for each in self._held.values()) > self._limits.held_bytes:
                self._held.popitem(last=False)
        return made

    def get(self, sound: str) -> Upload:
        """Return an upload by its id.

        Raises
        ------
        RefusedError
            With status 404, when there is none, or it was dropped.
        """
        with self._lock:
            if sound not in self._held:
                raise not_found(sound)
            self._held.move_to_end(sound)
            return self._held[sound]

    def remove(self, sound: str) -> None:
        """Drop an upload; errors as in `get`."""
        with self._lock:
            if self._held.pop(sound, None) is None:
                raise not_found(sound)

    def __contains__(self, sound: object) -> bool:
        return sound in self._held


def decode(name: str, content: bytes, seconds: float) -> Upload:
    """Decode the bytes of a sound file of at most ``seconds``. Errors as in `Uploads.add`."""
    label = shown(name[:MOST_NAME]) or "upload"
    with _as_file(content) as path:
        try:
            samples, rate, note = _samples(path, seconds)
            wav = from_array(samples.T, rate, min(rate, HELD_RATE))
        except AudioError as error:
            raise AudioError(str(error).replace(shown(path), label)) from None
    return Upload(f"u{secrets.token_hex(8)}", label, wav, min(rate, HELD_RATE), note)


def _samples(path: Path, seconds: float) -> tuple[Float32[np.ndarray, "S C"], int, str]:
    """Return the samples of a file of at most ``seconds``, their rate, and a note."""
    with open_sound(path) as file:
        if file.sample_rate > MOST_RATE or file.channels > MOST_CHANNELS:
            raise AudioError(
                f"{shown(path)}: {file.sample_rate} Hz and {file.channels} channels; uploads have at most"
                f" {MOST_RATE} Hz and {MOST_CHANNELS} channels"
            )
        most, blocks, came = round(seconds * file.sample_rate), [], 0
        while came <= most and len(block := file.read(min(BLOCK, most + 1 - came))):
            blocks.append(block)
            came += len(block)
        if came > most:
            raise RefusedError(413, f"the sound is longer than {seconds:g} s; cut it, or serve it as a file of FOLDER")
        if not blocks:
            raise AudioError(f"{shown(path)}: holds no samples")
        return np.concatenate(blocks), file.sample_rate, file.note


@contextmanager
def _as_file(content: bytes) -> Iterator[Path]:
    """Yield a path from which the decoders read the bytes: a file in memory, where the system has such."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("unheard-upload")
        try:
            with os.fdopen(descriptor, "wb", closefd=False) as file:
                file.write(content)
            yield Path(f"/proc/self/fd/{descriptor}")
        finally:
            os.close(descriptor)
    else:  # macOS: a temporary file while the sound is decoded
        with NamedTemporaryFile() as named:
            named.write(content)
            named.flush()
            yield Path(named.name)
