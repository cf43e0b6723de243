"""Sounds that benchmarks generate. Needs no package of a peer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile

SECONDS, RATE = 10, 44100  # of each sound


def write_clips(folder: Path, clips: int) -> list[Path]:
    """Stereo MP3 files: bursts of noise whose amplitude falls with 1/f, over a tone."""
    rng, samples = np.random.default_rng(0), SECONDS * RATE
    frequencies = np.maximum(np.fft.rfftfreq(samples, 1 / RATE), 50)
    files = []
    for number in range(clips):
        noise = np.fft.irfft(np.fft.rfft(rng.normal(0, 50, (samples, 2)), axis=0) / frequencies[:, None], samples, 0)
        loud = np.repeat(rng.uniform(0.05, 1, SECONDS * 4), RATE // 4)[:, None]
        tone = 0.1 * np.sin(np.arange(samples) * 2 * np.pi * rng.uniform(100, 2000) / RATE)[:, None]
        files.append(folder / f"{number:03}.mp3")
        soundfile.write(files[-1], np.clip(loud * noise + tone, -0.9, 0.9), RATE, format="MP3")
    return files
