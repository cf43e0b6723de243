"""Few-shot scores: logistic regression on a few training clips of each class, for several draws of clips.

The protocol is that of the classification tasks of MAEB (mteb): embeddings are not scaled, scikit-learn's
LogisticRegression has C = 1 and at most 100 iterations, and the score is the accuracy. Draw i takes the first clips of
each class in the i-th order of the training clips. Each order is the one before, shuffled by the same permutation, as
in the reference. With folds, a draw fits one classifier for each fold; the reference has one fold for each draw.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from jaxtyping import Int

from unheard.data.class_sets import Index
from unheard.data.label_table import Labels
from unheard.errors import ConfigError, require
from unheard.evaluation.probe.heads import Others, Vectors
from unheard.evaluation.probe.protocol import ProbeProtocol
from unheard.evaluation.probe.report import FewShotScore
from unheard.metrics import accuracy
from unheard.progress import Track, silent

SEED, ITERATIONS = 42, 100  # of MAEB


def few_shot_scores(
    protocol: ProbeProtocol, runs: Mapping[str, Sequence[Vectors]], shots: int, draws: int, track: Track = silent
) -> list[FewShotScore]:
    """Score every embedding with ``shots`` training clips of each class, in the splits of the first run.

    Parameters
    ----------
    protocol : ProbeProtocol
    runs : mapping of str to sequence of ndarray
        Vectors (n, D) of each run, by embedding; the first run is scored.
    shots, draws : int
        Training clips of each class (all of a class that has fewer), and number of draws.

    Raises
    ------
    ConfigError
        When the table has several labels a clip.
    """
    refuse_multilabel(protocol.labels)
    truth = protocol.labels.ternary_targets.argmax(axis=1)
    parts = protocol.runs[0]
    orders = [list(selections(truth[part.train], shots, draws)) for part in parts]
    found = []
    for name, vectors in track(list(runs.items()), len(runs), "few-shot"):
        values = []
        for draw in range(draws):
            predicted = np.full(len(truth), -1)
            for part, order in zip(parts, orders, strict=True):
                rows = part.train[order[draw]]
                predicted[part.test] = _fit_predict(vectors[0][rows], truth[rows], vectors[0][part.test])
            tested = protocol.test_indices
            values.append(float(accuracy(truth[tested], predicted[tested])))
        clips = float(np.mean([len(order[0]) for order in orders]))
        found.append(FewShotScore(name, shots, clips, float(np.mean(values)), float(np.std(values)), values))
    return found


def refuse_multilabel(labels: Labels) -> None:
    """Refuse a table with several labels a clip.

    Raises
    ------
    ConfigError
        When it has.
    """
    if labels.multilabel:
        raise ConfigError("--shots needs a table with one label per clip; leave it out for a table with several labels")


def selections(classes: Int[np.ndarray, " n"], shots: int, draws: int) -> Iterator[Index]:
    """Yield the training clips of each draw, in the order of the draw: the first ``shots`` of each class."""
    order = np.arange(len(classes))
    for _ in range(draws):
        np.random.RandomState(SEED).shuffle(order)
        in_class = np.zeros(len(order), np.int64)
        for label in np.unique(classes):
            member = classes[order] == label
            in_class[member] = np.arange(member.sum())
        yield order[in_class < shots].copy()


def _fit_predict(train: Vectors, classes: Int[np.ndarray, " n"], test: Others) -> Int[np.ndarray, " m"]:
    require("sklearn", "eval", "scikit-learn")
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # 100 iterations are part of the protocol
        model = LogisticRegression(max_iter=ITERATIONS, random_state=SEED).fit(train, classes)
    return np.asarray(model.predict(test))
