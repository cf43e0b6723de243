"""Test setup before the library is imported: shapes are checked on every call, and runs use one thread."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pytest
import torch
from hypothesis import settings
from jaxtyping import install_import_hook

if TYPE_CHECKING:
    from tests.evaluation.made import Levels

install_import_hook("unheard", "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))")

# No deadlines: a loaded machine is not a bug. Derandomised: the same examples on every machine.
settings.register_profile("house", deadline=None, derandomize=True, max_examples=40, database=None)
settings.register_profile("long", deadline=None, derandomize=True, max_examples=500, database=None)
settings.load_profile("house")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--slow``."""
    parser.addoption("--slow", action="store_true", help="also run tests that take minutes, such as the docs' commands")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip what needs a GPU where there is none, and what takes minutes unless asked for."""
    reasons = {}
    if not torch.cuda.is_available():
        reasons["gpu"] = "there is no CUDA device here"
    if not config.getoption("--slow"):
        reasons["slow"] = "takes minutes; run it with --slow"
    for item in items:
        for marker, reason in reasons.items():
            if item.get_closest_marker(marker):
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def hf_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return the folder of a tiny audio encoder of transformers by its type; each is made once."""
    pytest.importorskip("transformers")
    from tests.hf_models import save_hf_model

    made: dict[str, Path] = {}

    def folder(kind: str) -> Path:
        if kind not in made:
            made[kind] = save_hf_model(kind, tmp_path_factory.mktemp("hf") / kind)
        return made[kind]

    return folder


@pytest.fixture(scope="session")
def stand_in_place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with generated sounds, and a stand-in for the built-in model in ``builtin``."""
    from tests.stand_in import make_stand_in

    return make_stand_in(tmp_path_factory.mktemp("stand-in"))


@pytest.fixture
def stand_in(stand_in_place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """As `stand_in_place`; the stand-in is the built-in model during the test."""
    monkeypatch.setattr("unheard.weights.built_in.FOLDER", stand_in_place / "builtin")
    return stand_in_place


@pytest.fixture
def levels(monkeypatch: pytest.MonkeyPatch) -> Levels:
    """A module named ``levels`` on the path, whose functions a test may replace."""
    from tests.evaluation.made import Levels

    made, module = Levels(), ModuleType("levels")
    for name in ("get_scene_embeddings", "get_timestamp_embeddings", "load_model"):
        setattr(module, name, lambda *given, name=name: getattr(made, name)(*given))
    monkeypatch.setitem(sys.modules, "levels", module)
    return made
