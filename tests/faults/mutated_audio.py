"""Mutated sound files in one bulk job: each gives a finite row or is named, and none ends the job."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import soundfile
from tests.faults.inputs import make_model
from tests.faults.processes import run, verb

from unheard.embedding.table_files import read_blocks


def mutated_audio(place: Path, count: int, seed: int = 0) -> tuple[int, list[str]]:
    """Embed ``count`` mutated files. Return how many, and the crashes, lost files and rows that are not finite."""
    shutil.rmtree(place, ignore_errors=True)
    sounds, model, rng = place / "sounds", make_model(place / "model"), np.random.default_rng(seed)
    sounds.mkdir()
    tone = 0.3 * np.sin(np.arange(6000) * 0.3) + 0.05 * rng.standard_normal(6000)
    originals = {}
    for end, more in (
        ("wav", {}),
        ("flac", {}),
        ("ogg", {}),
        ("mp3", {}),
        ("aiff", {}),
        ("f.wav", {"subtype": "FLOAT"}),
    ):
        soundfile.write(place / f"whole.{end}", tone, 16000, **more)
        originals[end] = (place / f"whole.{end}").read_bytes()
    names = []
    for number in range(count):
        end = list(originals)[number % len(originals)]
        content = bytearray(originals[end])
        for _ in range(int(rng.integers(1, 9))):
            at, kind = (
                int(rng.integers(len(content))) if rng.random() < 0.5 else int(rng.integers(min(64, len(content)))),
                rng.integers(4),
            )
            if kind == 0:
                content[at] = int(rng.integers(256))
            elif kind == 1:
                del content[at : at + int(rng.integers(1, 200))]
            elif kind == 2:
                content[at:at] = bytes(rng.integers(0, 256, int(rng.integers(1, 50))).astype(np.uint8))
            else:
                content[at : at + 4] = (b"\xff\xff\xff\xff", b"\0\0\0\0", b"\0\0\0\x80", b"\xff\xff\xff\x7f")[
                    int(rng.integers(4))
                ]
            if not content:
                content = bytearray(b"\0")
        names.append(f"{number:04d}.{end}")
        (sounds / names[-1]).write_bytes(content)
    faults, report = [], ""
    for _ in range(9):
        ended = run(
            verb(["embed", model, sounds, "-o", place / "e.npz", "--device", "cpu", "--resume"]),
            place / "log",
            limit=900,
        )
        report += ended.text
        if ended.code == 0:
            break
        faults.append(f"the job ended with {ended.code}: {ended.text[-400:]}")
    rows = {
        Path(row["path"]).name: row["embedding"] for block in read_blocks(place / "e.npz") for row in block.to_pylist()
    }
    faults += [f"{name}: lost" for name in names if name not in rows and f"{name}: " not in report]
    faults += [f"{name}: not finite" for name, vector in rows.items() if not np.isfinite(vector).all()]
    return count, faults
