"""The trends of errors over kinds of sounds, on a dozen generated notes and effects."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import soundfile
from benchmarks import trends

RATE, SECONDS = 16000, 6
NUMBER = r"([+-]?\d\.\d{3}) \[([+-]?\d\.\d{3}), ([+-]?\d\.\d{3})\]"


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two task folders with six test clips each: steady and decaying notes, and noise in bursts."""
    folder, time = tmp_path_factory.mktemp("tasks"), np.arange(SECONDS * RATE) / RATE
    noise = np.random.default_rng(0).standard_normal(len(time))
    rows: dict[str, list[str]] = {task: ["path,label,split,group"] for task in trends.KINDS}
    notes, parts = trends.KINDS
    for number in range(6):
        steady = np.sin(2 * np.pi * (220 + 40 * number) * time)
        wav, label = (steady, "organ") if number < 3 else (steady * np.exp(-2 * time), "piano")
        sounds = {notes: (wav, label), parts: (noise * (np.sin(np.pi * (1 + number) * time) > 0), "effect")}
        for task, (samples, name) in sounds.items():
            (folder / task).mkdir(exist_ok=True)
            soundfile.write(folder / task / f"{number}.wav", 0.3 * samples + 0.003 * noise, RATE)
            rows[task].append(f"{number}.wav,{name},test,{name}{number % 3}")
    for task, lines in rows.items():
        soundfile.write(folder / task / "short.wav", np.zeros(100), RATE)
        soundfile.write(folder / task / "other.wav", 0.3 * noise, RATE)
        known = "effect" if task == parts else "organ"
        lines += [f"short.wav,{known},test,x", f"0.wav,{known},train,y", "other.wav,other,test,z"]
        (folder / task / "labels.csv").write_text("\n".join(lines) + "\n")
    return folder


def test_the_table_has_each_kind_with_intervals_and_the_figure_is_drawn(
    tasks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["trends", "random-tiny", str(tasks), "-o", str(tmp_path / "trends.png")])
    trends.main()
    printed = capsys.readouterr().out
    assert printed.startswith("12 windows of 12 sources\n")
    rows = dict(re.findall(r"^\| ([a-z ]+) \| \d+ \| (.*) \|$", printed, re.MULTILINE))
    counts = dict(re.findall(r"^\| ([a-z ]+) \| (\d+) \|", printed, re.MULTILINE))
    assert counts == {"sustained note": "3", "decaying note": "3", "effect": "6"}
    for row in rows.values():
        cells = [tuple(map(float, cell)) for cell in re.findall(NUMBER, row)]
        assert len(cells) == len(trends.MASKS)
        assert all(low <= value <= high and low < high and value > 0 for value, low, high in cells)
    assert next(iter(counts)) == "sustained note"  # rows are in the order of the change over time
    after = printed.split("rank correlation")[1]
    others = [tuple(map(float, cell)) for cell in re.findall(NUMBER, after)]
    assert len(others) == 2 * len(trends.MASKS) + 2 and all(low <= value <= high for value, low, high in others)
    assert (tmp_path / "trends.png").stat().st_size > 5000


def test_the_change_over_time_is_the_variance_within_bands() -> None:
    import torch

    bands = torch.arange(4.0)[:, None].expand(4, 10)
    times = torch.arange(10.0).expand(4, 10)
    assert trends.change_over_time(torch.stack([bands, times])) == pytest.approx([0, 1])
