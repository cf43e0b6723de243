"""Scores of several parts: their mean, the interval around it, and the note where there is none."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from unheard.bootstrap import bc_interval, resample_counts
from unheard.data.class_sets import ClassSets
from unheard.data.label_table import Labels
from unheard.errors import DataError
from unheard.finetuning.scores import write
from unheard.finetuning.summary import Predictions, joined, summary

NAMES = ("a", "b", "c", "d")


def part(seed: int, first: int, several: bool, groups: int = 0, clips: int = 40) -> Predictions:
    """Answers of a model of its own: it ranks well, and its logits have an offset of their own."""
    rng = np.random.default_rng(seed)
    target = (
        (rng.random((clips, 4)) < 0.3).astype(np.float32)
        if several
        else np.eye(4, dtype=np.float32)[rng.integers(0, 4, clips)]
    )
    logits = (2 * target + rng.standard_normal((clips, 4)) + 6 * rng.standard_normal()).astype(np.float32)
    blocks = [f"kit{first}-{i % groups}" if groups else f"#{first + i}" for i in range(clips)]
    return Predictions(np.arange(first, first + clips), np.array(blocks), logits, target, np.ones_like(target))


def folds(several: bool, groups: int = 0) -> dict[str, Predictions]:
    return {f"fold-{k}": part(k, 40 * k, several, groups) for k in range(5)}


@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
@pytest.mark.parametrize("groups", [0, 8])
def test_the_interval_of_folds_is_one_of_their_mean(activation: str, groups: int) -> None:
    predictions = folds(activation == "sigmoid", groups)
    result = summary(predictions, NAMES, activation)
    values = [one.scores(activation)[result.metric] for one in predictions.values()]
    assert result.mean == pytest.approx(np.mean(values)) == result.means[result.metric]
    for name, (low, high) in result.intervals.items():
        assert low is not None and high is not None and low < result.means[name] < high and high - low < 0.25
    assert result.resample == ("groups" if groups else "clips") and not result.notes


def test_classes_of_folds_are_ranked_fold_by_fold() -> None:
    predictions = folds(True)
    result = summary(predictions, NAMES, "sigmoid")
    for k, row in enumerate(result.classes):
        each = [
            average_precision_score(one.target[:, k].astype(np.int64), one.logits[:, k]) for one in predictions.values()
        ]
        assert row["average precision"] == pytest.approx(np.mean(each)) and row["annotated"] == 200
    never = {
        **predictions,
        "fold-0": Predictions(
            *(getattr(predictions["fold-0"], name) for name in ("rows", "groups", "logits")),
            *absent(predictions["fold-0"]),
        ),
    }
    each = [
        average_precision_score(one.target[:, 0].astype(np.int64), one.logits[:, 0])
        for one in list(predictions.values())[1:]
    ]
    assert summary(never, NAMES, "sigmoid").classes[0]["average precision"] == pytest.approx(np.mean(each))


def test_a_fold_without_positive_clips_has_no_score() -> None:
    one, other = part(0, 0, True), part(1, 40, True)
    nothing = Predictions(other.rows, other.groups, other.logits, 0 * other.target, other.known)
    result = summary({"p": one, "neg": nothing}, NAMES, "sigmoid")
    alone = summary({"p": one}, NAMES, "sigmoid")
    assert result.means["mAP"] == alone.mean and result.intervals["mAP"] == alone.intervals["mAP"]
    assert result.means["mAUC"] == alone.means["mAUC"] and result.parts[1]["mAP"] is None
    assert "mAP is the mean over 1 of 2 parts; neg: not defined" in result.notes
    json.dumps(result.parts, allow_nan=False)
    with pytest.raises(DataError, match="no test clip has a label"):
        summary({"neg": nothing}, NAMES, "sigmoid")


def test_groups_in_several_folds_are_counted_once() -> None:
    shared = {f"fold-{k}": replace(part(k, 40 * k, False), groups=np.array(list("pqrs") * 10)) for k in range(5)}
    notes = summary(shared, NAMES, "softmax").notes
    assert notes[0] == "only 4 groups were tested: intervals over so few are too narrow"
    assert "some groups are in several folds" in notes[1]


def absent(one: Predictions) -> tuple[np.ndarray, np.ndarray]:
    target = one.target.copy()
    target[:, 0] = 0
    return target, one.known


def scores_of(one: Predictions, counts: np.ndarray) -> dict[str, np.ndarray]:
    """Balanced accuracy and accuracy of each resample (a column of counts), by their definitions."""
    truth, correct = one.target.argmax(1), one.target.argmax(1) == one.logits.argmax(1)
    recalls = []
    for number in range(len(NAMES)):
        of_class = counts * (truth == number)[:, None]
        with np.errstate(invalid="ignore"):
            recalls.append((of_class * correct[:, None]).sum(0) / of_class.sum(0))
    return {
        "balanced_accuracy": np.nanmean(recalls, 0),
        "accuracy": (counts * correct[:, None]).sum(0) / counts.sum(0),
    }


@pytest.mark.parametrize("groups", [0, 12])
def test_the_interval_of_one_part_is_that_of_its_resamples(groups: int) -> None:
    one = part(3, 0, False, groups)
    result = summary({"": one}, NAMES, "softmax")
    counts = np.concatenate([block[:] for block in resample_counts(one.groups, 0)], axis=1)
    values = scores_of(one, counts)
    for column in range(50):
        each = one.scores("softmax", np.repeat(np.arange(len(counts)), counts[:, column].astype(int)))
        assert {name: each[name] for name in values} == pytest.approx({name: values[name][column] for name in values})
    for name in values:
        assert result.intervals[name] == pytest.approx(bc_interval(values[name], result.means[name]), abs=1e-5)
    assert result.means == one.scores("softmax")


def test_of_one_group_there_is_no_interval(tmp_path: Path) -> None:
    one = part(0, 0, False, groups=1)
    result = summary({"": one}, NAMES, "softmax")
    assert result.low is None and result.high is None and set(result.intervals.values()) == {(None, None)}
    assert "interval not known" in result.line() and "only one group was tested" in result.notes[0]
    none: list[float | None] = [None] * 40
    empty = [""] * 40
    labels = Labels(
        [Path(f"{i}.wav") for i in range(40)],
        list(NAMES),
        ClassSets.from_dense(one.target.astype(np.int64)),
        False,
        empty,
        empty,
        empty,
        none,
        none,
    )
    write(tmp_path, result, one, labels, "softmax")
    stored = json.loads((tmp_path / "scores.json").read_text())
    assert stored["low"] is None and stored["intervals"]["accuracy"] == [None, None]
    for row in csv.DictReader((tmp_path / "scores.csv").read_text().splitlines()):
        assert float(row["value"]) > 0 and row["low"] == row["high"] == "not known"


def test_of_folds_that_test_one_group_each_there_is_none_either() -> None:
    result = summary({**folds(False, 8), "last": part(9, 900, False, groups=1)}, NAMES, "softmax")
    assert result.low is None and "in 1 of 6 parts only one group" in result.notes[0]
    single = {str(k): part(k, k, False, clips=1) for k in range(8)}
    assert "in 8 of 8 parts only one clip" in summary(single, NAMES, "softmax").notes[-1]


def test_few_groups_give_the_note_of_the_probe() -> None:
    result = summary({"": part(0, 0, False, groups=4)}, NAMES, "softmax")
    assert (
        result.notes == ["only 4 groups were tested: intervals over so few are too narrow"] and result.low is not None
    )
    assert not summary({"": part(0, 0, False, clips=6)}, NAMES, "softmax").notes
    assert "only 5 clips were tested" in summary({"": part(0, 0, False, clips=5)}, NAMES, "softmax").notes[0]
    assert len(joined(list(folds(False).values())).rows) == 200


def test_the_interval_of_recall_is_wider_when_clips_are_grouped() -> None:
    def widths(groups: int) -> list[float]:
        rows = summary({"": part(0, 0, False, groups=groups)}, NAMES, "softmax").classes
        return [row["recall high"] - row["recall low"] for row in rows]

    assert all(wide > narrow for wide, narrow in zip(widths(4), widths(40), strict=True))
    assert {row["recall low"] for row in summary({"": part(0, 0, False, groups=1)}, NAMES, "softmax").classes} == {None}
