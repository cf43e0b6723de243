"""Devices of workers."""

from __future__ import annotations

import pytest
import torch

from unheard.devices import device_of_worker


@pytest.mark.parametrize(("count", "devices"), [(1, ["cuda"] * 4), (3, ["cuda:0", "cuda:1", "cuda:2", "cuda:0"])])
def test_workers_take_several_gpus_in_turn(count: int, devices: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    threads = torch.get_num_threads()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    assert [device_of_worker("auto", worker, threads) for worker in range(4)] == devices
    assert [device_of_worker("cuda:1", worker, threads) for worker in range(2)] == ["cuda:1"] * 2
    assert [device_of_worker("cpu", worker, threads) for worker in range(2)] == ["cpu"] * 2
