"""Assignments that published tables, shipped tasks and stored runs depend on: recorded as hashes before the splitters
were merged.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from unheard.data.class_sets import ClassSets
from unheard.data.manifest import COLUMNS
from unheard.data.splits import draw_subset, hold_out, published_folds, published_validation
from unheard.datasets.filename_labels import offline_rows
from unheard.datasets.filename_rules import TASKS
from unheard.datasets.hear_tasks import _splits
from unheard.datasets.notes import note_rows
from unheard.files import write_table


def digest(values: Iterable[object]) -> str:
    return hashlib.sha256("|".join(map(str, values)).encode()).hexdigest()[:16]


def clips(count: int, classes: int, groups: int, seed: int) -> tuple[list[str], list[str]]:
    """Labels and groups of clips; small class and group numbers are more frequent."""
    draw = random.Random(seed).random
    return [f"c{int(classes * draw() ** 2):02d}" for _ in range(count)], [
        f"g{int(groups * draw() ** 2)}" for _ in range(count)
    ]


TABLES = [
    (40, 3, 9, 0),
    (300, 15, 60, 1),
    (900, 88, 200, 2),
    (120, 15, 120, 3),
    (600, 5, 31, 4),
    (700, 150, 90, 5),
    (9, 9, 3, 6),
]


def test_folds_of_published_tables() -> None:
    found = [digest(published_folds(*clips(*table), n_folds)) for table in TABLES for n_folds in (2, 5, 7)]
    assert digest(found) == "1415d1b673c2ff8e"


def test_validation_clips_of_shipped_tasks() -> None:
    assert digest(digest(published_validation(*clips(*table))) for table in TABLES) == "2abebc5f3ef4f70a"
    grid = [(f"v{voice:02d}", f"p{phrase}") for voice in range(15) for phrase in range(40) if (voice * phrase) % 7]
    labels, groups = zip(*grid, strict=True)
    assert digest([*published_folds(labels, groups, 5), *published_validation(labels, groups)]) == "96370078de70a522"


@pytest.mark.parametrize(
    ("name", "frozen"),
    [("gm-family", "46b3a7fb299b659c"), ("gm-pitch", "2aecf336cf531fd6"), ("gm-pitch-programs", "3f6e7b8640c3b2cb")],
)
def test_splits_of_rendered_notes(name: str, frozen: str) -> None:
    rows = [dict(zip(("path", "label", "split", "fold", "group"), row, strict=True)) for row in note_rows(name)]
    assert digest(_splits(rows, "split")) == frozen


def manifest() -> list[dict[str, str]]:
    """A made-up corpus: drum kits, game units and voices, some files of which have the same content."""
    draw = random.Random(0).random
    kinds = ("Kick", "Snare", "HH", "Crash", "Tom")
    kits = [
        f"hydrogen-drumkits/hydrogen/data/drumkits/kit{k}/{kinds[int(5 * draw())]}-{n}.wav"
        for k in range(17)
        for n in range(9)
    ]
    acts = ("ack", "select", "attack", "die")
    units = [
        f"megaglest-data/megaglest/{u}/unit{u}_{acts[int(4 * draw())]}{n}.wav" for u in range(30) for n in range(4)
    ]
    phrases = ("Ow", "Jump", "Hello", "Laugh", "Boring", "Hmm", "Victory", "Kamikaze", "Nooo", "Cover")
    place = "hedgewars-data/hedgewars/Data/Sounds/voices"
    voices = [f"{place}/voice{v:02d}/{phrase}.ogg" for v in range(15) for phrase in phrases if draw() < 0.8]
    rows = []
    for path in [*kits, *units, *voices]:
        copied = f"copy{int(8 * draw())}" if draw() < 0.03 else path
        rows.append(
            {
                **dict.fromkeys(COLUMNS, ""),
                "path": path,
                "package": path.split("/")[0],
                "seconds": "1",
                "sha256": copied,
            }
        )
    return rows


@pytest.mark.parametrize(
    ("name", "frozen"),
    [
        ("drum-hit", "12eb099f1bbd4094"),
        ("voice-id", "299ceea0299973c6"),
        ("vocal-type", "507bf185d4fb3f6f"),
        ("unit-action", "bca9135eeb9704a8"),
    ],
)
def test_label_tables_of_fetched_corpora(name: str, frozen: str, tmp_path: Path) -> None:
    write_table(tmp_path / "manifest.csv", COLUMNS, manifest())
    rows = offline_rows(name, tmp_path)
    assert len(rows) > 90 and TASKS[name].folds in (0, 5)
    mode = "folds" if rows[0]["fold"] else "split"
    assert digest([*(tuple(row.values()) for row in rows), *_splits(rows, mode)]) == frozen


def test_clips_held_out_for_fine_tuning() -> None:
    """The fingerprint of a fine-tuning run covers them: another assignment refuses stored runs."""
    found = []
    for count, classes, groups, seed in TABLES:
        names, group = clips(count, classes, groups, seed)
        more = clips(count, classes, groups, seed + 100)[0]
        some = np.flatnonzero(np.arange(count) % 6)
        for several in (False, True):
            sets = [
                sorted({int(a[1:]), int(b[1:])} if several else {int(a[1:])}) for a, b in zip(names, more, strict=True)
            ]
            strata = ClassSets.from_lists([tuple(sets[row]) for row in some], classes)
            for groups_of in (np.array(group), np.array([f"#{row}" for row in range(count)])):
                held = [hold_out(groups_of[some], strata, fraction, seed) for fraction in (0.1, 0.15, 0.4)]
                found += [digest(some[each]) for each in held]
    assert digest(found) == "fe32621c023436d7"


def test_subsets_of_a_learning_curve() -> None:
    found = []
    for count, classes, groups, seed in TABLES:
        labels = clips(count, classes, groups, seed)[0]
        strata = ClassSets.from_lists([(int(label[1:]),) for label in labels], classes)
        found += [digest(draw_subset(strata, fraction, seed)) for fraction in (0.05, 0.3, 1.0)]
    assert digest(found) == "8ed09cc92ad86781"
