"""The loop of the view Label, over a planted class."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from benchmarks import rare_sounds
from benchmarks.rare_sounds import Kind

from unheard.audio.resynthesis import write_wave

RATE = 16000


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Sixty noises, twelve of them with a tone, and a manifest as that of ``unheard data fetch``."""
    rng, rows = np.random.default_rng(0), []
    for number in range(60):
        name = f"tones/{number}.wav" if number < 12 else f"noises/{number}.wav"
        wave = 0.1 * rng.standard_normal(RATE).astype(np.float32)
        if number < 12:
            wave += 0.5 * np.sin(2 * np.pi * (400 + number) * np.arange(RATE) / RATE).astype(np.float32)
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write_wave(wave, RATE, tmp_path / name)
        rows.append({"path": name, "seconds": "1.0"})
    with (tmp_path / "manifest.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ("path", "seconds"))
        writer.writeheader()
        writer.writerows(rows)
    return tmp_path


def test_a_planted_class_is_found(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rare_sounds, "KINDS", {"tones": Kind(("tones/*",))})
    monkeypatch.setattr("sys.argv", ["rare_sounds", "random-tiny", str(corpus), "-o", str(corpus / "out")])
    rare_sounds.main()
    found = (corpus / "out" / "table.md").read_text()
    row = next(line for line in found.splitlines() if line.startswith("| tones"))
    clips, positive, ap = (float(cell) for cell in row.split("|")[2:5])
    assert clips == 12 and positive == 12 and ap > 0.9, row
    assert "6 repetitions; precision of 0.8 or better in 1.00 of them; nothing detected in 0." in found
