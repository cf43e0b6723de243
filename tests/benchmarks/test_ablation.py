"""The sweep over recipes: equal data, a table with intervals, a figure; the same command continues it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from benchmarks.ablation import sweep
from benchmarks.ablation.__main__ import main

from unheard.datasets.generate import make_sounds

SMALL = ("training.batch_size=4", "model.frames=32", "mask.views=2")


@pytest.fixture
def sounds(tmp_path: Path) -> Path:
    make_sounds(tmp_path / "sounds", 12)
    return tmp_path / "sounds"


@pytest.mark.slow
def test_arms_with_several_front_ends_are_trained_scored_and_tabled(
    sounds: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = sounds.parent / "out"
    settings = [word for each in SMALL for word in ("--set", each)]
    lengths = ["--arms", "msm-mae,eat", "--seeds", "0,1", "--views", "16", "--points", "1"]
    monkeypatch.setattr(
        "sys.argv", ["ablation", str(sounds), str(sounds / "labels.csv"), "-o", str(out), *lengths, *settings]
    )
    assert main() == 0
    table = (out / "table.md").read_text()
    rows = {line.split("|")[1].strip(): line.split("|") for line in table.splitlines() if line.startswith("| ")}
    assert {"log-mel", "untrained", "msm-mae", "eat"} <= rows.keys()
    assert all(rows[arm][3].strip() == "2" and float(rows[arm][5]) == 16 for arm in ("msm-mae", "eat"))
    assert all(0 <= float(row[8].split()[0]) <= 1 for arm, row in rows.items() if arm != "arm")
    assert (out / "score.png").stat().st_size > 5000
    assert sorted(folder.name for folder in (out / "corpora").iterdir()) == ["wav-eat", "wav-msm-mae"]
    scored = (out / "scores.jsonl").read_bytes()
    assert main() == 0 and (out / "scores.jsonl").read_bytes() == scored


def test_a_run_that_is_stopped_ends_the_sweep(sounds: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = sounds.parent / "out"
    monkeypatch.setattr(sweep, "pretrain", lambda *given, **more: SimpleNamespace(finished=False, step=3))
    words = ["ablation", str(sounds), str(sounds / "labels.csv"), "-o", str(out), "--arms", "pixels,latents"]
    monkeypatch.setattr("sys.argv", words)
    with pytest.raises(SystemExit, match="pixels-0 stopped at step 3; the same command continues it"):
        main()
    assert not (out / "scores.jsonl").exists()
