"""Sounds and packed corpora that benchmarks generate. Needs no package of a peer."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import soundfile
from jaxtyping import Int

from unheard.audio.frontend import LogMelConfig, Statistics
from unheard.audio.frontend_kinds import AnyFrontendConfig
from unheard.data.shard_layout import HEADER, Dtype, Header, Index, Texts, describe, shard_name, value_range
from unheard.data.shard_writing import write_summary
from unheard.files import file_checksum

SECONDS, RATE = 10, 44100  # of each sound


def write_clips(folder: Path, clips: int) -> list[Path]:
    """Write stereo MP3 files: bursts of noise whose amplitude falls with 1/f, over a tone."""
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


def write_corpus(
    folder: Path, frames: Int[np.ndarray, " n"], dtype: Dtype, frontend: AnyFrontendConfig = LogMelConfig()
) -> Path:
    """Write a packed corpus of clips with these numbers of frames.

    With uint8, the values are random and have a checksum. Otherwise the shard is a sparse file without one, for corpora
    that are only opened.
    """
    folder.mkdir()
    ends, bands, shard = np.cumsum(frames), frontend.n_mels, folder / shard_name(0)
    if dtype == "uint8":
        np.random.default_rng(0).integers(0, 256, int(ends[-1]) * bands, np.uint8).tofile(shard)
        checksum = file_checksum(shard)
    else:
        shard.touch()
        os.truncate(shard, int(ends[-1]) * bands * np.dtype(dtype).itemsize)
        checksum = "0"
    clips = len(frames)
    names = Texts.of([f"audio/{clip:08d}.flac" for clip in range(clips)])
    zero, domains = np.zeros(clips, np.int64), Texts.of(["speech"] * clips)
    index = Index(zero, ends - frames, frames, names, domains, np.zeros(clips), frames * 0.01)
    low, high = limits = value_range(frontend)
    mean, deviation = (low + high) / 2, (high - low) / 12**0.5  # of uniform values
    whole, of_bands = (Statistics((mean,) * count, (deviation,) * count) for count in (1, bands))
    header = Header(frontend, dtype, whole, of_bands, "made", value_range=limits if dtype == "uint8" else None)
    write_summary(folder, (HEADER, describe(header, index)), index.arrays(), [checksum])
    return folder
