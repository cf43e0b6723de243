"""A step compiles into one graph: nothing in a pass waits for another process or for a value of a tensor."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from unheard.recipes import RECIPES

ROOT = Path(__file__).parent.parent.parent
DIFFERENT = [name for name in RECIPES if not name.startswith("msm-mae-")]
"""The nine configurations of MSM-MAE compute the same operations as the recipe without a suffix."""


@pytest.mark.parametrize(
    ("processes", "accumulate", "names"),
    [(1, 1, DIFFERENT), (2, 1, ["clap-mini", "sup-mam-clap"]), (2, 2, ["matpac++", "sslam"])],
)
def test_a_step_is_one_graph(processes: int, accumulate: int, names: list[str], tmp_path: Path) -> None:
    """In processes of their own: the type checks of the tests would be compiled, too."""
    start = ["-m", "torch.distributed.run", "--nproc-per-node", str(processes), "--standalone"] if processes > 1 else []
    script = ["-m", "tests.training.compiled_steps", str(tmp_path / "found.json"), str(accumulate), *names]
    path = f"{ROOT}:{os.environ.get('PYTHONPATH', '')}"
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    command = [sys.executable, *start, *script]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads((tmp_path / "found.json").read_text()) == dict.fromkeys(names, 1)
