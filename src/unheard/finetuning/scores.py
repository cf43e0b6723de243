"""How well a classifier does: a fine-tuned run on the test clips of its own table, or any classifier on any labelled
clips.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import overload

import numpy as np

from unheard.data.class_sets import Index
from unheard.data.label_table import Labels, read_labels
from unheard.embedding.classify import classifier_of
from unheard.embedding.embedder import Sound
from unheard.errors import AudioError, DataError
from unheard.finetuning.caveats import chosen_by_one_class, leakage_warnings, trained_on
from unheard.finetuning.ensemble import CHUNK, ClassifierEnsemble, open_finetuned, open_members, session_of
from unheard.finetuning.session import read_session, training_table
from unheard.finetuning.summary import FinetuneScores, Predictions, joined, summary, write
from unheard.outputs import locked_folder, refuse_existing
from unheard.progress import Track, silent


@dataclass(frozen=True)
class FinetunedRun:
    """A fine-tuning run as it is handed back.

    Parameters
    ----------
    folder : Path
    finished : bool
        False after Ctrl-C.
    scores : FinetuneScores, optional
        On the test clips, where the table has some.
    """

    folder: Path
    finished: bool
    scores: FinetuneScores | None = None

    @overload
    def predict(self, sound: Sound) -> dict[str, float]: ...

    @overload
    def predict(self, sound: list[Sound]) -> list[dict[str, float]]: ...

    def predict(self, sound: Sound | list[Sound]) -> dict[str, float] | list[dict[str, float]]:
        """Score of every class for a sound, the best first; see `Finetuned.predict`."""
        return open_finetuned(self.folder).predict(sound)

    def evaluate(self, labels: str | Path, out: str | Path) -> FinetuneScores:
        """Scores on the labelled clips of another table; see `score_labelled`."""
        return score_labelled(self.folder, labels, out)


def score_run(run: Path, device: str = "cpu", track: Track = silent, out: Path | None = None) -> FinetuneScores | None:
    """Score a finished run on the test clips of its own table and write the files of `write` into ``out``, the run
    without it.

    Each clip is heard by the models that never saw it; those of one part that listen to other channels are averaged.
    Clips whose bytes or group trained those models are told of. None is returned, and nothing written, when the table
    has no test clips.

    Raises
    ------
    DataError
        When none of the test clips of a part can be read, or the table has changed.
    """
    session = read_session(run)
    table = training_table(run, session)
    parts = [part for part in table.parts if len(part.test)]
    if not parts:
        return None
    heard = {}
    for part in parts:
        models = open_members(run, session, [member for member in session.members if member[0] == part.name], device)
        heard[part.name] = _predict_rows(models, table.labels, part.test, track)
    told = summary(heard, session.classes, session.activation, table.remarks(session.recipe))
    notes = [*chosen_by_one_class(table, session.activation), *leakage_warnings(table, heard, told, session.activation)]
    told = replace(told, notes=[*told.notes, *notes])
    write(out or run, told, joined(list(heard.values())), table.labels, session.activation)
    return told


def score_labelled(
    model: str | Path,
    labels: str | Path,
    out: str | Path,
    *,
    device: str = "cpu",
    overwrite: bool = False,
    track: Track = silent,
) -> FinetuneScores:
    """Score a classifier on a table of labels and write ``scores.json``, ``classes.csv``, ``confusion.csv`` and
    ``predictions.csv``.

    The clips of the split test are scored, or all where there is no such column. On its own table a run of several
    folds has every clip heard by the models that never saw it; on others all models are averaged, and clips that it
    trained on are told of.

    Parameters
    ----------
    model : path
        A fine-tuned run, or a model folder with a classifier.
    labels : path
        A CSV with the columns path and label, and perhaps start, end, split, known; its classes are among the model's.
    out : path
        A folder.

    Raises
    ------
    ConfigError
        When ``out`` exists or another process writes into it, or the model has no classifier.
    DataError
        When the table cannot be used: labels the model does not know, several labels a clip for a model that names one,
        no test clips.
    CheckpointError
        When there is no such model.

    Examples
    --------
    >>> score_labelled("runs/clf", "other.csv", "scores/other").intervals["accuracy"]  # doctest: +SKIP
    (0.71, 0.84)
    """
    place = Path(out)
    refuse_existing(place, overwrite)
    with locked_folder(place):
        return _score_into(place, model, labels, device, track)


def _score_into(place: Path, model: str | Path, labels: str | Path, device: str, track: Track) -> FinetuneScores:
    session = session_of(model)
    if session is not None and Path(session.labels) == Path(labels).resolve():
        if told := score_run(Path(model), device, track, place):
            return told
        raise DataError(
            f"{labels} trained the run and has no clips to test on; give a table of other clips, or one with a split"
            " test"
        )
    tuned = open_finetuned(model, device)
    activation = classifier_of(tuned.members[0][0]).config.activation
    table = _align_classes(Path(labels), tuned.labels, activation)
    rows = _tested(table, labels)
    heard = _predict_rows(tuned, table, rows, track)
    told = summary({"": heard}, tuned.labels, activation, trained_on(Path(model), session, table, heard.rows))
    write(place, told, heard, table, activation)
    return told


def _align_classes(path: Path, names: tuple[str, ...], activation: str) -> Labels:
    """A table with the classes of a model, in its order."""
    labels = read_labels(path, least=1)
    if unknown := [name for name in labels.classes if name not in names]:
        raise DataError(
            f"{path} has {len(unknown)} labels that the model does not know, the first {unknown[0]!r}; it knows"
            f" {', '.join(names[:8])}{', ...' * (len(names) > 8)}; rename them, or leave these rows out"
        )
    if activation == "softmax" and labels.multilabel:
        row = int(np.flatnonzero(labels.target.sizes != 1)[0])
        raise DataError(
            f"{path}: row {row + 2} has {int(labels.target[row].sum())} labels, and this model names one a clip; give"
            " every row one label"
        )
    place = [names.index(name) for name in labels.classes]
    known = None if labels.known is None else labels.known.renumbered(place, len(names))
    return replace(labels, classes=list(names), target=labels.target.renumbered(place, len(names)), known=known)


def _tested(labels: Labels, path: str | Path) -> Index:
    """The rows of the split test, or all of a table without a split."""
    if not any(labels.split):
        return np.arange(len(labels))
    rows = np.flatnonzero(np.array(labels.split) == "test")
    if not len(rows):
        raise DataError(
            f"{path} has a column split and no test in it; mark the clips to score, or leave the column out to"
            " score all"
        )
    return rows


def _predict_rows(models: ClassifierEnsemble, labels: Labels, rows: Index, track: Track) -> Predictions:
    """What models say of some rows of a table; rows that cannot be read are left out."""
    found: dict[int, np.ndarray] = {}
    bad: list[str] = []
    chunks = [rows[first : first + CHUNK].tolist() for first in range(0, len(rows), CHUNK)]
    for chunk in track(chunks, len(chunks), "testing"):
        sounds: dict[int, Sound] = {}
        for row in chunk:
            try:
                sounds[row] = labels.sound(row)
            except AudioError as error:
                bad.append(str(error))
        place = {id(sound): row for row, sound in sounds.items()}
        for sound, logits in models.logits(list(sounds.values()), lambda sound, error: bad.append(str(error))):
            found[place[id(sound)]] = logits
    if not found:
        raise DataError(f"none of the {len(rows)} test clips can be read; the first one: {bad[0]}")
    index, why = np.array(list(found)), tuple(dict.fromkeys(bad))
    target, judged = labels.target[index].astype(np.float32), labels.judged(index).astype(np.float32)
    return Predictions(index, labels.group_ids(index), np.stack(list(found.values())), target, judged, why)
