"""Protocol of a probe: training and test splits, and scores with confidence intervals.

Intervals come from a bootstrap over the test clips, or over groups if the table has groups (see `bootstrap`). Training
clips are not resampled. The dependence on training clips shows in the spread over runs, not in the interval.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from unheard import bootstrap
from unheard.bootstrap import Statistic, bc_interval, known
from unheard.data.class_sets import Index
from unheard.data.label_table import Labels
from unheard.data.partitions import partitions
from unheard.data.splits import assign_folds
from unheard.errors import DataError
from unheard.evaluation.difference import Difference
from unheard.evaluation.probe.heads import InnerSplits, Table, mean_average_precision
from unheard.evaluation.probe.report import Score
from unheard.metrics import accuracy, balanced_accuracy

INNER_FOLDS = 3  # folds of the training clips if there is no validation split; our choice

Predictions = list[Table]
"""Scores of every class for the test clips in the order of the table, one array (m, C) per run."""
FitPredictFn = Callable[[int, "ProtocolSplit"], Table]
"""Returns the scores (m, C) for the test clips of a split, given the run and the split."""


@dataclass(frozen=True)
class ProtocolSplit:
    """Training, validation and test clips of one fit.

    Parameters
    ----------
    number : int
        Index of the split in its run.
    train, valid, test : Int[ndarray, "_"]
        Clips for training, model selection and test. ``valid`` is never used for training.
    inner_splits : sequence of (Int[ndarray, "_"], Int[ndarray, "_"])
        Clips for training and model selection: ``train`` and ``valid``, or grouped folds of ``train`` if ``valid`` is
        empty.
    """

    number: int
    train: Index
    valid: Index
    test: Index
    inner_splits: InnerSplits


@dataclass(frozen=True)
class ProbeProtocol:
    """The splits of every run over a table, and the metrics.

    Parameters
    ----------
    labels : Labels
    runs : list of list of ProtocolSplit
        Splits for each seed; every run tests the same clips.
    n_resamples : int
        Number of bootstrap resamples.
    seeds : sequence of int
        One seed per run; the first is also used for the bootstrap.
    """

    labels: Labels
    runs: list[list[ProtocolSplit]]
    n_resamples: int
    seeds: Sequence[int]
    _known: dict[tuple[str, ...], Float[np.ndarray, " R"]] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(cls, labels: Labels, seeds: Sequence[int], n_resamples: int) -> ProbeProtocol:
        """Return the protocol of a table.

        Raises
        ------
        DataError
            When a split is empty or has a single class or no label, or a tested class is missing from training.
        """
        runs = [
            [_split(labels, number, *sides) for number, sides in enumerate(partitions(labels, seed))] for seed in seeds
        ]
        protocol = cls(labels, runs, n_resamples, seeds)
        _refuse_one_class(labels, protocol.test_indices, "tested")
        return protocol

    @property
    def fixed(self) -> bool:
        """Whether the table defines the splits, so that they are the same in every run."""
        return any(self.labels.split) or any(self.labels.fold)

    @cached_property
    def test_indices(self) -> Index:
        """Test clips, in the order of the table."""
        return np.sort(np.concatenate([part.test for part in self.runs[0]]))

    @property
    def groups(self) -> int:
        """Number of tested groups; a clip without a group counts as one."""
        return len(np.unique(self.labels.group_ids(self.test_indices)))

    @cached_property
    def metrics(self) -> dict[str, Callable[[Any, Any], float]]:
        """Metrics of the table; the first is the primary metric."""
        if self.labels.multilabel:
            return {"mAP": mean_average_precision}
        return {"balanced accuracy": balanced_accuracy, "accuracy": accuracy}

    @property
    def metric(self) -> str:
        """Primary metric."""
        return next(iter(self.metrics))

    def part(self, whole: ProtocolSplit, train: Index) -> ProtocolSplit:
        """Return a split with other, fewer training clips."""
        return _split(self.labels, whole.number, train, whole.valid, whole.test)

    def answers(self, fit_predict: FitPredictFn, same: bool = False) -> Predictions:
        """Return the predictions for every test clip in every run.

        Parameters
        ----------
        fit_predict : FitPredictFn
        same : bool
            Whether runs differ only in their splits, so that a fixed split needs one run.
        """
        found: Predictions = []
        for run, parts in enumerate(self.runs):
            if found and same and self.fixed:
                found.append(found[0])
                continue
            order = np.argsort(np.concatenate([part.test for part in parts]))
            found.append(np.concatenate([fit_predict(run, part) for part in parts])[order])
        return found

    def scores(self, embedding: str, head: str, predictions: Predictions) -> list[Score]:
        """Return each metric, averaged over the runs."""
        found = []
        for metric, score in self.metrics.items():
            truth, answers = self._compared(predictions)
            runs = [score(truth, answer) for answer in answers]
            mean = float(np.mean(runs))
            low, high = known(bc_interval(self._replicates(metric, predictions), mean))
            found.append(Score(embedding, head, metric, mean, low, high, runs))
        return found

    def difference(self, head: str, other: str, predictions: Predictions, compared: Predictions) -> Difference:
        """Return the difference of the primary metric between two sets of predictions, on the same resamples."""
        mean = float(
            np.mean([self.value(answer) for answer in predictions])
            - np.mean([self.value(answer) for answer in compared])
        )
        apart = self._replicates(self.metric, predictions) - self._replicates(self.metric, compared)
        return Difference(
            other, head, self.metric, mean, *known(bc_interval(apart)), bootstrap.two_sided(apart, self.groups)
        )

    def value(self, answer: Table, at: Index | None = None) -> float:
        """Return the primary metric of one run, on the test clips ``at`` or all."""
        truth, (predictions,) = self._compared([answer])
        chosen = np.arange(len(truth)) if at is None else at
        return self.metrics[self.metric](truth[chosen], predictions[chosen])

    def chance(self) -> dict[str, float]:
        """Return the scores of the best constant prediction on the test clips."""
        marks = self.labels.ternary_targets[self.test_indices]
        if self.labels.multilabel:
            return {"mAP": mean_average_precision(marks, np.zeros(marks.shape))}
        share = marks.mean(axis=0)
        return {"balanced accuracy": 1 / int((share > 0).sum()), "accuracy": float(share.max())}

    def _compared(self, predictions: Predictions) -> tuple[NDArray[Any], list[NDArray[Any]]]:
        """Return targets and predictions in the format of the metrics."""
        target = self.labels.ternary_targets[self.test_indices]
        return (
            (target, predictions)
            if self.labels.multilabel
            else (target.argmax(axis=1), [answer.argmax(axis=1) for answer in predictions])
        )

    def _replicates(self, metric: str, predictions: Predictions) -> Float[np.ndarray, " R"]:
        """Return a metric of each bootstrap resample of the test clips, averaged over the runs; cached."""
        hashes = [hashlib.blake2b(np.ascontiguousarray(answer).data).hexdigest() for answer in predictions]
        if (key := (metric, *hashes)) not in self._known:
            truth, answers = self._compared(predictions)
            of_run = dict(zip(hashes, answers, strict=True))  # a fixed split may give the same answers in every run
            weighted = [
                (hashes.count(each) / len(predictions), self._statistic(metric, truth, answer))
                for each, answer in of_run.items()
            ]
            self._known[key] = bootstrap.replicates(
                lambda counts: np.sum([weight * statistic(counts) for weight, statistic in weighted], axis=0),
                self.labels.group_ids(self.test_indices),
                self.seeds[0],
                self.n_resamples,
            )
        return self._known[key]

    def _statistic(self, metric: str, truth: NDArray[Any], answer: NDArray[Any]) -> Statistic:
        if metric == "mAP":
            precisions = bootstrap.average_precisions_statistic(truth, answer, truth >= 0)
            return lambda counts: bootstrap.class_mean(precisions(counts))
        if metric == "balanced accuracy":
            return bootstrap.balanced_accuracy_statistic(truth, answer)
        return bootstrap.mean_statistic(truth == answer)


def clips_digest(labels: Labels, content: Sequence[str]) -> str:
    """Return a hash of the clips of a table with their labels, splits, folds and groups; paths do not count.

    Parameters
    ----------
    labels : Labels
    content : sequence of str
        Hash of the file of each clip, see `content_of`.
    """
    columns = (content, labels.start, labels.end, labels.split, labels.fold, labels.group)
    digest = hashlib.sha256(repr((labels.classes, labels.multilabel, *map(list, columns))).encode())
    digest.update(np.ascontiguousarray(labels.ternary_targets).data)
    return digest.hexdigest()


def _split(labels: Labels, number: int, train: Index, valid: Index, test: Index) -> ProtocolSplit:
    _refuse_one_class(labels, train, "training")
    return ProtocolSplit(number, train, valid, test, _inner_splits(labels, train, valid))


def _refuse_one_class(labels: Labels, clips: Index, side: str) -> None:
    classes = np.flatnonzero(labels.target[clips].any(axis=0))
    if not len(classes):
        raise DataError(f"none of the {len(clips)} {side} clips has a label; give {side} clips with labels")
    if not labels.multilabel and len(classes) == 1:
        raise DataError(
            f"all {len(clips)} {side} clips are {labels.classes[classes[0]]!r}; a probe needs at least two classes in"
            " training and test"
        )


def _inner_splits(labels: Labels, train: Index, valid: Index) -> InnerSplits:
    """Return training and validation clips, or folds of the training clips, without unusable splits."""
    found, target = [(train, valid)], labels.ternary_targets
    if not len(valid):
        inner = assign_folds(labels.group_ids(train), labels.target.take(train), INNER_FOLDS, seed=0)
        found = [(train[inner != fold], train[inner == fold]) for fold in range(INNER_FOLDS)]
    return [
        (fit, held)
        for fit, held in found
        if (target[held] > 0).any() and ((target[fit] > 0).any(axis=0) & (target[fit] == 0).any(axis=0)).any()
    ]
