"""Losses, gradients and running statistics are those of the whole batch, whatever the processes and the parts it is
split into.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np

SCRIPT = Path(__file__).with_name("global_batch.py")
Found = dict[int, dict[str, np.ndarray]]

AVX2 = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"}
"""Every x86 processor rounds as those for which the bounds below were measured."""


def results(folder: Path) -> Found:
    """Return what the script finds, by number of processes."""
    found = {}
    for processes in (1, 2, 3):
        start = (
            ["-m", "torch.distributed.run", "--nproc-per-node", str(processes), "--standalone"] if processes > 1 else []
        )
        file = folder / f"{processes}.npz"
        command = [sys.executable, *start, str(SCRIPT), str(file)]
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, env={**os.environ, **AVX2, "OMP_NUM_THREADS": "1"}
        )
        assert done.returncode == 0, done.stderr[-3000:]
        found[processes] = dict(np.load(file))
    return found


def whole(key: str) -> str:
    """The same quantity of one process with one part."""
    kind, _, name = key.split("|")
    return f"{kind}|1|{name}"


def test_gradients_losses_and_statistics_are_those_of_the_whole_batch(tmp_path: Path) -> None:
    found = results(tmp_path)
    assert {key.split(",")[0] for key in found[1]} >= {"supervise", "prototypes", "distill and supervise", "contrast"}
    for processes, values in found.items():
        for key, value in values.items():
            expected = found[1][whole(key)].astype(np.float64)
            error = np.linalg.norm(value - expected) / max(np.linalg.norm(expected), 1e-3)
            # Adam divides by small numbers, so rounding grows in a step
            assert error <= (1e-6 if "|0/" in key else 3e-6), (processes, key, error)
    # no label is no loss, and one label is a whole one
    losses = {n: float(found[1][f"supervise, {n} labelled|1|0/loss/supervise"]) for n in (0, 1, 24)}
    assert losses[0] == 0 and losses[1] > 0.1 and losses[24] > 0.1
    # an empty gradient is not what is compared
    sizes = {key: np.linalg.norm(value) for key, value in found[1].items() if key.endswith("gradient")}
    assert min(sizes.values()) > 1e-2
