"""Files on which a decoder makes the process die."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path

from unheard.audio.waveform import stream
from unheard.errors import UnheardError


def in_work(file: Path) -> list[str]:
    """Return the different sounds that were being read when a process died, as `TableWriter.begin` records them."""
    return list(map(os.fsdecode, dict.fromkeys(filter(None, file.read_bytes().split(b"\0")))))


def count_death(deaths: dict[str, int], path: str, partial: bool) -> None:
    """Count a death on a file. One that is ``partial``, with rows and more to come, is never counted twice: the process
    may have died elsewhere in it, so it is decoded before it is left out.
    """
    deaths[path] = 1 if partial else deaths.get(path, 0) + 1


def fatal_files(deaths: dict[str, int], sample_rate: int) -> dict[str, str]:
    """Return files to leave out, with the reason: the process died twice on them, or their decoder crashes."""
    reason = "the process died while it read this file; try it alone, or convert it to wav or flac"
    dead = [path for path, count in deaths.items() if count > 1]
    left = [path for path in deaths if path not in dead]
    if left and not decodes(left, sample_rate):
        dead += [path for path in left if not decodes([path], sample_rate)]
    return dict.fromkeys(dead, reason)


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
