"""On a GPU the thread of a loader is bound to it and has a stream of its own; the steps wait for each batch there."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from unheard.data.prefetch import Prefetcher, tensors_of

GPU = torch.device("cuda:1")
EVENT = torch.cuda.Event() if torch.backends.cuda.is_built() else object.__new__(torch.cuda.Event)


@dataclass
class Made:
    values: Tensor
    several: tuple[Tensor, ...]
    by_rank: dict[int, Tensor]
    lengths: Tensor
    missing: Tensor | None = None
    name: str = "made"


def made(step: int) -> Made:
    one = torch.full((2,), float(step))
    return Made(one, (one + 1, one + 2), {0: one + 3}, torch.tensor([step]))


class Loader(Prefetcher[Made]):
    def batch(self, step: int) -> Made:
        return made(step)


class Recorded:
    """Stands for `torch.cuda` and its streams, and records every call with the thread that makes it."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []

    def note(self, what: str) -> None:
        name = threading.current_thread().name
        self.calls.append((what, "batches" if name == "batches" else "caller"))

    def stream(self, name: str) -> Any:
        note = self.note

        class Stream:
            def __init__(self, device: torch.device = GPU) -> None:
                assert device == GPU

            def wait_stream(self, other: Any) -> None:
                note(f"{name} waits for {other.name}")

            def wait_event(self, event: torch.cuda.Event) -> None:
                assert event is EVENT
                note(f"{name} waits for a batch")

            def record_event(self) -> torch.cuda.Event:
                note(f"{name} records")
                return EVENT

        Stream.name = name
        return Stream


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> Recorded:
    found = Recorded()
    for name, value in {
        "set_device": lambda device: found.note(f"bound to {device}"),
        "Stream": found.stream("side"),
        "default_stream": lambda device: found.stream("default")(device),
        "current_stream": lambda device: found.stream("default")(device),
        "set_stream": lambda stream: found.note(f"on {stream.name}"),
    }.items():
        monkeypatch.setattr(torch.cuda, name, value)
    # whole numbers stand for what a batch keeps on the CPU
    monkeypatch.setattr(Tensor, "is_cuda", property(lambda tensor: tensor.is_floating_point()))
    monkeypatch.setattr(Tensor, "record_stream", lambda tensor, stream: found.note(f"keeps {stream.name}"))
    return found


def test_all_tensors_of_a_batch_are_found() -> None:
    assert [float(tensor[0]) for tensor in tensors_of(made(5))] == [5, 6, 7, 8, 5]
    assert list(tensors_of("none")) == []


def test_the_thread_is_bound_to_its_gpu_and_the_caller_waits_for_each_batch(recorded: Recorded) -> None:
    with Loader(range(3), GPU) as loader:
        found = list(loader)
    assert [float(batch.values[0]) for batch in found] == [0, 1, 2]
    of_thread = [what for what, thread in recorded.calls if thread == "batches"]
    assert of_thread == ["bound to cuda:1", "side waits for default", "on side", *["side records"] * 3]
    of_caller = [what for what, thread in recorded.calls if thread == "caller"]
    assert of_caller == ["default waits for a batch", *["keeps default"] * 4] * 3
    for number in range(3):  # a batch is complete before it is waited for
        done, taken = (
            [place for place, (what, _) in enumerate(recorded.calls) if what == wanted][number]
            for wanted in ("side records", "default waits for a batch")
        )
        assert done < taken


def test_a_cpu_has_no_streams(recorded: Recorded) -> None:
    with Loader(range(2)) as loader:
        assert [float(batch.values[0]) for batch in loader] == [0, 1]
    assert recorded.calls == []
