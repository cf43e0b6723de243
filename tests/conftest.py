"""Test setup before the library is imported: shapes are checked on every call, and runs use one thread."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pytest
import torch
from hypothesis import settings
from jaxtyping import install_import_hook

install_import_hook("unheard", "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))")

# No deadlines: a loaded machine is not a bug. Derandomised: the same examples on every machine.
settings.register_profile("house", deadline=None, derandomize=True, max_examples=40, database=None)
settings.load_profile("house")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs a GPU where there is none."""
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="there is no CUDA device here"))
