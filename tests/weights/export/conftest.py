"""Exported files, made once."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

import unheard

HAS_ONNX = all(importlib.util.find_spec(package) for package in ("onnx", "onnxruntime", "onnxscript"))


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model folder and an ONNX file for each front end, named by its kind."""
    if not HAS_ONNX:
        pytest.skip("the extra onnx is not installed")
    place = tmp_path_factory.mktemp("exported")
    script = Path(__file__).with_name("models.py")
    env = {**os.environ, "PYTHONPATH": str(Path(unheard.__file__).parents[1])}
    done = subprocess.run([sys.executable, script, place], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return place
