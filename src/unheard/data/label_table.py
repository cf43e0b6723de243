"""A labels CSV in memory, and who trains and who tests.

Columns: path (relative to the CSV) and label (several joined by ``|``); optionally start and end (seconds), split (train, valid,
test), fold, group (clips that must stay on one side: a speaker, a kit, a recording), and known (classes that somebody judged).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Int
from numpy.typing import NDArray

from unheard.audio.waveform import read_channels
from unheard.data.corpus import read_csv
from unheard.data.splits import even
from unheard.errors import DataError, missing_extra

SPLITS = {"train": "train", "training": "train", "valid": "valid", "val": "valid", "validation": "valid", "test": "test", "eval": "test"}
Index = Int[np.ndarray, " _"]


@dataclass(frozen=True)
class Labels:
    """A labels CSV, one entry a row.

    Parameters
    ----------
    paths : list of Path
        Existing files.
    classes : list of str
        Names, sorted.
    target : Int[ndarray, "n C"]
        1 where the clip has the class.
    multilabel : bool
        Whether some clip has more or fewer than one class.
    split, fold, group : list of str
        Empty strings where the table says nothing.
    start, end : list of float or None
        Seconds of the part that is meant; None for the file's own ends.
    known : Bool[ndarray, "n C"], optional
        True for classes that somebody judged in a clip, see `known_classes`; all were where it is None.
    """

    paths: list[Path]
    classes: list[str]
    target: Int[np.ndarray, "n C"]
    multilabel: bool
    split: list[str]
    fold: list[str]
    group: list[str]
    start: list[float | None]
    end: list[float | None]
    known: Bool[np.ndarray, "n C"] | None = None

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def index(self) -> Index:
        """Class of each clip, of a table where each has one."""
        return np.asarray(self.target.argmax(axis=1))

    @property
    def judged(self) -> Bool[np.ndarray, "n C"]:
        """Which classes somebody judged in each clip."""
        return np.ones(self.target.shape, bool) if self.known is None else self.known

    @cached_property
    def marks(self) -> Int[np.ndarray, "n C"]:
        """1 where a clip has a class, 0 where it has not, -1 where nobody judged; where each clip has one class, all is judged."""
        return self.target if self.known is None or not self.multilabel else np.where(self.known, self.target, -1)

    def sound(self, clip: int) -> Path | tuple[Float32[np.ndarray, "c S"], int]:
        """The sound of a clip: its file, or all channels (c, S) and the rate of the part of one that the table means.

        Who takes one channel of a file takes the same one of a part.

        Raises
        ------
        AudioError
            When a part cannot be read.
        """
        start, end = self.start[clip], self.end[clip]
        if start is None and end is None:
            return self.paths[clip]
        begin = start or 0.0
        return read_channels(self.paths[clip], begin, None if end is None else end - begin)

    def told(self, row: Int[np.ndarray, " C"]) -> str:
        """The classes of a row of 0 and 1, as a table writes them."""
        return "|".join(name for name, there in zip(self.classes, row, strict=True) if there)

    def blocks(self, clips: Index | None = None) -> NDArray[Any]:
        """For each of some clips, or of all, the name of what it belongs to: its group, or itself where it has none."""
        rows = range(len(self)) if clips is None else clips.tolist()
        return np.array([self.group[row] or f"#{row}" for row in rows], np.str_)


def read_labels(path: Path | str, least: int = 2) -> Labels:
    """Read a labels CSV.

    Parameters
    ----------
    least : int
        Classes that there must be; tables that only test can do with one.

    Raises
    ------
    DataError
        When it cannot be read, lacks path or label, names files that do not exist, has fewer classes, has an unknown split, a time that
        is no number or an end that is not after its start, labels that programs write for an empty cell, or empty cells in a table
        whose other clips have one label each.
    """
    path = Path(path)
    rows = read_csv(path, ("path", "label"))
    if not rows:
        raise DataError(f"{path} has no rows; it needs one a clip under the header path,label")
    paths = [path.parent / row["path"] for row in rows]
    if absent := [row["path"] for row, file in zip(rows, paths, strict=True) if not file.is_file()]:
        raise DataError(f"{path} names {len(absent)} files that do not exist, the first {absent[0]}; paths are relative to {path.parent}")
    named = [[name.strip() for name in row["label"].split("|") if name.strip()] for row in rows]
    classes = sorted({name for names in named for name in names})
    _refuse_unclear(path, rows, named)
    if len(classes) < least:
        raise DataError(
            f"{path} has {len(classes)} class ({', '.join(classes)}); there must be at least {'two to tell apart' if least > 1 else 'one'}"
        )
    position = {name: index for index, name in enumerate(classes)}
    target = np.zeros((len(rows), len(classes)), np.int64)
    for clip, names in enumerate(named):
        target[clip, [position[name] for name in names]] = 1
    split, fold, group = ([row.get(column, "").strip() for row in rows] for column in ("split", "fold", "group"))
    start, end = ([_seconds(row.get(column, ""), column, path) for row in rows] for column in ("start", "end"))
    for number, (begin, last) in enumerate(zip(start, end, strict=True), start=2):
        refuse_reversed(begin, last, f"{path}: row {number}")
    multilabel = bool((target.sum(axis=1) != 1).any())
    known = known_classes(rows, classes, target)
    given = None if known.all() else known
    return Labels(paths, classes, target, multilabel, _splits(split, path), fold, group, start, end, given)


EMPTY_WORDS = frozenset({"nan", "null", "n/a", "#n/a", "<na>", "nat"})
"""What programs write for an empty cell, in lower case."""


def _refuse_unclear(path: Path, rows: Sequence[Mapping[str, str]], named: Sequence[Sequence[str]]) -> None:
    """Refuse labels that have two readings."""
    if found := [row for row, names in enumerate(named, start=2) if any(name.lower() in EMPTY_WORDS for name in names)]:
        raise DataError(
            f"{path}: row {found[0]} has the label {rows[found[0] - 2]['label']!r}, which programs write for an empty cell "
            f"({len(found)} rows); fill the cell, remove the row, or give the class another name"
        )
    empty = [row for row, names in enumerate(named, start=2) if not names and not rows[row - 2].get("known", "").strip()]
    if empty and all(len(names) <= 1 for names in named) and any(named):
        raise DataError(
            f"{path}: row {empty[0]} has no label ({len(empty)} rows), and the others have one each; fill the cell or remove the row. "
            "For a clip that has none of several classes, name them in the column known"
        )


def refuse_reversed(start: float | None, end: float | None, where: str) -> None:
    """Refuse a part that ends where it starts, or before.

    Raises
    ------
    DataError
        With both times.
    """
    if end is not None and end <= (start or 0.0):
        raise DataError(f"{where} ends at {end:g} s, which is not after its start at {start or 0.0:g} s; exchange or correct the times")


def known_classes(rows: Sequence[Mapping[str, str]], classes: Sequence[str], target: Int[np.ndarray, "n C"]) -> Bool[np.ndarray, "n C"]:
    """Which classes somebody judged in each clip: those of the optional column ``known``, joined by ``|``, and the clip's own labels.

    An empty cell means all of them, so a table without the column is known as a whole. Names that no clip of the table has as a label
    are no classes of it: a part of OpenMIC may lack an instrument.
    """
    place = {name: number for number, name in enumerate(classes)}
    known = np.ones(target.shape, bool)
    for row, values in enumerate(rows):
        if names := [name.strip() for name in values.get("known", "").split("|") if name.strip()]:
            known[row] = target[row] > 0
            known[row, [place[name] for name in names if name in place]] = True
    return known


def partitions(labels: Labels, seed: int, folds: int = 5) -> Iterator[tuple[Index, Index, Index]]:
    """Training, validation and test clips: of the split column, else of each fold in turn, else of ``folds`` made with ``seed``.

    Made folds keep groups together and the classes in proportion. Validation is empty but for a split that has it. Each part is
    checked when it is asked for, so who needs the first only is not refused for the others.

    Raises
    ------
    DataError
        When a split or fold column has gaps, a side is empty, or a class that is tested is never trained on.
    """
    everyone = np.arange(len(labels))
    if any(labels.split):
        sides = [everyone[np.array(labels.split) == side] for side in ("train", "valid", "test")]
        yield _checked(labels, sides[0], sides[1], sides[2])
        return
    given = any(labels.fold)
    fold = np.array(labels.fold) if given else _made_folds(labels, seed, folds)
    if (fold == "").any():
        raise DataError(f"{int((fold == '').sum())} of {len(fold)} clips have no fold; fill the column fold, or leave it out")
    for name in np.unique(fold):
        yield _checked(labels, everyone[fold != name], everyone[:0], everyone[fold == name], None if given else seed)


def _checked(labels: Labels, train: Index, valid: Index, test: Index, dealt: int | None = None) -> tuple[Index, Index, Index]:
    """The sides, unless they cannot be used; ``dealt`` is the seed of folds that were made here."""
    if not len(train) or not len(test):
        raise DataError(f"{len(train)} clips to train and {len(test)} to test on; the columns split or fold must give some of each")
    unseen = (labels.target[test].sum(axis=0) > 0) & (labels.target[train].sum(axis=0) == 0)
    if unseen.any() and dealt is not None:
        raise DataError(_lonely(labels, int(np.flatnonzero(unseen)[0]), dealt))
    if unseen.any():
        names = ", ".join(np.array(labels.classes)[unseen])
        raise DataError(f"classes that are tested but missing from the training clips: {names}; move some clips, or leave these out")
    return train, valid, test


def _lonely(labels: Labels, kind: int, seed: int) -> str:
    """Why folds that were dealt out here test a class without training on it."""
    clips = np.flatnonzero(labels.target[:, kind])
    groups = len(set(labels.blocks(clips)))
    unit = "group" if any(labels.group) else "clip"
    told = f"class {labels.classes[kind]!r} has {_count(len(clips), 'clip')}{f' in {_count(groups, unit)}' if unit == 'group' else ''}"
    if groups < 2:
        return f"{told}; it needs two {unit}s, one to be tested and one to train on; add one, or leave the class out"
    return f"{told}, all on one side of a fold dealt with seed {seed}; part them by a column split or fold, or leave the class out"


def _count(number: int, name: str) -> str:
    return f"{number} {name}{'s' * (number != 1)}"


def _made_folds(labels: Labels, seed: int, folds: int) -> NDArray[Any]:
    """The fold of each clip."""
    blocks, count = labels.blocks(), labels.target.sum(axis=0)
    if len(set(blocks)) == 1:
        raise DataError(f"all {len(labels)} clips belong to the group {str(blocks[0])!r}; there must be two groups, or no column group")
    if labels.multilabel or count.min() < 2:
        return _dealt_folds(labels, seed, folds)
    try:
        from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold
    except ImportError as error:
        raise missing_extra("scikit-learn", "eval") from error
    fold = np.empty(len(labels), dtype="<U8")
    kind, groups = (StratifiedGroupKFold, blocks) if any(labels.group) else (StratifiedKFold, None)
    splitter = kind(min(folds, int(count.min()), len(set(blocks))), shuffle=True, random_state=seed)
    for number, (_, test) in enumerate(splitter.split(labels.target, labels.index, groups)):
        fold[test] = str(number)
    return fold


def _dealt_folds(labels: Labels, seed: int, folds: int) -> NDArray[Any]:
    """The fold of each clip of a table with rare classes: the blocks of the rarest class go first, and to the last folds."""
    names, block = np.unique(labels.blocks(), return_inverse=True)
    counts = np.zeros((len(names), 1 + len(labels.classes)))  # clips, and clips of each class
    np.add.at(counts, block, np.insert(labels.target, 0, 1, axis=1))
    rarity = np.where(counts > 0, (counts > 0).sum(axis=0), len(names)).min(axis=1)
    order = np.lexsort((np.random.default_rng(seed).permutation(len(names)), rarity))
    parts = min(folds, len(names))
    home = np.empty(len(names), np.int64)
    home[order] = parts - 1 - np.array(even(counts[order], parts))
    return home[block].astype(np.str_)


def _splits(split: Sequence[str], path: Path) -> list[str]:
    """Split names in one spelling: all filled or all empty."""
    if any(split) and (unknown := sorted({name for name in split if name.lower() not in SPLITS})):
        raise DataError(f"{path} has the split {unknown[0]!r}; use train, valid and test in every row, or no split column")
    return [SPLITS.get(name.lower(), "") for name in split]


def _seconds(text: str, column: str, path: Path) -> float | None:
    if not text.strip():
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise DataError(f"{path} has the {column} {text!r}; it must be a number of seconds, at least 0")
    return value
