"""Files on which a decoder makes the process die."""

from __future__ import annotations

import multiprocessing

from unheard.audio.waveform import stream
from unheard.errors import UnheardError


def decodes(paths: list[str], sample_rate: int) -> bool:
    """Return whether another process can read files to their ends without dying."""
    process = multiprocessing.get_context("spawn").Process(target=_decode, args=(paths, sample_rate))
    process.start()
    process.join()
    return (process.exitcode or 0) >= 0  # negative: a signal ended it


def _decode(paths: list[str], sample_rate: int) -> None:
    for path in paths:
        try:
            for _ in stream(path, sample_rate):
                pass
        except UnheardError:
            pass  # an error is not a crash: embedding reports the file
