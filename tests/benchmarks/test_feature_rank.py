"""The rank of embeddings over frames and clips."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))  # benchmarks/ is not installed

from benchmarks import feature_rank

from unheard.datasets.generate import make_sounds


def test_the_rank_of_equal_and_of_orthogonal_directions() -> None:
    assert feature_rank.rank(np.tile([[1.0, 2.0, 3.0]], (5, 1)).astype(np.float32)) == pytest.approx(1, abs=1e-3)
    directions = np.concatenate([np.eye(4), -np.eye(4)]).astype(np.float32)
    assert feature_rank.rank(directions) == pytest.approx(4, rel=1e-3)


def test_it_prints_a_row_for_each_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sounds = make_sounds(tmp_path / "sounds", 12).parent
    monkeypatch.setattr(sys, "argv", ["feature_rank", "random-tiny", "--sounds", str(sounds), "--clips", "4"])
    feature_rank.main()
    *_, row = capsys.readouterr().out.splitlines()
    _, name, frames, clips, _ = (cell.strip() for cell in row.split("|"))
    assert name == "random-tiny" and float(frames) > 1 and 1 < float(clips) < 4
