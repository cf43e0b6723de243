"""How much of a label can be read off an embedding: nearest neighbours and a linear classifier on frozen vectors.

Both standardise every dimension by the training clips. The linear probe is L2-regularised logistic regression; the neighbours vote by
cosine similarity. Several embeddings of the same clips are scored side by side, because a number alone says little: a random encoder
is hard to beat on small corpora.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray

from unheard.data.label_table import Index, Labels, partitions, read_labels
from unheard.errors import DataError, missing_extra
from unheard.metrics import accuracy, average_precision, balanced_accuracy, bootstrap_interval, mean_average_precision
from unheard.progress import Track, silent

__all__ = ["NEIGHBOURS", "Probe", "ProbeReport", "Score", "log_mel_embedding", "probe", "read_labels"]

HEADS = ("linear", "knn")
REGULARISATION = 0.03  # inverse strength C: ordering of encoders is the same from 0.001 to 0.3, see the experiment log
TUNED = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)  # candidates for C, our choice
NEIGHBOURS = 10  # our choice; never more than the square root of the training clips

Vectors = Float[NDArray[Any], "n D"]
Table = Float[NDArray[Any], "m C"]


@dataclass(frozen=True)
class Probe:
    """How a probe is fitted and scored.

    Parameters
    ----------
    seeds : tuple of int
        One run each. A seed deals out the folds when the table has neither split nor fold, and picks the run of an embedding that
        comes in several.
    tune : bool
        Choose C among `TUNED` on the validation clips, or by three folds of the training clips. Otherwise it is `REGULARISATION`.
    rounds : int
        Bootstrap rounds behind each interval.
    """

    seeds: tuple[int, ...] = (0, 1, 2)
    tune: bool = False
    rounds: int = 1000


@dataclass(frozen=True)
class Score:
    """One embedding under one head and metric: mean over the runs, its 95 % interval over test clips, and each run's value."""

    embedding: str
    head: str
    metric: str
    mean: float
    low: float
    high: float
    runs: list[float]


@dataclass(frozen=True)
class ProbeReport:
    """Every score of a probe, with what guessing would give.

    Parameters
    ----------
    classes : list of str
    clips, tested : int
        Rows of the table, and clips that were tested in a run.
    chance : dict of str to float
        Score of the best constant answer, by metric.
    scores : list of Score
    """

    classes: list[str]
    clips: int
    tested: int
    chance: dict[str, float]
    scores: list[Score]

    def to_json(self) -> dict[str, Any]:
        """The report as plain values."""
        return asdict(self)

    def table(self) -> str:
        """The report as a Markdown table."""
        head = "| embedding | probe | metric | score | 95 % interval |\n|---|---|---|---|---|"
        rows = [f"| {s.embedding} | {s.head} | {s.metric} | {s.mean:.3f} | {s.low:.3f} - {s.high:.3f} |" for s in self.scores]
        chance = [f"| (chance) | | {metric} | {value:.3f} | |" for metric, value in self.chance.items()]
        note = f"{self.tested} of {self.clips} clips tested, {len(self.classes)} classes; the interval draws the test clips again."
        return "\n".join([head, *rows, *chance, "", note, ""])


def log_mel_embedding(spec: Float[NDArray[Any], "F T"]) -> Float[NDArray[Any], " 2*F"]:
    """The simplest baseline: mean and standard deviation of each band over time."""
    return np.concatenate([spec.mean(axis=1), spec.std(axis=1)])


def probe(embeddings: Mapping[str, NDArray[Any]], labels: Labels, how: Probe | None = None, track: Track = silent) -> ProbeReport:
    """Score embeddings of labelled clips.

    Parameters
    ----------
    embeddings : mapping of str to array
        Name -> vectors in the order of ``labels``, (n, D), or (R, n, D) for R runs, one for each of ``how.seeds``, such as random
        encoders of several seeds.
    labels : Labels
        As `read_labels` gives them; its split, fold and group decide who is tested, see `partitions`.
    how : Probe, optional

    Returns
    -------
    ProbeReport
        Accuracy and balanced accuracy where a clip has one label, mean average precision (mAP) where it has several.

    Raises
    ------
    DataError
        When vectors are not finite or do not fit the labels, or a tested class is missing from training.

    Examples
    --------
    >>> report = probe({"model": vectors}, read_labels("labels.csv"))  # doctest: +SKIP
    >>> print(report.table())  # doctest: +SKIP
    """
    how = how or Probe()
    runs = {name: _runs(name, vectors, len(labels), len(how.seeds)) for name, vectors in embeddings.items()}
    sides = [list(partitions(labels, seed)) for seed in how.seeds]
    tested = np.sort(np.concatenate([test for _, _, test in sides[0]]))  # every seed tests the same clips
    scores = []
    jobs = [(name, head) for name in runs for head in HEADS]
    with _one_thread():
        for name, head in track(jobs, len(jobs), "probe"):
            answers = [_answers(head, runs[name][run], labels, parts, how) for run, parts in enumerate(sides)]
            scores += _scores(name, head, labels.target[tested], answers, labels.multilabel, how)
    return ProbeReport(labels.classes, len(labels), len(tested), _chance(labels, tested), scores)


def _runs(name: str, vectors: NDArray[Any], clips: int, seeds: int) -> list[Vectors]:
    """One (n, D) array of float64 for each seed."""
    shape = vectors.shape
    if vectors.ndim not in (2, 3) or shape[-2] != clips or (vectors.ndim == 3 and shape[0] != seeds):
        raise DataError(f"{name}: embeddings of shape {shape} came for {clips} labelled clips; give ({clips}, D) or ({seeds}, {clips}, D)")
    if not np.isfinite(vectors).all():
        raise DataError(f"{name}: embeddings hold values that are not finite; embed these clips again, or leave them out")
    if vectors.ndim == 2:
        return [vectors.astype(np.float64)] * seeds
    return [run.astype(np.float64) for run in vectors]


def _answers(head: str, vectors: Vectors, labels: Labels, parts: Sequence[tuple[Index, Index, Index]], how: Probe) -> Table:
    """Scores of every class for the tested clips of all parts, in the order of the table, (m, C)."""
    answers = []
    for train, valid, test in parts:
        seen = np.concatenate([train, valid])
        if head == "knn":
            answers.append(_neighbours(vectors[seen], labels.target[seen], vectors[test]))
            continue
        strength = _tuned(vectors, labels, train, valid) if how.tune else REGULARISATION
        answers.append(_linear(vectors[seen], labels.target[seen], vectors[test], strength))
    order = np.argsort(np.concatenate([test for _, _, test in parts]))
    return np.concatenate(answers)[order]


def _linear(train: Vectors, target: Int[NDArray[Any], "n C"], test: Float[NDArray[Any], "m D"], strength: float) -> Table:
    """Probability of each class; 0 for one that training never saw, its share for one that every training clip has."""
    try:
        from sklearn.linear_model import LogisticRegression
    except ImportError as error:
        raise missing_extra("scikit-learn", "eval") from error
    train, test = _standardised(train, test)
    out = np.tile(target.mean(axis=0), (len(test), 1))
    if (target.sum(axis=1) == 1).all():
        model = LogisticRegression(C=strength, max_iter=1000).fit(train, target.argmax(axis=1))
        out[:, model.classes_] = model.predict_proba(test)
        return out
    for column in np.flatnonzero(np.ptp(target, axis=0)):
        model = LogisticRegression(C=strength, max_iter=1000).fit(train, target[:, column])
        out[:, column] = model.predict_proba(test)[:, 1]
    return out


def _neighbours(train: Vectors, target: Int[NDArray[Any], "n C"], test: Float[NDArray[Any], "m D"]) -> Table:
    """Share of each class among the nearest training clips, each weighted by 1 + its cosine similarity."""
    train, test = _standardised(train, test)
    train, test = (rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12) for rows in (train, test))
    count = min(NEIGHBOURS, max(1, int(np.sqrt(len(train)))))
    similarity = test @ train.T
    nearest = np.argsort(-similarity, axis=1, kind="stable")[:, :count]
    weight = 1 + np.take_along_axis(similarity, nearest, axis=1)
    votes = (weight[:, :, None] * target[nearest]).sum(axis=1)
    return np.asarray(votes / np.maximum(weight.sum(axis=1, keepdims=True), 1e-12))


def _standardised(train: Vectors, test: Float[NDArray[Any], "m D"]) -> tuple[Vectors, Float[NDArray[Any], "m D"]]:
    """Mean 0 and spread 1 over the training clips; dimensions that never change become 0."""
    mean, spread = train.mean(axis=0), train.std(axis=0)
    scale = np.where(spread > 1e-8 * (1 + np.abs(mean)), 1 / np.maximum(spread, 1e-300), 0)
    return (train - mean) * scale, (test - mean) * scale


def _tuned(vectors: Vectors, labels: Labels, train: Index, valid: Index) -> float:
    """The C of `TUNED` that does best on validation clips, or over three folds of the training clips (groups kept together)."""
    if len(valid):
        parts = [(train, valid)]
    else:
        names = [labels.group[clip] or f"#{clip}" for clip in train]
        groups = np.unique(names, return_inverse=True)[1]
        dealt = np.random.default_rng(0).permutation(groups.max() + 1)[groups] % 3
        parts = [(train[dealt != fold], train[dealt == fold]) for fold in range(3)]
        parts = [(fit, held) for fit, held in parts if len(held) and np.ptp(labels.target[fit], axis=0).any()]
    score = mean_average_precision if labels.multilabel else _hits
    found = [
        np.mean([score(labels.target[held], _linear(vectors[fit], labels.target[fit], vectors[held], c)) for fit, held in parts])
        for c in TUNED
    ]
    return TUNED[int(np.argmax(found))]


def _hits(target: Int[NDArray[Any], "m C"], answer: Table) -> float:
    return balanced_accuracy(target.argmax(axis=1), answer.argmax(axis=1))


def _scores(name: str, head: str, target: Int[NDArray[Any], "m C"], answers: list[Table], multilabel: bool, how: Probe) -> list[Score]:
    """Each metric, averaged over the runs; a bootstrap round draws the same clips in all of them."""
    score: dict[str, Callable[[Any, Any], float]] = {"balanced accuracy": balanced_accuracy, "accuracy": accuracy}
    truth, said = target.argmax(axis=1), [answer.argmax(axis=1) for answer in answers]
    if multilabel:
        score, truth, said = {"mAP": mean_average_precision}, target, answers
    return [_score((name, head, metric), f, truth, said, how) for metric, f in score.items()]


def _score(names: tuple[str, str, str], score: Callable[[Any, Any], float], truth: NDArray[Any], said: list[Any], how: Probe) -> Score:
    """Mean, interval and runs of one metric; ``names`` are embedding, head and metric."""
    runs = [score(truth, run) for run in said]

    def drawn_again(clips: Index) -> float:
        return float(np.mean([score(truth[clips], run[clips]) for run in said]))

    low, high = bootstrap_interval(drawn_again, len(truth), how.seeds[0], how.rounds)
    return Score(*names, float(np.mean(runs)), low, high, runs)


def _chance(labels: Labels, tested: Index) -> dict[str, float]:
    """What the best constant answer scores on the tested clips."""
    share = labels.target[tested].mean(axis=0)
    if labels.multilabel:
        constant = np.zeros(len(tested))
        return {"mAP": float(np.mean([average_precision(column, constant) for column in labels.target[tested].T if column.any()]))}
    return {"balanced accuracy": 1 / int((share > 0).sum()), "accuracy": float(share.max())}


def _one_thread() -> Any:
    """BLAS on one thread: on a loaded machine several make the solver wait for itself."""
    try:
        from threadpoolctl import threadpool_limits
    except ImportError as error:
        raise missing_extra("threadpoolctl", "eval") from error
    return threadpool_limits(1)
