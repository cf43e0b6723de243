"""How well a fine-tuned run does on its test clips: scores.json, a table of classes, and every prediction."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray

from unheard.audio.waveform import read
from unheard.data.holdout import parts_of
from unheard.data.label_table import Index, Labels, read_labels
from unheard.data.labelled import read_known
from unheard.data.manifest import write_table
from unheard.embedding.embedder import Sound
from unheard.errors import AudioError, DataError
from unheard.evaluation.finetuned import CHUNK, Finetuned, open_finetuned, open_members
from unheard.metrics import average_precision, bootstrap_interval, confusion_matrix, roc_auc
from unheard.progress import Track, silent
from unheard.training.finetune import FinetuneSession, read_session
from unheard.training.finetune_choice import scores
from unheard.training.run import write_json

Table = Float[NDArray[Any], "n C"]
MOST_ROUNDS, LEAST_ROUNDS, WORK = 1000, 20, 2e8  # of the bootstrap: as in the probe, fewer where clips times classes are many (our choice)


@dataclass(frozen=True)
class FinetuneScores:
    """Scores of a run on its test clips.

    Parameters
    ----------
    metric : str
        "balanced_accuracy" or "mAP".
    mean, spread : float
        Over the parts, one for each fold; the spread is their standard deviation, 0 for one part.
    low, high : float
        95 % interval of the metric when the test clips of all parts are drawn again.
    parts : list of dict
        Every score of each part, with its name and number of clips.
    pooled : dict
        Every score over the test clips of all parts together.
    classes : list of dict
        For each class its name, test clips, and precision and recall, or average precision and ROC AUC.
    confusion : list of list of int
        Clips of each true class (row) taken for each class (column); empty where clips have several.
    """

    metric: str
    mean: float
    spread: float
    low: float
    high: float
    parts: list[dict[str, Any]]
    pooled: dict[str, float]
    classes: list[dict[str, Any]]
    confusion: list[list[int]]

    def line(self) -> str:
        """The result in a line."""
        clips = sum(part["clips"] for part in self.parts)
        spread = f" +- {self.spread:.3f} over {len(self.parts)} parts" if len(self.parts) > 1 else ""
        return f"test       {self.metric} {self.mean:.3f}{spread}, 95 % interval {self.low:.3f} - {self.high:.3f} on {clips} clips"


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


@dataclass(frozen=True)
class _Heard:
    """Test clips with what is true and what a run says of them."""

    rows: Index
    logits: Table
    target: Table
    known: Table

    def scores(self, activation: str, at: Index | None = None) -> dict[str, float]:
        index = np.arange(len(self.rows)) if at is None else at
        return scores(self.logits[index], self.target[index], self.known[index], activation)


def score_run(run: Path, device: str = "cpu", track: Track = silent) -> FinetuneScores | None:
    """Score a finished run on its test clips and write ``scores.json``, ``classes.csv`` and ``predictions.csv``.

    Models of one part that listen to other channels are averaged. None is returned, and nothing written, when the table has no test clips.

    Raises
    ------
    DataError
        When none of the test clips of a part can be read.
    """
    session = read_session(run)
    labels = read_labels(session.labels)
    known = read_known(Path(session.labels), labels)
    parts = [part for part in parts_of(labels, session.recipe.training.seed, session.recipe.task.holdout) if len(part.test)]
    if not parts:
        return None
    heard = {}
    for part in parts:
        models = open_members(run, session, [member for member in session.members if member[0] == part.name], device)
        heard[part.name] = _listen(models, labels, known, part.test, track)
    every = _Heard(*(np.concatenate([getattr(each, name) for each in heard.values()]) for name in ("rows", "logits", "target", "known")))
    told = _summary(session, heard, every)
    _write(run, told, every, labels, session.activation)
    return told


def _listen(models: Finetuned, labels: Labels, known: Bool[NDArray[Any], "n C"], rows: Index, track: Track) -> _Heard:
    """What models say of some rows of a table; rows that cannot be read are left out."""
    found: dict[int, np.ndarray] = {}
    bad: list[str] = []
    chunks = [rows[first : first + CHUNK].tolist() for first in range(0, len(rows), CHUNK)]
    for chunk in track(chunks, len(chunks), "testing"):
        sounds: dict[int, Sound] = {}
        for row in chunk:
            try:
                sounds[row] = _sound(labels, row)
            except AudioError as error:
                bad.append(str(error))
        place = {id(sound): row for row, sound in sounds.items()}
        for sound, logits in models.logits(list(sounds.values()), lambda sound, error: bad.append(str(error))):
            found[place[id(sound)]] = logits
    if not found:
        raise DataError(f"none of the {len(rows)} test clips can be read; the first one: {bad[0]}")
    index = np.array(list(found))
    return _Heard(index, np.stack(list(found.values())), labels.target[index].astype(np.float32), known[index].astype(np.float32))


def _sound(labels: Labels, row: int) -> Sound:
    """A clip: a file, or the part of one that the table means."""
    start, end = labels.start[row], labels.end[row]
    if start is None and end is None:
        return labels.paths[row]
    begin = start or 0.0
    return read(labels.paths[row], start=begin, seconds=None if end is None else end - begin)


def _summary(session: FinetuneSession, heard: dict[str, _Heard], every: _Heard) -> FinetuneScores:
    """All scores of all parts."""
    kind = session.activation
    found = {name: each.scores(kind) for name, each in heard.items()}
    parts: list[dict[str, Any]] = [{"part": name, "clips": len(heard[name].rows), **values} for name, values in found.items()]
    pooled = every.scores(kind)
    metric = next(iter(pooled))
    values = [each[metric] for each in found.values()]

    def drawn_again(clips: Index) -> float:
        return every.scores(kind, clips)[metric]

    rounds = int(np.clip(WORK / every.target.size, LEAST_ROUNDS, MOST_ROUNDS))
    low, high = bootstrap_interval(drawn_again, len(every.rows), seed=0, rounds=rounds)
    confusion = confusion_matrix(every.target.argmax(axis=1), every.logits.argmax(axis=1), len(session.classes))
    classes = _of_one(confusion, session.classes) if kind == "softmax" else _of_many(every, session.classes)
    told = [] if kind == "sigmoid" else confusion.tolist()
    return FinetuneScores(metric, float(np.mean(values)), float(np.std(values)), low, high, parts, pooled, classes, told)


def _of_one(counts: Int[NDArray[Any], "C C"], names: tuple[str, ...]) -> list[dict[str, Any]]:
    """A row for each class, where clips have one."""
    rows: list[dict[str, Any]] = []
    for k, name in enumerate(names):
        clips, said, right = int(counts[k].sum()), int(counts[:, k].sum()), int(counts[k, k])
        confused = int(np.where(np.arange(len(names)) == k, -1, counts[k]).argmax())
        taken = names[confused] if counts[k, confused] and confused != k else ""
        rows.append({
            "class": name, "clips": clips, "recall": right / clips if clips else None, "precision": right / said if said else None,
            "most often taken for": taken,
        })  # fmt: skip
    return rows


def _of_many(heard: _Heard, names: tuple[str, ...]) -> list[dict[str, Any]]:
    """A row for each class, where clips have several."""
    rows: list[dict[str, Any]] = []
    for k, name in enumerate(names):
        judged = heard.known[:, k] > 0
        truth, score = heard.target[judged, k].astype(np.int64), heard.logits[judged, k]
        found = {"average precision": average_precision(truth, score), "ROC AUC": roc_auc(truth, score)}
        rows.append({
            "class": name, "clips": int(truth.sum()), "judged": int(judged.sum()),
            **{metric: value if np.isfinite(value) else None for metric, value in found.items()},
        })  # fmt: skip
    return rows


def _write(run: Path, told: FinetuneScores, heard: _Heard, labels: Labels, activation: str) -> None:
    """The scores, the classes and the predictions as files."""
    write_json(run / "scores.json", asdict(told))
    columns = tuple(told.classes[0])
    write_table(run / "classes.csv", columns, [{name: _text(value) for name, value in row.items()} for row in told.classes])
    tensor = torch.from_numpy(heard.logits)
    scores = (tensor.softmax(dim=1) if activation == "softmax" else tensor.sigmoid()).numpy()
    rows = (
        {
            "path": str(labels.paths[row]),
            "label": "|".join(np.array(labels.classes)[labels.target[row] > 0]),
            **{f"score {name}": f"{value:.6g}" for name, value in zip(labels.classes, said, strict=True)},
        }
        for row, said in zip(heard.rows, scores, strict=True)
    )
    write_table(run / "predictions.csv", ("path", "label", *(f"score {name}" for name in labels.classes)), rows)


def _text(value: Any) -> str:
    return "" if value is None else f"{value:.4f}" if isinstance(value, float) else str(value)
