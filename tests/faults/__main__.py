"""Run the faults and print the table of docs/reliability.md: python -m tests.faults [--short] [NAME ...]."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from tests.faults.flips import flips
from tests.faults.hostile import hostile
from tests.faults.kills import kills
from tests.faults.mutated_audio import mutated_audio
from tests.faults.together import full_disk, signals, two_writers

import unheard.api
import unheard.cli.main  # noqa: F401 - loaded once, before processes are forked

Fault = Callable[[Path, int], tuple[int, list[str]]]

FAULTS: dict[str, tuple[Fault, int, int, str]] = {
    "kill -9": (
        kills,
        100,
        3,
        "what is resumed equals what was never interrupted: pretrain, pack, targets, embed, finetune, probe, evaluate",
    ),
    "flipped bits": (
        flips,
        600,
        56,
        "named, or without effect: corpora, models, checkpoints, metrics, tables, evaluations, probes",
    ),
    "hostile weights": (hostile, 200, 16, "nothing runs, under 1 GB and 10 s, one clear line"),
    "mutated audio": (mutated_audio, 1000, 60, "a finite row or a named file; the job goes to its end"),
    "two writers": (two_writers, 20, 2, "one is refused by name, nothing is damaged"),
    "signals": (signals, 20, 1, "TERM, HUP and INT save; the resumed run equals the uninterrupted one"),
    "full disk": (full_disk, 20, 1, "one clear line; continued after room was made"),
}
"""Name, function, tries of the long and of the short form, and what is expected."""


def main(arguments: list[str]) -> int:
    """Run the named faults, or all. Return 1 when one found something."""
    torch.set_num_threads(1)
    short, names = "--short" in arguments, [each for each in arguments if not each.startswith("-")]
    print("| fault | tried | failed | expected | minutes |\n|---|---|---|---|---|", flush=True)
    failed: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        for name, (fault, many, few, expected) in FAULTS.items():
            if names and name not in names:
                continue
            place, began = Path(folder, name.replace(" ", "-")), time.monotonic()
            place.mkdir()
            tried, found = fault(place, few if short else many)
            print(
                f"| {name} | {tried} | {len(found)} | {expected} | {(time.monotonic() - began) / 60:.1f} |", flush=True
            )
            failed += [f"{name}: {text}" for text in found]
    print("\n".join(failed), file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
