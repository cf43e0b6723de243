"""X-ARES task folders and an encoder, made up for tests."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch

RATE = 2000


class Bands:
    """An encoder of 8 log energies per 0.1 s, less half of the clip's mean, so that padding changes its vectors."""

    sample_rate, hop_ms, width = RATE, 100.0, 8

    def __init__(self, name: str = "bands") -> None:
        self.name, self.identity, self.options, self.calls = name, name, dict[str, Any](), list[tuple[int, int]]()

    def timestamps(self, audio: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        self.calls.append((audio.shape[0], audio.shape[1]))
        hop = int(self.hop_ms * RATE / 1000)
        frames = audio[:, : max(1, audio.shape[1] // hop) * hop]
        frames = torch.nn.functional.pad(frames, (0, max(0, hop - frames.shape[1]))).unflatten(1, (-1, hop))
        power = torch.fft.rfft(frames).abs().square()[..., : 12 * self.width].unflatten(-1, (self.width, -1)).mean(-1)
        log = torch.log(power + 1e-3)
        times = (torch.arange(log.shape[1]) + 0.5) * self.hop_ms
        return log - 0.5 * log.mean(dim=1, keepdim=True), times.expand(len(log), -1)

    def scenes(self, audio: torch.Tensor) -> torch.Tensor:
        return self.timestamps(audio)[0].mean(dim=1)


def tone(hertz: float, seconds: float, seed: int = 0, rate: int = RATE) -> np.ndarray:
    """A tone with a little noise."""
    time = np.arange(round(seconds * rate)) / rate
    noise = np.random.default_rng(seed).standard_normal(len(time))
    return (0.3 * np.sin(2 * np.pi * hertz * time) + 0.02 * noise).astype(np.float32)


def wav(samples: np.ndarray, rate: int = RATE) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format="WAV", subtype="FLOAT")
    return file.getvalue()


def write_tar(path: Path, members: Sequence[tuple[str, bytes]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in members:
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return path


def members(samples: Mapping[str, tuple[np.ndarray, Any]]) -> list[tuple[str, bytes]]:
    """The members of samples: key -> (sound, json)."""
    return [
        part
        for key, (sound, record) in samples.items()
        for part in ((f"{key}.wav", wav(sound)), (f"{key}.json", json.dumps(record).encode()))
    ]


EMOTIONS = ("H", "S", "A")


def cremad(root: Path, clips: int = 24) -> Path:
    """A small CREMA-D: three tones of different lengths in each split, the training split in two shards."""
    folder = root / "cremad"
    for number, (split, count) in enumerate((("train", clips), ("valid", 9), ("test", 12))):
        samples = {}
        for k in range(count):
            sound = tone(150 * (1 + k % 3), 0.5 + 0.05 * (k % 4), 100 * number + k)
            samples[f"{split}_{k:03d}"] = (sound, {"label": EMOTIONS[k % 3]})
        names = list(samples)
        halves = (names[: count // 2], names[count // 2 :]) if split == "train" else (names,)
        for shard, part in enumerate(halves):
            write_tar(folder / f"wds-audio-{split}-{shard:06d}.tar", members({name: samples[name] for name in part}))
    return folder
