"""Heads as one stacked model learn what they learn one at a time."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from tests.evaluation.made import make_task, scene_rows

from unheard.evaluation.hear import robust
from unheard.evaluation.hear.fit import FitResult
from unheard.evaluation.hear.head import Head, HyperParams
from unheard.evaluation.hear.head_ensemble import (
    BatchedHeads,
    DropoutMask,
    HeadEnsemble,
    SequentialHeads,
    fast_dropout,
    make_ensemble,
    torch_dropout,
)
from unheard.evaluation.hear.rows import Rows
from unheard.evaluation.hear.task_folder import read_task

RATES = (1e-2, 3e-3, 1e-3)
CPU = torch.device("cpu")


@pytest.fixture
def double() -> Iterator[None]:
    """float64, so that nothing but a mistake can part two ways to the same weights."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def seeded(probability: float, seed: int) -> DropoutMask | None:
    """Dropout as an accelerator draws it."""
    return torch_dropout(probability, torch.Generator(CPU).manual_seed(seed))


def drops(probability: float) -> list:
    return [fast_dropout(probability, seed) for seed in range(3)]


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("dropout", [0.0, 0.1])
@pytest.mark.parametrize("multilabel", [True, False])
@pytest.mark.parametrize("layers", [0, 1, 2])
def test_a_stacked_model_is_its_heads(layers: int, multilabel: bool, dropout: float) -> None:
    torch.manual_seed(0)
    heads = [Head(6, 3, HyperParams(hidden_layers=layers, hidden_dim=8)) for _ in RATES]
    stacked, sequential = (
        BatchedHeads(heads, RATES, drops(dropout), CPU),
        SequentialHeads(copy.deepcopy(heads), RATES, drops(dropout)),
    )
    untouched = copy.deepcopy(heads)
    x, y = torch.randn(20, 6), torch.eye(3)[torch.arange(20) % 3]

    def compare(alive: int) -> None:
        for one, other in zip(stacked.predict(x, 7), sequential.predict(x, 7), strict=True):
            torch.testing.assert_close(one, other)
        for place in range(alive):
            one, other = stacked.state(place), sequential.state(place)
            assert one.keys() == other.keys()
            for name in one:
                torch.testing.assert_close(one[name], other[name], msg=lambda message, name=name: f"{name}: {message}")

    compare(3)
    for step in range(8):
        if step == 4:  # the one in the middle is done
            for ensemble in (stacked, sequential):
                ensemble.select([0, 2])
        for ensemble in (stacked, sequential):
            ensemble.step(x, y, multilabel)
    compare(2)
    for head, before in zip(heads, untouched, strict=True):
        assert all(torch.equal(value, before.state_dict()[name]) for name, value in head.state_dict().items())


def test_the_device_decides_how_they_train() -> None:
    hypers = [HyperParams(hidden_layers=2, hidden_dim=8, dropout=0.0, lr=rate) for rate in RATES]
    heads, x, y = [Head(6, 3, hyper) for hyper in hypers], torch.zeros(20, 6), torch.eye(3)[torch.arange(20) % 3]
    assert isinstance(make_ensemble(heads, hypers, [0, 1, 2], CPU), SequentialHeads)
    elsewhere = make_ensemble(heads, hypers, [0, 1, 2], torch.device("meta"))
    assert isinstance(elsewhere, BatchedHeads)
    for multilabel in (True, False):  # a tensor left on the CPU would be refused here
        elsewhere.step(x.to("meta"), y.to("meta"), multilabel)
    elsewhere.select([1])
    elsewhere.step(x.to("meta"), y.to("meta"), True)
    assert {
        value.device.type for tensors in (elsewhere._weights, elsewhere._running) for value in tensors.values()
    } == {"meta"}


@pytest.mark.usefixtures("double")
def test_a_head_without_dropout_keeps_everything_among_those_with_it() -> None:
    torch.manual_seed(0)
    heads = [Head(6, 3, HyperParams(hidden_dim=8)) for _ in RATES]
    stacked = BatchedHeads(heads, RATES, [None, fast_dropout(0.5, 1), None], CPU)
    sequential = SequentialHeads(copy.deepcopy(heads), RATES, [None, fast_dropout(0.5, 1), None])
    x, y = torch.randn(20, 6), torch.eye(3)[torch.arange(20) % 3]
    for ensemble in (stacked, sequential):
        ensemble.step(x, y, True)
    torch.testing.assert_close(stacked.predict(x, 20), sequential.predict(x, 20))


@pytest.mark.parametrize("drop", [fast_dropout(0.1, 3), seeded(0.1, 3)])
def test_dropout_keeps_the_mean(drop: DropoutMask) -> None:
    kept = drop(torch.empty(500, 400))
    assert float((kept == 0).float().mean()) == pytest.approx(0.1, abs=0.005)
    assert float(kept.mean()) == pytest.approx(1, abs=0.005)
    assert not torch.equal(kept, drop(torch.empty(500, 400)))


def test_dropout_is_of_its_seed() -> None:
    z = torch.empty(50, 40)
    for make in (fast_dropout, seeded):
        assert torch.equal(make(0.1, 3)(z), make(0.1, 3)(z)) and not torch.equal(make(0.1, 3)(z), make(0.1, 4)(z))
        assert make(0.0, 3) is None


@pytest.mark.usefixtures("double")
def test_a_fit_of_stacked_heads_equals_the_fits_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task, generator = read_task(make_task(tmp_path / "noise-v1")), torch.Generator().manual_seed(2)
    splits = {name: _rows(generator) for name in ("train", "valid", "test")}
    hypers = [
        HyperParams(hidden_dim=16, lr=lr, batch_size=32, check_val_every_n_epoch=1, patience=3, max_epochs=20)
        for lr in RATES
    ]
    monkeypatch.setattr(robust, "OneDnnLinear", torch.nn.Linear)

    def fits() -> list[FitResult]:
        return robust.fit_together(task, splits, 0, hypers, [0, 0, 1])

    def stacked(heads: list[Head], hypers: list[HyperParams], seeds: list[int], device: torch.device) -> HeadEnsemble:
        return BatchedHeads(heads, RATES, [fast_dropout(0.1, seed) for seed in seeds], device)

    sequential = fits()
    assert len({fit.epoch for fit in sequential}) > 1  # they leave one by one
    monkeypatch.setattr(robust, "make_ensemble", stacked)
    for one, other in zip(fits(), sequential, strict=True):
        assert (one.epoch, one.score) == (other.epoch, other.score)
        for name in one.state.keys() - {
            "hidden.0.bias",
            "hidden.1.running_mean",
        }:  # before a normalisation rounding alone moves them
            torch.testing.assert_close(one.state[name], other.state[name])


def _rows(generator: torch.Generator) -> Rows:
    y = torch.eye(2)[torch.randint(2, (80,), generator=generator)]
    return scene_rows(y, y @ torch.randn(2, 6, generator=generator) + torch.randn(80, 6, generator=generator))
