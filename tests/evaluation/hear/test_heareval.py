"""The published protocol, held against stored runs of heareval, and its resuming."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from unheard.errors import DataError
from unheard.evaluation.head_training import OneDnnLinear
from unheard.evaluation.hear import heareval, robust
from unheard.evaluation.hear.events import Events
from unheard.evaluation.hear.fit import Epoch, FitResult, fit
from unheard.evaluation.hear.fit_cache import DiskFitCache
from unheard.evaluation.hear.head import Head, HyperParams, grid
from unheard.evaluation.hear.rows import EvaluationRound, Rows, score_all
from unheard.evaluation.hear.task_folder import Task, read_task

STORED = Path(__file__).parent / "heareval"
GOLDEN = json.loads((STORED / "scores.json").read_text())
NONE = Events(np.zeros(0, int), np.zeros(0, int), np.zeros(0), np.zeros(0))


@pytest.fixture(scope="module")
def task() -> Task:
    return read_task(STORED / "tasks" / "tiny_tags-v1.0-full")


@pytest.fixture(scope="module")
def splits(task: Task) -> dict[str, Rows]:
    with np.load(STORED / "tags.embeddings.npz") as stored:
        tensors = {
            split: [torch.from_numpy(stored[f"{split}.{key}"].astype(np.float32)) for key in "XY"]
            for split in task.splits
        }
    return {split: Rows(x, y, np.arange(len(x)), np.zeros(len(x)), NONE) for split, (x, y) in tensors.items()}


def small(task: Task, **fixed: list[object]) -> Task:
    """The task with a quick grid of its own."""
    return replace(
        task,
        grid={
            "hidden_dim": [16],
            "max_epochs": [6],
            "lr": [1e-3, 3e-2],
            "initialization": ["xavier_uniform_"],
            **fixed,
        },
    )


def test_stored_predictions_give_heareval_s_scores(task: Task, splits: dict[str, Rows]) -> None:
    with np.load(STORED / "tags.predictions.npz") as stored:
        scores = score_all(task, splits["test"], stored["test.prediction"], None)
        assert (splits["test"].y.numpy() == stored["test.target"]).all()
    theirs = GOLDEN["tiny_tags"]["scores"]["test"]
    assert set(scores) == set(task.scores)
    for name, value in scores.items():
        assert value == pytest.approx(float(theirs[f"test_{name}"]), abs=1e-6)


def test_a_run_without_dropout_is_heareval_s_step_by_step(task: Task, splits: dict[str, Rows]) -> None:
    golden = json.loads((STORED / "tags.trace.json").read_text())
    hyper = HyperParams(
        **{name: value for name, value in golden["conf"].items() if name in HyperParams.__dataclass_fields__}
    )
    head, epochs = Head(80, 6, hyper), list[Epoch]()
    with np.load(STORED / "tags.weights.npz") as weights:
        head.load_state_dict({name: torch.from_numpy(np.asarray(weights[name])) for name in weights.files})
    best = fit(head, task, splits["train"], splits["valid"], hyper, epochs.append)
    steps = [float(loss) for epoch in epochs for loss in epoch.losses]
    assert steps == pytest.approx([loss for _, _, loss in golden["train_step_losses"]], rel=1e-5)
    checked = [epoch for epoch in epochs if epoch.probability is not None]
    assert [epoch.index for epoch in checked] == [int(each["epoch"]) for each in golden["valid"]]
    stored = [each["val_score"] for each in golden["valid"]]
    assert [epoch.score for epoch in checked] == pytest.approx(stored, abs=0.01)  # rounding may swap two clips
    assert best.epoch == golden["best_epoch"]
    tested = heareval.test(task, EvaluationRound(("train",), "valid", "test"), splits, best, heareval.UNFOUND)
    assert tested.scores["mAP"] == pytest.approx(golden["test"]["test_score"], abs=1e-6)


def test_the_grid_runs_in_heareval_s_order(task: Task) -> None:
    names = list(HyperParams.__dataclass_fields__)
    theirs = [{name: point[name] for name in names} for point in GOLDEN["tiny_tags"]["grid"]]
    assert [{name: getattr(point, name) for name in names} for point in grid(task)] == theirs
    assert {point.check_val_every_n_epoch for point in grid(replace(task, task_name="dcase2016_task2"))} == {10}
    with pytest.raises(DataError, match="fixes the hyper-parameter colour"):
        grid(replace(task, grid={"colour": ["red"]}))


def test_an_interrupted_task_continues_number_by_number(task: Task, splits: dict[str, Rows], tmp_path: Path) -> None:
    quick, memory = small(task), DiskFitCache(tmp_path)
    whole = heareval.evaluate(quick, splits)
    state = torch.get_rng_state()
    heareval.evaluate(quick, splits, memory=memory)
    assert torch.equal(torch.get_rng_state(), state)  # the caller's random numbers are left alone
    assert len(list(tmp_path.glob("*.safetensors"))) == len(whole.points) == 4
    (tmp_path / "003.safetensors").unlink()
    again = heareval.evaluate(quick, splits, memory=memory)
    assert [point.score for point in again.points] == [point.score for point in whole.points]
    assert again.tested[0].scores == whole.tested[0].scores


def test_ties_keep_the_earliest_and_patience_ends_a_fit(task: Task, splits: dict[str, Rows]) -> None:
    constant = replace(splits["train"], x=torch.zeros(60, 80)), replace(splits["valid"], x=torch.zeros(24, 80))
    hyper, epochs = HyperParams(hidden_layers=0, lr=1e-9, check_val_every_n_epoch=1, patience=3), list[Epoch]()
    best = fit(Head(80, 6, hyper), task, *constant, hyper, epochs.append)
    assert best.epoch == 0
    assert len(epochs) == 4


def test_an_undefined_score_ends_the_published_fit_and_not_the_fixed_one(task: Task, splits: dict[str, Rows]) -> None:
    one_sided = replace(task, scores=("aucroc",))
    valid = replace(splits["valid"], y=torch.ones_like(splits["valid"].y))
    hyper, epochs = HyperParams(hidden_dim=8, check_val_every_n_epoch=1, max_epochs=5), list[Epoch]()
    best = fit(Head(80, 6, hyper), one_sided, splits["train"], valid, hyper, epochs.append)
    assert (len(epochs), best.score, best.epoch) == (1, -math.inf, 0)
    found = robust.fit_together(one_sided, {**splits, "valid": valid}, 0, [hyper], [0])
    assert found[0].score == -math.inf and found[0].state


def test_a_classifier_that_diverges_has_the_worst_score(task: Task, splits: dict[str, Rows]) -> None:
    ranked = replace(task, scores=("mAP",))
    hyper, epochs = HyperParams(hidden_dim=8, lr=1e36, check_val_every_n_epoch=1, max_epochs=5), list[Epoch]()
    best = fit(Head(80, 6, hyper), ranked, splits["train"], splits["valid"], hyper, epochs.append)
    assert not np.isfinite(epochs[0].probability).all()
    assert (len(epochs), best.score) == (1, -math.inf)
    steady = replace(hyper, lr=1e-3)
    found = robust.fit_together(ranked, splits, 0, [hyper, steady], [0, 0])
    assert found[0].score == -math.inf and found[1].score > 0


def test_what_cannot_be_learned_is_named(task: Task, splits: dict[str, Rows]) -> None:
    single = replace(splits["train"], y=torch.eye(6)[:1].repeat(60, 1))
    with pytest.raises(DataError, match="the same class"):
        heareval.evaluate(replace(task, multilabel=False), {**splits, "train": single})
    turned = {split: replace(rows, y=torch.eye(6)[torch.arange(len(rows)) % 6]) for split, rows in splits.items()}
    turned["test"] = replace(turned["test"], y=torch.eye(6)[:1].repeat(24, 1))
    with pytest.raises(DataError, match="all clips of test have the same class"):
        heareval.evaluate(replace(task, multilabel=False), turned)
    broken = replace(splits["test"], x=splits["test"].x * math.nan)
    with pytest.raises(DataError, match="embeddings of test hold numbers that are not finite; check the model"):
        heareval.evaluate(task, {**splits, "test": broken})
    with pytest.raises(DataError, match="batch of one.*--mode robust"):
        heareval.evaluate(small(task, batch_size=[59]), splits)


def test_fixed_mode_survives_a_batch_of_one_and_repeats_itself(task: Task, splits: dict[str, Rows]) -> None:
    quick = small(task, batch_size=[59])
    runs, again = (robust.evaluate(quick, splits, seeds=2) for _ in range(2))
    assert [run[0].scores for run in runs] == [run[0].scores for run in again]
    assert runs[0][0].scores != runs[1][0].scores


@pytest.mark.parametrize("learned", [True, False])
def test_the_products_of_onednn_and_their_gradients_are_those_of_torch(learned: bool) -> None:
    layers = nn.Linear(40, 9), OneDnnLinear(40, 9)
    layers[1].load_state_dict(layers[0].state_dict())
    inputs = [torch.randn(7, 40, generator=torch.Generator().manual_seed(0)).requires_grad_(learned) for _ in layers]
    for layer, x in zip(layers, inputs, strict=True):
        layer(x).square().sum().backward()
    torch.testing.assert_close(layers[0].weight.grad, layers[1].weight.grad)
    torch.testing.assert_close(layers[0].bias.grad, layers[1].bias.grad)
    torch.testing.assert_close(inputs[0].grad, inputs[1].grad)


def test_a_fixed_fit_does_not_depend_on_its_company(task: Task, splits: dict[str, Rows], tmp_path: Path) -> None:
    hypers = [
        HyperParams(hidden_dim=16, lr=lr, max_epochs=6, check_val_every_n_epoch=1, patience=2) for lr in (1e-3, 3e-2)
    ]
    together = robust.fit_together(task, splits, 0, hypers, [0, 1])
    for fit_, hyper, seed in zip(together, hypers, (0, 1), strict=True):
        alone = robust.fit_together(task, splits, 0, [hyper], [seed])[0]
        assert (alone.score, alone.epoch) == (fit_.score, fit_.epoch)
        assert all(torch.equal(alone.state[name], value) for name, value in fit_.state.items())
    memory = DiskFitCache(tmp_path)
    whole = robust.evaluate(small(task), splits, seeds=2, memory=memory)
    (tmp_path / "005.safetensors").unlink()  # four points, then two seeds
    again = robust.evaluate(small(task), splits, seeds=2, memory=memory)
    assert [run[0].scores for run in again] == [run[0].scores for run in whole]


def test_no_event_found_is_undefined_there_and_nothing_here() -> None:
    events = read_task(STORED / "tasks" / "tiny_events-v1.0-full")
    truth = Events(np.zeros(1, int), np.zeros(1, int), np.array([100.0]), np.array([400.0]))
    rows = Rows(torch.zeros(20, 1), torch.zeros(20, len(events.labels)), np.zeros(20, int), 50.0 * np.arange(20), truth)
    silent, how = np.zeros((20, len(events.labels))), events.postprocessing[0]
    theirs, ours = (
        score_all(events, rows, silent, how, unfound) for unfound in (heareval.UNFOUND, robust.ZERO_DIVISION)
    )
    assert math.isnan(theirs["event_onset_200ms_fms"]) and ours["event_onset_200ms_fms"] == 0
    assert theirs["segment_1s_er"] == ours["segment_1s_er"]
    nothing = replace(rows, events=NONE)
    assert math.isnan(score_all(events, nothing, silent, how, robust.ZERO_DIVISION)["event_onset_200ms_fms"])


def test_every_row_is_in_one_batch_and_none_is_alone() -> None:
    found = robust.batches(33, 16, torch.Generator().manual_seed(0))
    assert [len(batch) for batch in found] == [16, 17]
    assert sorted(torch.cat(found).tolist()) == list(range(33))


def test_means_over_folds_are_not_weighted() -> None:
    tested = [
        heareval.SplitResult(f"fold0{i}", {"top1_acc": value}, FitResult(HyperParams()), np.zeros((1, 1)))
        for i, value in enumerate((0.5, 0.7))
    ]
    assert heareval.summary(tested)["top1_acc"] == pytest.approx({"mean": 0.6, "std": math.sqrt(0.02)})
