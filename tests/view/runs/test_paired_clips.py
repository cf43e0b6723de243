"""Differences of fine-tuned runs on their test clips: by fold, by group, for few clips, and for rows of one place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unheard.data.class_sets import ClassSets
from unheard.data.label_table import Labels
from unheard.data.partitions import FoldIndices
from unheard.finetuning.scores import write
from unheard.finetuning.session import LabelledSplits
from unheard.finetuning.summary import Predictions, joined, summary
from unheard.view.runs import paired
from unheard.view.runs.paired import PairedScore, paired_scores

Run = tuple[np.ndarray, np.ndarray]
"""Logits (n, C) and targets (n, C)."""


@pytest.fixture
def compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function that compares runs with these predictions."""
    tables: dict[Path, LabelledSplits] = {}
    monkeypatch.setattr(paired, "read_session", lambda run: None)
    monkeypatch.setattr(paired, "training_table", lambda run, session: tables[run])

    def compare(
        one: Run, two: Run, folds: str = "", groups: tuple[str, str] = ("", ""), paths: list[str] | None = None
    ) -> PairedScore:
        number = len(one[0])
        names = paths or [f"{row}.wav" for row in range(number)]
        several = bool((one[1].sum(axis=1) != 1).any())
        for name, (logits, target), grouped in zip("xy", (one, two), groups, strict=True):
            empty, group = [""] * number, list(grouped) or [""] * number
            sets, times = ClassSets.from_dense(target.astype(int)), [None] * number
            labels = Labels(list(map(Path, names)), ["a", "b"], sets, several, empty, empty, group, times, times)
            fold = np.array(list(folds or "0" * number))
            rows = {each: np.flatnonzero(fold == each) for each in dict.fromkeys(fold)}
            none = np.empty(0, int)
            parts = [FoldIndices(each, none, none, at) for each, at in rows.items()]
            tables[tmp_path / name] = LabelledSplits(labels, parts)
            predictions = {
                each: Predictions(
                    at,
                    labels.group_ids(at),
                    logits[at].astype(np.float32),
                    target[at].astype(np.float32),
                    np.ones((len(at), 2), np.float32),
                )
                for each, at in rows.items()
            }
            activation = "sigmoid" if several else "softmax"
            report = summary(predictions, ("a", "b"), activation)
            write(tmp_path / name, report, joined(list(predictions.values())), labels, activation)
        (score,) = paired_scores(tmp_path / "x", tmp_path / "y")
        return score

    return compare


def single(classes: str, predicted: str) -> Run:
    """Return the predictions of clips with one class each."""
    of = {"a": [1.0, 0.0], "b": [0.0, 1.0]}
    return 9 * np.array([of[each] for each in predicted]), np.array([of[each] for each in classes])


def test_the_difference_of_folds_is_that_of_their_means(compared: Any) -> None:
    classes, folds = "abab" * 2 + "aaaaaaab" * 3, "0" * 8 + "1" * 24
    one = single(classes, "abab" * 2 + "aaaaaaaa" * 3)
    two = single(classes, "aaaa" * 2 + "aaaaaaab" * 3)
    score = compared(one, two, folds)
    assert score.difference == pytest.approx(score.second.value - score.first.value) and score.clips == 32
    assert score.low <= score.difference <= score.high


def test_groups_of_either_table_are_resampled(compared: Any) -> None:
    classes, groups = "ab" * 20, "pqrstuvw" * 5
    rng = np.random.default_rng(0)
    one, two = (single(classes, "".join(rng.choice(list("ab"), 40))) for _ in range(2))
    both, first, second = (compared(one, two, groups=each) for each in ((groups, groups), (groups, ""), ("", groups)))
    assert (both.low, both.high, both.p) == (first.low, first.high, first.p) == (second.low, second.high, second.p)
    reverse = compared(two, one, groups=(groups, ""))
    assert reverse.difference == -both.difference and reverse.p == pytest.approx(both.p)
    assert compared(one, two).low != both.low
    assert "the groups of the clips differ" in compared(one, two, groups=(groups, "pppqqqrr" * 5)).reason


@pytest.mark.parametrize("number", [2, 4, 5])
def test_few_clips_are_not_significant(number: int, compared: Any) -> None:
    classes = "ababa"[:number]
    score = compared(single(classes, classes), single(classes, classes.translate(str.maketrans("ab", "ba"))))
    assert score.difference == -1 and score.p == 2.0 ** (1 - number) > 0.05


def test_ranks_of_confident_clips_are_kept(compared: Any) -> None:
    target = np.array([[row % 2, row // 2 % 2] for row in range(40)], float)
    noise = np.random.default_rng(0).uniform(0, 1, target.shape)
    sure, plain = np.where(target > 0, 20, 16) + noise, np.where(target > 0, 1, -1) + noise
    score = compared((sure, target), (plain, target))
    assert (score.first.value, score.second.value, score.difference, score.p) == (1, 1, 0, 1)


def test_rows_of_one_place_count_each(compared: Any) -> None:
    one, two = single("ab" * 5, "ab" * 5), single("ab" * 5, "aa" * 5)
    score = compared(one, two, paths=["same.wav"] * 9 + ["other.wav"])
    assert score.clips == 10 and score.difference == pytest.approx(score.second.value - score.first.value)
