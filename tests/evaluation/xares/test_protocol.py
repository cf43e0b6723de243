"""The order of rows, heads, nearest neighbours, metrics and averages of X-ARES."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from unheard.errors import DataError
from unheard.evaluation.xares.averages import coverage, published, weighted_average
from unheard.evaluation.xares.head import Head, Splits, rate_of, train
from unheard.evaluation.xares.metrics import recall_at_1, score, segment_frames, statistic
from unheard.evaluation.xares.neighbours import votes
from unheard.evaluation.xares.protocol import rounds, score_rows
from unheard.evaluation.xares.rows import Rows
from unheard.evaluation.xares.shuffles import epoch_order, generators, shards_of, streaming_shuffle
from unheard.evaluation.xares.targets import class_indices, event_targets, multi_hot
from unheard.evaluation.xares.tasks import ASR, XaresTask, public_tasks, public_weights

OWN = XaresTask("own", "Own", 10, "label", ("train", "valid", "test"), classes=("a", "b"), epochs=3, public=False)


def cloud(count: int, seed: int, classes: int = 2, shift: float = 0.0) -> Rows:
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(count) % classes
    x = torch.randn(count, 4, generator=generator) + 4 * F.one_hot(y, 4) + shift
    return Rows((x,), (y,), np.array([f"{seed}-{k}" for k in range(count)]), False)


def test_an_epoch_has_every_row_once_and_repeats_from_its_seed() -> None:
    shards = shards_of([2500, 700])
    assert [len(shard) for shard in shards] == [2000, 500, 700]
    first, again, other = (epoch_order(shards, epoch, *generators(42, 0, epoch)) for epoch in (0, 0, 1))
    assert sorted(first) == list(range(3200)) and first == again and first != other


def test_rows_move_by_no_more_than_the_buffers() -> None:
    order = list(streaming_shuffle(range(10_000), 500, 100, random.Random(0)))
    assert sorted(order) == list(range(10_000))
    assert all(row < place + 1000 for place, row in enumerate(order))  # two rows enter before one leaves


def test_captions_of_a_clip_enter_the_second_buffer_together() -> None:
    order = epoch_order([[0, 1, 2]], 0, *generators(1, 0, 0), rows=5)
    assert sorted(order) == list(range(15))


def test_the_rate_falls_along_half_a_cosine_and_never_reaches_its_end() -> None:
    rates = [rate_of(epoch, 10) for epoch in range(10)]
    assert rates[0] == pytest.approx(1e-3) and rates[-1] == pytest.approx(1.2e-4, abs=3e-6)
    assert rates == sorted(rates, reverse=True) and rate_of(0, 1) == pytest.approx(1e-3)


def test_the_first_of_equal_epochs_is_kept_and_all_are_trained() -> None:
    rows = cloud(64, 0)
    fit = train(OWN, Head(4, 2), Splits(rows, rows, rows), lambda epoch: list(range(64)))
    assert len(fit.valid_scores) == OWN.epochs and fit.best_epoch == 1 + int(np.argmax(fit.valid_scores))
    assert fit.valid_losses == sorted(fit.valid_losses, reverse=True)


def test_scores_are_those_of_the_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    found = rounds(OWN, {"train": cloud(96, 0), "valid": cloud(16, 1), "test": cloud(16, 2)})
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    one, two = (score_rows(OWN, found, 0.0, 2) for _ in range(2))
    assert one == two and [row["seed"] for row in one.splits] == [42, 43]
    assert torch.equal(torch.random.get_rng_state(), before)  # the program's own random numbers are left alone
    assert one.means["accuracy"] == pytest.approx(np.mean([row["accuracy"] for row in one.splits]))


def test_neighbours_of_columns_differ_from_those_of_unit_rows() -> None:
    train_rows, test = cloud(210, 0, shift=300), cloud(50, 1, shift=300)
    given = train_rows.x[0], train_rows.y[0], test.x[0], 2
    by_column, by_row = (votes(*given, normalised) for normalised in ("columns", "rows"))  # type: ignore[arg-type]
    assert torch.allclose(by_column.sum(dim=1), torch.ones(50)) and torch.allclose(by_row.sum(dim=1), torch.ones(50))
    accuracy = [(found.argmax(dim=1) == test.y[0]).float().mean() for found in (by_column, by_row)]
    assert accuracy[1] > 0.9 > accuracy[0]  # embeddings with a large mean: the reference gives one class to all
    with pytest.raises(DataError, match="at least 10 training rows"):
        votes(train_rows.x[0][:9], train_rows.y[0][:9], test.x[0], 2)


def test_an_epoch_is_chosen_on_the_test_clips_only_as_the_reference_does() -> None:
    folds = XaresTask("own", "Own", 1, "label", folds=("0", "1", "2"), classes=("a", "b"), public=False)
    splits = {name: cloud(20, number) for number, name in enumerate("012")}
    for each in rounds(folds, splits):
        assert each.splits.valid is each.splits.test and len(each.splits.train) == 40
    for each in rounds(folds, splits, exact=True):
        used = [set(part.clips) for part in (each.splits.train, each.splits.valid, each.splits.test)]
        assert not (used[0] & used[1] or used[0] & used[2] or used[1] & used[2]) and len(used[0]) == 20
    same = XaresTask("own", "Own", 1, "label", ("train", "test", "test"), classes=("a", "b"), public=False)
    (exact,) = rounds(same, {"train": cloud(40, 0), "test": cloud(20, 1)}, exact=True)
    assert len(exact.splits.valid) == 4 and len(exact.splits.train) == 36
    assert not set(exact.splits.valid.clips) & (set(exact.splits.train.clips) | set(exact.splits.test.clips))


def test_segments_that_are_not_full_are_left_out_of_each_batch() -> None:
    task = public_tasks()["desed"]
    assert segment_frames(1.0, 0.08) == 13 and segment_frames(0.1, 0.16) == 1
    logits, targets = torch.full((1, 25, 10), -9.0), torch.zeros(1, 25, 10)
    logits[0, 3, 0] = targets[0, 12, 0] = 9  # one segment, predicted and true
    logits[0, 20, 1] = 9  # in the rest
    assert score(task, [(logits, targets.clamp(max=1))], 0.08) == pytest.approx(1 / 10)


@pytest.mark.parametrize("name", ["cremad", "fsd50k", "desed", "maestro"])
def test_the_resampled_score_of_all_clips_is_the_score(name: str) -> None:
    task, generator = public_tasks()[name], torch.Generator().manual_seed(0)
    classes, frames = len(task.classes), task.kind == "frames"
    logits = torch.randn(*((12, 30) if frames else (12,)), classes, generator=generator)
    targets = (torch.rand(logits.shape, generator=generator) < 0.3).float()
    if task.kind == "single":
        targets = torch.arange(12) % classes
    batches = [(logits[:7], targets[:7]), (logits[7:], targets[7:])]
    of_clips = statistic(task, batches, 0.08)(np.ones((12, 1), np.float32))
    assert of_clips[0] == pytest.approx(score(task, batches, 0.08), abs=1e-6)


def test_recall_is_of_clips_and_of_captions() -> None:
    text = torch.eye(2).repeat_interleave(5, dim=0)
    text[4] = torch.tensor([0.4, 0.9])  # a caption of the first clip that fits the second
    assert recall_at_1(torch.eye(2).repeat_interleave(5, dim=0), text, 5) == (1.0, pytest.approx(0.9))


def test_labels_that_are_not_known_are_named() -> None:
    task = public_tasks()["cremad"]
    assert class_indices(task, ["a", "b"], [{"label": "H"}, {"label": "N"}]).tolist() == [0, 5]
    with pytest.raises(DataError, match="b has the unknown label 'X'; the 6 labels are H, S, A"):
        class_indices(task, ["a", "b"], [{"label": "H"}, {"label": "X"}])
    with pytest.raises(DataError, match="json of a has no field label"):
        class_indices(task, ["a"], [{"emotion": "H"}])
    several = multi_hot(public_tasks()["fsd50k"], ["a"], [{"soundevent": "Accordion;Bark"}])
    assert several.sum() == 2 and several.shape == (1, 200)
    speakers = public_tasks()["librispeechmalefemale"]
    assert class_indices(speakers, ["a", "b"], [{"gender": "M"}, {"gender": "X"}]).tolist() == [0, 1]


def test_frames_of_events_are_rounded_up() -> None:
    event = {"onset": 0.81, "offset": 1.61, "label": "Cat,Speech"}
    (active,) = event_targets(public_tasks()["desed"], ["a"], [[event]], 0.08)
    assert active.shape == (125, 10)
    assert active[:, 0].nonzero().flatten().tolist() == list(range(11, 21)) and torch.equal(active[:, 0], active[:, 1])
    (notes,) = event_targets(public_tasks()["maestro"], ["a"], [[{"start": 0, "end": 0.5, "note": 21}]], 0.1)
    assert notes.shape == (5, 87) and notes[:, 0].all() and not notes[:, 1:].any()
    with pytest.raises(DataError, match="no list of events"):
        event_targets(public_tasks()["desed"], ["a"], [{"onset": 1}], 0.08)


def test_the_weights_are_those_of_the_22_public_tasks() -> None:
    weights = public_weights()
    assert len(weights) == 22 and sum(weights.values()) == 38_752
    covered = [name for name in weights if name not in (ASR, "clotho")]
    assert coverage(covered) == (
        "weighted average over 20 of 22 public tasks (71.5% of the weight; left out: librispeech, clotho)"
    )
    averages = {
        each.encoder: weighted_average({name: each.mlp[name] for name in covered}, weights) for each in published()
    }
    assert {name: round(value, 3) for name, value in averages.items()} == {
        "dasheng": 0.750,
        "wav2vec2": 0.531,
        "whisper": 0.615,
        "data2vec": 0.507,
    }
    assert sum(weights[name] for name, task in public_tasks().items() if task.knn) == 22_889
    assert math.isclose(weighted_average({"a": 0.8, "b": 0.9}, {"a": 100, "b": 200}), 0.8666666666666667)
