"""The interface of what decodes a sound from its beginning."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType

import numpy as np
from jaxtyping import Float32

from unheard.errors import AudioError, shown


class Decoder(ABC):
    """A sound file that is decoded from its beginning; a context manager.

    Attributes
    ----------
    path : Path
    sample_rate : int
        Hz.
    channels : int
    frames : int
        Samples per channel that the header declares, or the best estimate; at most 0 when it declares nothing.
    format, subtype : str
        libsndfile's names, such as "WAV" and "PCM_16".
    note : str
        A note for the user, for example that the file is truncated; may grow while the file is read.
    """

    path: Path
    sample_rate: int
    channels: int
    frames: int
    format: str
    subtype: str
    note: str

    def __enter__(self) -> Decoder:
        """Return the file."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()

    came: int = 0
    """Samples per channel that were decoded."""
    _held: Float32[np.ndarray, "S C"] | None = None

    def read(self, count: int) -> Float32[np.ndarray, "S C"]:
        """Return the next ``count`` samples of every channel, or as many as there are; none at the end.

        Raises
        ------
        AudioError
            When the file is damaged before its first sample.
        """
        parts = [] if self._held is None else [self._held]
        there = sum(map(len, parts))
        while there < count and len(part := self._next(count - there)):
            parts.append(part)
            there += len(part)
            self.came += len(part)
        joined = parts[0] if len(parts) == 1 else np.concatenate([np.zeros((0, self.channels), np.float32), *parts])
        self._held = joined[count:]
        if there < count:
            self._ended()
            if self.note and not self.came:
                raise AudioError(f"{shown(self.path)}: {self.note}")
        return joined[:count]

    @abstractmethod
    def _next(self, count: int) -> Float32[np.ndarray, "S C"]:
        """Decode about ``count`` more samples; none at the end or where the file is damaged."""

    def _ended(self) -> None:  # noqa: B027 - not all files announce a length
        """Compare the number of decoded samples with the declared one."""

    def skip(self, count: int) -> None:
        """Skip samples."""
        while count > 0 and (came := len(self.read(min(count, 1 << 20)))):
            count -= came

    @abstractmethod
    def close(self) -> None:
        """Close the file."""
