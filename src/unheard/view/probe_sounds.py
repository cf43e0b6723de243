"""Sounds embedded in a page: mono, 16 kHz, the first seconds of as many clips as fit."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import soundfile

from unheard.audio.waveform import read
from unheard.errors import AudioError
from unheard.progress import Track, silent

RATE, SECONDS = 16000, 3.0  # of a sound in a page; our choice: long enough to recognise it
MOST_SOUNDS, MOST_BYTES = 600, 6_000_000  # maxima of a page; our choice, so that it opens quickly
LIMITS = (
    f"the first {SECONDS:g} s of at most {MOST_SOUNDS} clips, mono at {RATE // 1000} kHz, at most"
    f" {MOST_BYTES // 1_000_000} MB"
)


def embedded(clips: Iterable[tuple[int, Path, float | None, float | None]], track: Track = silent) -> dict[int, str]:
    """Return sounds as data URLs by clip number, up to `MOST_SOUNDS` or `MOST_BYTES`.

    Parameters
    ----------
    clips : iterable of (number, path, start, end)
        Clips in order of priority; times in seconds or None. Missing files are skipped.
    """
    wanted = list(clips)[:MOST_SOUNDS]
    found: dict[int, str] = {}
    room = MOST_BYTES
    for number, path, start, end in track(wanted, len(wanted), "sounds for the page"):
        begin = start or 0.0
        try:
            wav, _ = read(path, RATE, start=begin, seconds=min(SECONDS, SECONDS if end is None else end - begin))
        except AudioError:
            continue
        sound = encoded(wav)
        room -= len(sound)
        if room < 0:
            break
        found[number] = sound
    return found


def encoded(wav: np.ndarray) -> str:
    """Return a data URL in MP3, or in WAV if libsndfile cannot write MP3."""
    kind, mime = ("MP3", "audio/mpeg") if "MP3" in soundfile.available_formats() else ("WAV", "audio/wav")
    buffer = io.BytesIO()
    soundfile.write(buffer, np.clip(wav, -1, 1), RATE, format=kind)
    return f"data:{mime};base64,{base64.b64encode(buffer.getvalue()).decode()}"
