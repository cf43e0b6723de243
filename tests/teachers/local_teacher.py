"""A corpus of generated sounds and teachers whose maps depend on the sound under each column only."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from jaxtyping import Float
from torch import Tensor

from unheard.teachers import storing, target_tasks, targets
from unheard.teachers.align import FeatureMapAxes
from unheard.teachers.teacher import FrozenTeacher

RATE, HOP = 16000, 160
SECONDS = (26.3, 0.2, 3.01, 10.0, 1.7, 12.4)


class LocalTeacher(FrozenTeacher):
    """Moments of the samples of each hop, times two rows: low frequencies, and their sign reversed."""

    def __init__(self, dim: int = 5, hop: int = HOP, seed: int = 0) -> None:
        super().__init__()
        self.sample_rate, self.dim, self.hop, self.calls = RATE, dim, hop, 0
        self.name, self.fingerprint = f"local {dim} {hop} {seed}", f"{dim}-{hop}-{seed}"
        generator = torch.Generator().manual_seed(seed)
        self.register_buffer("mix", torch.randn(dim, 3, generator=generator))
        self.freeze()

    def axes(self, samples: int) -> FeatureMapAxes:
        """A column for every hop, also for the part of one at the end."""
        count = -(-samples // self.hop)
        return FeatureMapAxes((1000.0,), tuple((np.arange(count) + 0.5) * self.hop / RATE))

    def extract(self, wav: Float[Tensor, "B S"]) -> Float[Tensor, "B C f t"]:
        """Moments of each hop, mixed."""
        self.calls += 1
        cut = torch.nn.functional.pad(wav, (0, -wav.shape[1] % self.hop)).unflatten(1, (-1, self.hop))
        moments = torch.stack([cut.mean(-1), cut.square().mean(-1), cut.abs().amax(-1)], dim=1)
        found = torch.einsum("cm,bmt->bct", self.mix, moments * 10)
        return torch.stack([found, -2 * found], dim=2)


def write_sounds(folder: Path, seconds: tuple[float, ...] = SECONDS, seed: int = 0) -> Path:
    """Noise whose level changes."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(seed)
    for number, length in enumerate(seconds):
        size = round(length * RATE)
        level = 0.2 * np.abs(np.sin(np.arange(size) / RATE * (1 + number)))
        soundfile.write(folder / f"{number}.wav", level * generator.standard_normal(size), RATE, subtype="PCM_16")
    return folder


def use(monkeypatch: pytest.MonkeyPatch, *teachers: FrozenTeacher) -> None:
    """Let names of teachers be indices into a list."""

    def load(name: str, *, stage: str = "final", projected: bool = False) -> FrozenTeacher:
        return teachers[int(name)]

    monkeypatch.setattr(storing, "load_teacher", load)
    monkeypatch.setattr(targets, "load_teacher", load)
    monkeypatch.setattr(target_tasks, "load_teacher", load)
