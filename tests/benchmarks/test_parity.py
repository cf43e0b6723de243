"""Tolerances of the comparison with reference outputs."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))  # benchmarks/ is not installed

from benchmarks.parity import hear
from benchmarks.parity.compare import Comparison, log_mel_tolerance


def test_quiet_bands_of_a_frame_have_the_wider_tolerance(capsys: pytest.CaptureFixture[str]) -> None:
    stored = np.array([[[0.0, -20.0], [-12.9, -20.0], [-13.1, -6.0]]])  # (B, F, T)
    near = log_mel_tolerance(stored)
    assert near.tolist() == [[[3e-4, 5e-4], [3e-4, 5e-4], [5e-4, 3e-4]]]
    assert log_mel_tolerance(stored / 5, nats=5).tolist() == near.tolist()
    table = Comparison()
    table.check("quiet", np.add(stored, [[[0, 0.00049], [0, 0.00049], [0.00049, 0]]]), stored, near)
    assert table.last_line() == 0
    table.check("loud", np.add(stored, [[[0.00031, 0], [0, 0], [0, 0]]]), stored, near)
    assert table.last_line() == 1
    assert "parity: 2 compared, 1 outside" in capsys.readouterr().out


def test_tasks_of_any_name_have_a_spread() -> None:
    assert hear.spread_of("tiny_tags") == 0.029 and hear.spread_of("another_task") == max(hear.SPREAD.values())
