"""Folders of reference outputs, and the program that compares each."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

from benchmarks.parity import audiomae, bat, eat, hear, maskspec, matpac, msm_mae, xares
from benchmarks.parity.compare import Comparison

SYSTEMS = (msm_mae, matpac, audiomae, maskspec, hear, eat, bat, xares)


def system_of(folder: Path) -> ModuleType | None:
    """Return the program for the format of a folder; None if there is none."""
    return next((system for system in SYSTEMS if system.fits(folder)), None)


def compare_folder(folder: Path) -> Comparison:
    """Compare one folder, in a new process: `hear.prepare` changes the rounding of all later products."""
    system, table = system_of(folder), Comparison()
    assert system is not None
    if system is hear:
        hear.prepare()
    table.folder(str(folder))
    system.compare(folder, table)
    sys.stdout.flush()
    return table
