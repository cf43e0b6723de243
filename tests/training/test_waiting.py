"""A step that is not logged queues work for the device, and never waits for it.

Without a GPU, steps run on the device "meta", whose tensors have no values. Reading a value is an error there, and a
copy from the CPU, for which the program would wait for a GPU, is visible.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.training.compiled_steps import tiny
from tests.training.global_batch import WINDOWS, batch_of
from tests.training.waiting import META, Copies, HostValues, meta_engine, no_waiting_on_gpu, no_waiting_on_meta
from torch import Tensor

from unheard.audio.frontend import Statistics
from unheard.devices import to_device
from unheard.objectives.base import Batch
from unheard.recipes import RECIPES
from unheard.recipes.learner import build
from unheard.training.engine import Engine
from unheard.training.guards import Stop, common_stop
from unheard.training.loop import take_step
from unheard.training.parallel.exchange import summed
from unheard.training.session import Session

STRUCTURED = "model.mask_ratio_2d=[0.6,0.5]"
CASES = [(name, []) for name in RECIPES if not name.startswith("msm-mae-")] + [("audiomae", [STRUCTURED])]


@pytest.fixture
def meta(monkeypatch: pytest.MonkeyPatch) -> Engine:
    return meta_engine(RECIPES["msm-mae"]().training, monkeypatch)


def on(device: torch.device, values: Any) -> Any:
    if isinstance(values, tuple):
        return tuple(on(device, each) for each in values)
    return values.to(device) if isinstance(values, Tensor) else values


def prepared(engine: Engine, name: str, extra: list[str]) -> Callable[[int], None]:
    """Return a function that takes a step of a run, of which only the last one is logged."""
    recipe = tiny(name, *extra, "training.compile=false", "training.clip_norm=1")
    recipe = replace(recipe, training=replace(recipe.training, accumulate=1 if name == "clap-mini" else 2))
    learner = build(recipe).to(engine.device)
    engine.training = recipe.training
    engine.setup(learner)
    made = batch_of(learner, WINDOWS)
    batch = Batch(*(on(engine.device, getattr(made, field.name)) for field in fields(made)))
    session = Session(recipe, "", "", Statistics((0.0,), (1.0,)), total=20)
    return lambda step: assert_taken(take_step(session, engine, batch, step))


def assert_taken(losses: dict[str, Tensor] | None) -> None:
    assert losses is not None and losses["loss"].numel() == 1 and "gradient_norm" not in losses


@pytest.mark.parametrize(("name", "extra"), CASES)
def test_a_step_reads_nothing_and_copies_nothing(name: str, extra: list[str], meta: Engine) -> None:
    step = prepared(meta, name, extra)
    with no_waiting_on_meta():
        step(3)
    assert all(parameter.device == META for parameter in meta.learner.parameters())
    assert len(meta.optimiser.state) > 10  # the step was taken


def test_reads_and_copies_are_found(meta: Engine) -> None:
    number = torch.zeros(3, device=META)
    for read in (
        lambda: float(number[0]),
        lambda: number.nonzero(),
        lambda: number[number > 0],
        lambda: number.tolist(),
    ):
        with pytest.raises((RuntimeError, NotImplementedError)):
            read()
    with Copies() as copies, HostValues() as values:
        torch.zeros(3).to(META)
        torch.zeros(3, device=META).copy_(torch.zeros(3))
        to_device(torch.zeros(3), META)
        number.new_tensor([1.0])
        torch.tensor([1.0], device=META)
        torch.zeros(3).clone()
        torch.tensor([1.0])
    assert len(copies.found) == 2 and values.found == ["new_tensor", "tensor"]


@pytest.mark.gpu
@pytest.mark.parametrize(("name", "extra"), CASES)
def test_a_step_does_not_wait_for_a_gpu(name: str, extra: list[str]) -> None:
    step = prepared(Engine(RECIPES["msm-mae"]().training, "cuda"), name, extra)
    step(2)  # libraries and the state of the optimiser are set up
    with no_waiting_on_gpu():
        step(3)


def test_processes_agree_on_a_stop_in_logged_steps_only(monkeypatch: pytest.MonkeyPatch) -> None:
    engine, asked = Engine(RECIPES["msm-mae"]().training, "cpu"), []
    monkeypatch.setattr(Engine, "processes", 2)
    monkeypatch.setattr(Engine, "largest", lambda engine, number: asked.append(number) or Stop.REQUEUE)
    assert common_stop(engine, Stop.INTERRUPT, logged=False) == Stop.NO and asked == []
    assert common_stop(engine, Stop.INTERRUPT, logged=True) == Stop.REQUEUE and asked == [Stop.INTERRUPT]


@pytest.fixture
def group(tmp_path: Path) -> Iterator[None]:
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/group", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.usefixtures("group")
def test_a_sum_over_processes_has_no_barrier(monkeypatch: pytest.MonkeyPatch) -> None:
    """With NCCL a barrier waits for the device."""
    monkeypatch.setattr(torch.distributed, "barrier", lambda *given, **named: pytest.fail("a barrier"))
    value = torch.arange(3.0, requires_grad=True)
    total = summed(value)
    assert torch.equal(total, value.detach()) and not total.requires_grad and total.data_ptr() != value.data_ptr()
