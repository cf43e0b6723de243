"""Two workers of each engine, for tests that compare a job with that of one process."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import TypeVar

import pytest

from unheard.errors import UnheardError

T = TypeVar("T")

STARTS = 3
"""Attempts to start Ray, which fails on a machine that is too busy."""

ENGINES = [
    "local",
    pytest.param(
        "ray",
        marks=[
            pytest.mark.skipif(find_spec("ray") is None, reason="ray is not installed"),
            pytest.mark.filterwarnings("default"),
        ],
    ),
]
LOST = "SIGKILL|ActorDiedError"
"""Text of the warning about a killed worker, in each engine."""


def started(call: Callable[[], T]) -> T:
    """Call a function again if Ray did not start."""
    for attempt in range(STARTS):
        try:
            return call()
        except UnheardError as error:
            if "Ray did not start" not in str(error) or attempt == STARTS - 1:
                raise
    raise AssertionError("STARTS is below 1")
