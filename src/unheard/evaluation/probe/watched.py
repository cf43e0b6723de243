"""A labelled table in memory, on which a model is scored while it trains.

The scores are those of a probe with one part of the table: kNN, and logistic regression with a fixed C, because a
curve needs equal conditions more than the best C of each point. Clips are decoded once. The vectors are the scene
vectors of ``unheard embed``.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Float32, Int
from numpy.typing import NDArray

from unheard.audio.archives.members import is_sound_file
from unheard.audio.waveform import Waveform, from_array, info, read
from unheard.data.class_sets import Index
from unheard.data.label_table import Labels, read_labels
from unheard.data.leakage import content_of, same_as_others
from unheard.data.partitions import partitions
from unheard.data.splits import draw_subset
from unheard.data.store import Store
from unheard.embedding.embedder import Model
from unheard.embedding.job import Options
from unheard.errors import AudioError, DataError, require, shown
from unheard.evaluation.head_training import one_thread
from unheard.evaluation.probe.heads import (
    REGULARISATION,
    balanced_accuracy_score,
    knn,
    logistic_regression,
    mean_average_precision,
)
from unheard.progress import Track, silent
from unheard.recipes.recipe import Recipe
from unheard.training.watch.plan import WatchPlan
from unheard.weights.checkpoint import SavedModel

MOST_CLIPS = 2000
"""Number of clips that are scored; more are sampled (our choice)."""

MOST_BYTES = 512 * 2**20
"""Memory of the decoded clips; if they need more, fewer are sampled (our choice)."""

SEED = 0
"""Of the assigned folds, as in the first run of ``unheard probe``, and of the sample (our choice)."""

NAMED, COMPARED = 5, 200_000
"""Clips named in an error, and largest corpus whose files are compared with the table (our choice)."""


class WatchedLabels:
    """Clips of a labelled table, decoded, with the side of the split of each.

    Parameters
    ----------
    table : Path
    labels : Labels
    sides : tuple of Index
        Training and test clips, as rows of the table.
    waves : sequence of Float32[ndarray, "S"]
        The training clips, then the test clips.
    sample_rate : int
        Hz.
    notes : list of str
        What was left out.
    """

    def __init__(
        self,
        table: Path,
        labels: Labels,
        sides: tuple[Index, Index],
        waves: Sequence[Float32[np.ndarray, " _"]],
        sample_rate: int,
        notes: list[str],
    ) -> None:
        self.table, self.labels, self.sides, self.waves = table, labels, sides, waves
        self.sample_rate, self.notes = sample_rate, notes
        self._targets = [_targets(labels, rows) for rows in sides]

    @classmethod
    def read(cls, plan: WatchPlan, recipe: Recipe, track: Track = silent) -> WatchedLabels:
        """Read a table and decode its clips, or a sample of them.

        Raises
        ------
        DataError
            When the table has changed since the run started, or cannot be read or split, a side has one class only, or
            its clips are too long.
        AudioError
            Naming clips that cannot be read.
        """
        require("sklearn", "eval", "scikit-learn")
        require("threadpoolctl", "eval")
        table = Path(plan.table)
        if not table.exists():
            raise DataError(f"{table}: no such file; --watch needs a CSV with the columns path and label")
        if plan.content and plan.content != content_of([table])[0]:
            raise DataError(
                f"{table} has changed since the run started, so its scores could not be compared; restore it"
            )
        labels, rate = read_labels(table), recipe.frontend.sample_rate
        sides, notes = _sides(labels)
        _refuse_one_class(table, labels, sides)
        chosen = _sampled(labels, sides, MOST_CLIPS / len(np.concatenate(sides)))
        seconds = _seconds(table, labels, np.concatenate(chosen))
        if (size := float(seconds.sum()) * rate * 4) > MOST_BYTES:
            fraction = len(seconds) / len(np.concatenate(sides)) * MOST_BYTES / size
            chosen = _sampled(labels, sides, fraction)
            if _seconds(table, labels, np.concatenate(chosen)).sum() * rate * 4 > 2 * MOST_BYTES:
                raise DataError(
                    f"{table}: clips of {seconds.mean():.0f} s on average are too long to be kept in memory; give parts"
                    " of them with the columns start and end"
                )
        used, whole = sum(map(len, chosen)), sum(map(len, sides))
        if used < whole:
            notes = [*notes, f"a sample of {used} of {whole} clips, every class included (seed {SEED})"]
        rows = np.concatenate(chosen).tolist()
        waves = _decoded(table, rows, lambda row: _wave(labels, row, rate), track)
        return cls(table, labels, chosen, waves, rate, notes)

    def score(self, saved: SavedModel, device: str) -> dict[str, float]:
        """Return the scores of a model: of the linear head and of kNN, on the test clips.

        The metric is that of ``unheard probe``: balanced accuracy, or mAP for a table with several labels a clip.
        """
        model = Model(saved, device)
        sounds = ((wave, self.sample_rate) for wave in self.waves)
        vectors = np.stack([each.scene for _, each in model.embed_many(sounds, Options(frames=False))])
        train, test = np.split(vectors.astype(np.float64), [len(self.sides[0])])
        target, truth = self._targets
        with one_thread(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "lbfgs failed to converge")  # an early model may have equal vectors
            answers = {
                "linear": logistic_regression(train, target, test, [REGULARISATION], self.labels.multilabel)[0],
                "knn": knn(train, target, test),
            }
        metric = mean_average_precision if self.labels.multilabel else balanced_accuracy_score
        name = "mAP" if self.labels.multilabel else "balanced_accuracy"
        return {f"probe/{head}/{name}": metric(truth, answer) for head, answer in answers.items()}

    def about(self) -> list[str]:
        """Return number of clips and classes, and what was left out, a text for each line."""
        train, test = map(len, self.sides)
        classes = int((self.labels.target.counts(self.sides[1]) > 0).sum())
        first = f"{shown(self.table.name)}: {train} training and {test} test clips, {classes} tested classes"
        return [first, *self.notes]

    def overlap(self, store: Store, root: Path) -> list[str]:
        """Return a warning if clips of the table are in the training corpus, by the bytes of their files."""
        if len(store) > COMPARED:
            return [f"not compared with the {len(store)} clips of the corpus; keep the watched clips out of it"]
        others = [root / name for name in dict.fromkeys(store.names[number] for number in range(len(store)))]
        there = [path for path in others if is_sound_file(path)]
        if not there:
            return ["not compared with the corpus, whose sound files are not there; keep the watched clips out of it"]
        files = list(dict.fromkeys(self.labels.paths[row] for row in np.concatenate(self.sides).tolist()))
        common = same_as_others(files, there)
        if not common:
            return []
        return [
            f"{len(common)} of {len(files)} files are also in the training corpus, the first"
            f" {shown(str(common[0]))}: the model trains on them, without their labels"
        ]


def _sides(labels: Labels) -> tuple[tuple[Index, Index], list[str]]:
    """Return training and test clips: of the split, or of the first fold."""
    parts = partitions(labels, SEED)
    train, _, test = parts[0]
    if len(parts) == 1:
        return (train, test), []
    kind = f"fold {labels.fold[int(test[0])]!r} of" if any(labels.fold) else "the first of"
    return (train, test), [f"{kind} {len(parts)} {'' if any(labels.fold) else 'assigned '}folds is tested"]


def _refuse_one_class(table: Path, labels: Labels, sides: tuple[Index, Index]) -> None:
    for name, rows in zip(("training", "test"), sides, strict=True):
        present = np.flatnonzero(labels.target.counts(rows))
        if len(present) == 1 and not labels.multilabel:
            raise DataError(
                f"{table}: all {len(rows)} {name} clips are {labels.classes[int(present[0])]!r}; --watch needs at least"
                " two classes in training and test"
            )


def _sampled(labels: Labels, sides: tuple[Index, Index], fraction: float) -> tuple[Index, Index]:
    """Return a fraction of the clips of each side, at least one of each class."""
    if fraction >= 1:
        return sides
    train, test = (rows[draw_subset(labels.target.take(rows), fraction, SEED)] for rows in sides)
    return train, test


def _seconds(table: Path, labels: Labels, rows: Index) -> Float[np.ndarray, " n"]:
    """Return the length of each clip, from the headers."""

    def length(row: int) -> float:
        begin, end, whole = labels.start[row] or 0.0, labels.end[row], info(labels.paths[row]).seconds
        if begin >= whole:
            raise AudioError(f"{labels.paths[row]}: starts at {begin:g} s, but lasts {whole:.3f} s")
        return min(whole, whole if end is None else end) - begin

    return np.array(_decoded(table, rows.tolist(), length))


def _decoded(table: Path, rows: Sequence[int], read_row: Callable[[int], Any], track: Track = silent) -> list[Any]:
    """Return a value of each row.

    Raises
    ------
    AudioError
        Naming the rows that cannot be read.
    """
    found, bad = [], []
    for row in track(rows, len(rows), "watched clips"):
        try:
            found.append(read_row(row))
        except AudioError as error:
            bad.append(f"row {row + 2}: {error}")
    if bad:
        more = f"; and {len(bad) - NAMED} more" if len(bad) > NAMED else ""
        raise AudioError(
            f"{table}: {len(bad)} of {len(rows)} clips cannot be used; correct or remove these rows:"
            f" {'; '.join(bad[:NAMED])}{more}"
        )
    return found


def _wave(labels: Labels, row: int, rate: int) -> Waveform:
    sound = labels.sound(row)
    return read(sound, rate)[0] if isinstance(sound, Path) else from_array(*sound, rate)


def _targets(labels: Labels, rows: Index) -> Int[np.ndarray, "n C"]:
    """Return `Labels.ternary_targets` of some rows, without the matrix of the whole table."""
    dense: NDArray[Any] = labels.target[rows].astype(np.int64)
    return dense if labels.known is None or not labels.multilabel else np.where(labels.known[rows], dense, -1)
