"""Scores of a classifier: a fine-tuned run on the test clips of its own table, or any classifier on labelled clips."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch

from unheard import bootstrap
from unheard.data.class_sets import Index
from unheard.data.label_table import Labels, read_labels
from unheard.embedding.classify import classifier_of
from unheard.embedding.embedder import Sound
from unheard.errors import AudioError, DataError
from unheard.files import FILES, file_checksums, write_confusion, write_json, write_table
from unheard.finetuning.caveats import chosen_by_one_class, leakage_warnings, trained_on
from unheard.finetuning.ensemble import CHUNK, ClassifierEnsemble, open_finetuned, open_members, session_of
from unheard.finetuning.session import read_session, training_table
from unheard.finetuning.summary import FinetuneScores, Predictions, joined, summary
from unheard.model.classification import probabilities
from unheard.outputs import locked_folder, refuse_existing
from unheard.progress import Track, silent
from unheard.remote.outputs import uploaded
from unheard.weights.built_in import local_model


@dataclass(frozen=True)
class FinetunedRun:
    """Result of a fine-tuning run.

    Parameters
    ----------
    folder : Path
    finished : bool
        False after Ctrl-C.
    scores : FinetuneScores, optional
        Scores on the test clips, if the table has some.
    """

    folder: Path
    finished: bool
    scores: FinetuneScores | None = None

    def __repr__(self) -> str:
        state = "finished" if self.finished else "not finished"
        return f"FinetunedRun({str(self.folder)!r}, {state}{f', {self.scores.line()}' if self.scores else ''})"

    @overload
    def predict(self, sound: Sound) -> dict[str, float]: ...

    @overload
    def predict(self, sound: list[Sound]) -> list[dict[str, float]]: ...

    def predict(self, sound: Sound | list[Sound]) -> dict[str, float] | list[dict[str, float]]:
        """Return the score of every class for a sound, highest first; see `ClassifierEnsemble.predict`."""
        return open_finetuned(self.folder).predict(sound)

    def evaluate(self, labels: str | Path, out: str | Path) -> FinetuneScores:
        """Return the scores on the labelled clips of another table; see `score_labelled`."""
        return score_labelled(self.folder, labels, out)


def score_run(run: Path, device: str = "auto", track: Track = silent, out: Path | None = None) -> FinetuneScores | None:
    """Score a finished run on the test clips of its own table and write the files of `write`.

    Each clip is scored only by the fold models that did not train on it; the models of several channels are averaged.
    Test clips whose content or group was also used in training are reported in the notes.

    Parameters
    ----------
    run : Path
    device : str
    track : Track
    out : Path, optional
        Output folder; default: the run folder.

    Returns
    -------
    FinetuneScores or None
        None if the table has no test clips; nothing is written then.

    Raises
    ------
    DataError
        When none of the test clips of a fold can be read, or the table has changed.
    """
    session = read_session(run)
    table = training_table(run, session)
    parts = [part for part in table.parts if len(part.test)]
    if not parts:
        return None
    predictions = {}
    for part in parts:
        models = open_members(run, session, [member for member in session.members if member[0] == part.name], device)
        predictions[part.name] = _predict_rows(models, table.labels, part.test, track)
    report = summary(predictions, session.classes, session.activation, table.remarks(session.recipe))
    notes = [
        *chosen_by_one_class(table, session.activation),
        *leakage_warnings(table, predictions, report, session.activation),
    ]
    report = replace(report, notes=[*report.notes, *notes])
    write(out or run, report, joined(list(predictions.values())), table.labels, session.activation)
    return report


@uploaded("out")
def score_labelled(
    model: str | Path,
    labels: str | Path,
    out: str | Path,
    *,
    device: str = "auto",
    overwrite: bool = False,
    track: Track = silent,
) -> FinetuneScores:
    """Score a classifier on a labelled table and write the files of `write`.

    The clips of the split test are scored, or all clips if there is no such column. On the table it was trained on,
    each clip is scored only by the fold models that did not train on it. On another table, all models are averaged, and
    clips that were used in training are reported in the notes.

    Parameters
    ----------
    model : path
        A fine-tuned run, or a model folder with a classifier.
    labels : path
        A CSV with the columns path and label, and optionally start, end, split, known. Its classes must be classes of
        the model.
    out : path
        Output folder, also at an address.

    Raises
    ------
    ConfigError
        When ``out`` exists or another process writes to it, or the model has no classifier.
    DataError
        When the table cannot be used: labels that are not classes of the model, several labels per clip for a model
        with one, or no test clips.
    CheckpointError
        When ``model`` does not exist.

    Examples
    --------
    >>> score_labelled("runs/clf", "other.csv", "scores/other").intervals["accuracy"]  # doctest: +SKIP
    (0.71, 0.84)
    """
    folder = Path(out)
    refuse_existing(folder, overwrite, kind="folder")
    with locked_folder(folder):
        return _score_into(folder, model, labels, device, track)


def _score_into(folder: Path, model: str | Path, labels: str | Path, device: str, track: Track) -> FinetuneScores:
    session = session_of(model)
    if session is not None and Path(session.labels) == Path(labels).resolve():
        if report := score_run(local_model(model), device, track, folder):
            return report
        raise DataError(
            f"{labels} was used to train the run and has no test clips; give a table of other clips, or add a split"
            " test"
        )
    tuned = open_finetuned(model, device)
    activation = classifier_of(tuned.members[0]).config.activation
    table = _align_classes(Path(labels), tuned.labels, activation)
    rows = _tested(table, labels)
    predictions = _predict_rows(tuned, table, rows, track)
    report = summary(
        {"": predictions}, tuned.labels, activation, trained_on(Path(model), session, table, predictions.rows)
    )
    write(folder, report, predictions, table, activation)
    return report


def _align_classes(path: Path, names: tuple[str, ...], activation: str) -> Labels:
    """Read a table with the classes of a model, in the order of the model."""
    labels = read_labels(path, least=1)
    if unknown := [name for name in labels.classes if name not in names]:
        raise DataError(
            f"{path} has {len(unknown)} labels that are not classes of the model, the first {unknown[0]!r}; its classes"
            f" are {', '.join(names[:8])}{', ...' * (len(names) > 8)}; rename the labels, or remove these rows"
        )
    if activation == "softmax" and labels.multilabel:
        row = int(np.flatnonzero(labels.target.sizes != 1)[0])
        raise DataError(
            f"{path}: row {row + 2} has {int(labels.target[row].sum())} labels, but this model predicts one class per"
            " clip; give every row one label"
        )
    positions = [names.index(name) for name in labels.classes]
    known = None if labels.known is None else labels.known.renumbered(positions, len(names))
    return replace(labels, classes=list(names), target=labels.target.renumbered(positions, len(names)), known=known)


def _tested(labels: Labels, path: str | Path) -> Index:
    """Return the rows of the split test, or all rows of a table without splits."""
    if not any(labels.split):
        return np.arange(len(labels))
    rows = np.flatnonzero(np.array(labels.split) == "test")
    if not len(rows):
        raise DataError(
            f"{path} has a column split without the value test; set it for the clips to score, or remove the column to"
            " score all"
        )
    return rows


def _predict_rows(models: ClassifierEnsemble, labels: Labels, rows: Index, track: Track) -> Predictions:
    """Return the predictions for rows of a table; rows that cannot be read are skipped."""
    logits_by_row: dict[int, np.ndarray] = {}
    bad: list[str] = []
    chunks = [rows[first : first + CHUNK].tolist() for first in range(0, len(rows), CHUNK)]
    for chunk in track(chunks, len(chunks), "testing"):
        sounds: dict[int, Sound] = {}
        for row in chunk:
            try:
                sounds[row] = labels.sound(row)
            except AudioError as error:
                bad.append(str(error))
        row_of = {id(sound): row for row, sound in sounds.items()}
        for sound, logits in models.logits(list(sounds.values()), lambda sound, error: bad.append(str(error))):
            logits_by_row[row_of[id(sound)]] = logits
    if not logits_by_row:
        raise DataError(f"none of the {len(rows)} test clips can be read; the first one: {bad[0]}")
    index, why = np.array(list(logits_by_row)), tuple(dict.fromkeys(bad))
    target, annotated = labels.target[index].astype(np.float32), labels.annotated(index).astype(np.float32)
    return Predictions(index, labels.group_ids(index), np.stack(list(logits_by_row.values())), target, annotated, why)


def write(folder: Path, report: FinetuneScores, predictions: Predictions, labels: Labels, activation: str) -> None:
    """Write ``scores.json``, ``scores.csv``, ``classes.csv`` and ``predictions.csv`` into ``folder``.

    For tables with one class per clip, also write ``confusion.csv``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lines = (
        (name, _text(report.means[name]), *(_text(end) or bootstrap.UNKNOWN for end in ends))
        for name, ends in report.intervals.items()
    )
    header = ("score", "value", "low", "high")
    write_table(folder / "scores.csv", header, (dict(zip(header, line, strict=True)) for line in lines))
    columns, names = tuple(report.classes[0]), labels.classes
    write_table(
        folder / "classes.csv", columns, [{name: _text(value) for name, value in row.items()} for row in report.classes]
    )
    write_confusion(folder, names, report.confusion)
    tensor = torch.from_numpy(predictions.logits)
    predicted = probabilities(tensor.double(), activation == "sigmoid").numpy()
    parts = {
        name: times
        for name, times in (("start", labels.start), ("end", labels.end))
        if any(each is not None for each in times)
    }
    rows = (
        {
            "path": str(labels.paths[row]),
            **{name: "" if times[row] is None else str(times[row]) for name, times in parts.items()},
            "label": "|".join(np.array(names)[labels.target[row] > 0]),
            **{f"score {name}": _probability(value) for name, value in zip(names, values, strict=True)},
        }
        for row, values in zip(predictions.rows, predicted, strict=True)
    )
    write_table(folder / "predictions.csv", ("path", *parts, "label", *(f"score {name}" for name in names)), rows)
    tables = ("scores.csv", "classes.csv", "predictions.csv", *(["confusion.csv"] if report.confusion else []))
    write_json(folder / "scores.json", {**asdict(report), FILES: file_checksums(folder, tables)})


def _probability(value: float) -> str:
    """Format a probability with six digits of it or of its complement, so that ranks near 1 are kept."""
    if value < 0.5 or value == 1:
        return f"{value:.6g}"
    return f"{value:.{6 - math.floor(math.log10(1 - value))}f}"


def _text(value: Any) -> str:
    return "" if value is None else f"{value:.4f}" if isinstance(value, float) else str(value)
