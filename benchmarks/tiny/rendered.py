"""Render notes and drum patterns from the General MIDI soundfont into a fetched corpus, and add them to its manifest.

    python -m benchmarks.tiny.rendered CORPUS --clips 2000 --seed 0

Three of four clips are notes: a random program, key and chord size. The others are drum patterns. Programs and keys
that a task tests are left out: every fourth program, and the eight keys of the gm tasks. Existing files are kept, so a
second call continues an interrupted one.
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr

from unheard.data.manifest import COLUMNS, NAME, read_manifest
from unheard.datasets.notes import FONTS, KEYS, PROGRAMS, RATE, RENDER_RATE, open_synth
from unheard.files import atomic_write, write_table
from unheard.progress import bar

PACKAGE = "rendered"
DRUM_BANK, DRUM_KEYS = 128, range(35, 60)
SECONDS = 4.0
NOTES = 0.75  # share of clips that are notes
STEPS = 32  # sixteenth notes in a pattern


def note(synth: Any, font: int, draw: np.random.Generator) -> np.ndarray:
    """Return a note or a chord of two or three notes, (S, 2) at the rate of the synthesiser."""
    program = int(draw.choice([each for each in PROGRAMS if each % 4 != 3]))
    keys = draw.choice([key for key in range(33, 90) if key not in KEYS], int(draw.integers(1, 4)), replace=False)
    synth.program_select(0, font, 0, program)
    for key in keys:
        synth.noteon(0, int(key), int(draw.integers(50, 120)))
    held = _generate(synth, SECONDS * 0.7)
    for key in keys:
        synth.noteoff(0, int(key))
    return np.concatenate([held, _generate(synth, SECONDS * 0.3)])


def pattern(synth: Any, font: int, draw: np.random.Generator) -> np.ndarray:
    """Return a drum pattern of sixteenth notes, (S, 2) at the rate of the synthesiser."""
    synth.program_select(0, font, DRUM_BANK, 0)
    drums = draw.choice(list(DRUM_KEYS), 4, replace=False)
    plays = draw.random((len(drums), STEPS // 2)) < draw.uniform(0.1, 0.5, (len(drums), 1))
    blocks = []
    for step in range(STEPS):
        for drum in drums[plays[:, step % (STEPS // 2)]]:
            synth.noteon(0, int(drum), int(draw.integers(60, 120)))
        blocks.append(_generate(synth, SECONDS / STEPS))
    return np.concatenate(blocks)


def _generate(synth: Any, seconds: float) -> np.ndarray:
    return np.frombuffer(bytes(synth.generate(round(seconds * RENDER_RATE))), np.float32).reshape(-1, 2)


def render(corpus: Path, clips: int, seed: int) -> int:
    """Render the missing clips and rewrite the manifest. Return the number of clips in it."""
    synth, font = open_synth(FONTS["fluid"], corpus)
    rows = [row for row in read_manifest(corpus) if row["package"] != PACKAGE]
    for index in bar(range(clips), clips, "rendering"):
        path = f"{PACKAGE}/{index:05d}.wav"
        file, draw = corpus / path, np.random.default_rng([seed, index])
        kind = note if draw.random() < NOTES else pattern
        if not file.is_file():
            wav = soxr.resample(kind(synth, font, draw).mean(axis=1), RENDER_RATE, RATE)
            synth.sounds_off(0)
            file.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(file) as unfinished:
                soundfile.write(unfinished, wav / max(1.0, float(np.abs(wav).max())), RATE, "PCM_16", format="WAV")
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        values = (path, PACKAGE, str(seed), path, digest, f"{SECONDS:.4f}", "music", "")
        rows.append(dict(zip(COLUMNS, values, strict=True)))
    write_table(corpus / NAME, COLUMNS, sorted(rows, key=lambda row: row["path"]))
    return clips


def main() -> None:
    """Read the arguments and render."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--clips", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    print(f"{render(given.corpus, given.clips, given.seed)} rendered clips in {given.corpus / NAME}")


if __name__ == "__main__":
    main()
