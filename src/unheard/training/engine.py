"""The engine: a thin layer over Lightning Fabric. Devices, processes and precision end here; the loop knows none of
them.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import fields
from typing import Any, cast

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from unheard.errors import ConfigError
from unheard.model import masking
from unheard.model.masking import Mask
from unheard.model.transformer import AttentionKernel, use_attention
from unheard.objectives.base import Batch
from unheard.recipes.learner import PretrainModule
from unheard.recipes.recipe import TrainingConfig
from unheard.training.optim import build_optimiser
from unheard.training.processes import OWN_LAUNCHER, OWN_VARIABLES, Launched, Launching, Together, launch

Losses = dict[str, Tensor]


class Engine:
    """Runs a learner on whatever there is: one CPU, one GPU, or many processes under torchrun or SLURM.

    Parameters
    ----------
    training : TrainingConfig
        Precision, compilation, accumulation, clipping.
    device : {"auto", "cpu", "cuda", "mps"}
        Where to run.
    """

    learner: PretrainModule
    optimiser: torch.optim.Optimizer
    kernel: AttentionKernel

    def __init__(self, training: TrainingConfig, device: str = "auto") -> None:
        self.accelerator = _accelerator(device)
        self.precision = _precision(training.precision, self.accelerator)
        self.training = training
        logging.getLogger("lightning_fabric").setLevel(
            logging.WARNING
        )  # it tells of processes and precision; so do we, once
        exact: dict[str, Any] = {"precision": "bf16-mixed" if self.precision == "bf16" else "32-true"}
        self.fabric = Fabric(accelerator=self.accelerator, **exact, **_processes(training.devices))
        self._launches = training.devices > 1 and launch() is None
        if self._launches:
            os.environ[OWN_LAUNCHER] = str(os.getpid())
        self.fabric.launch()

    def setup(self, learner: PretrainModule, kernel: AttentionKernel | None = None) -> None:
        """Move a learner to the device and build its optimiser; ``kernel`` is the attention kernel an earlier session
        used.
        """
        self.learner = learner
        self.setup_module(learner, build_optimiser(learner, self.training), kernel)
        learner.sum_over_processes, learner.gather_over_processes = self.sum, self.gather

    def setup_module(
        self, module: nn.Module, optimiser: torch.optim.Optimizer, kernel: AttentionKernel | None = None
    ) -> None:
        """Move a module and its optimiser to the device; afterwards ``self.module`` is what to call."""
        slow_fused = self.accelerator == "cpu" and self.precision == "bf16"
        self.kernel = kernel or ("explicit" if slow_fused else "fused")
        use_attention(module, self.kernel)
        if self.training.compile or (self.training.compile is None and self.accelerator == "cuda"):
            module.compile(dynamic=False)
        self.module, self._optimiser = self.fabric.setup(module, optimiser)
        self.optimiser = self._optimiser.optimizer

    @property
    def device(self) -> torch.device:
        """Where batches must be."""
        device: torch.device = self.fabric.device
        return device

    @property
    def rank(self) -> int:
        """Index of this process."""
        return int(self.fabric.global_rank)

    @property
    def processes(self) -> int:
        """How many processes train together."""
        return int(self.fabric.world_size)

    def mean(self, value: Tensor) -> Tensor:
        """Average over all processes."""
        if self.processes == 1:
            return value
        return cast(Tensor, self.fabric.all_reduce(value.detach().clone(), reduce_op="mean"))

    def sum(self, value: Tensor) -> Tensor:
        """Add up over all processes."""
        if self.processes == 1:
            return value
        return cast(Tensor, self.fabric.all_reduce(value.detach().clone(), reduce_op="sum"))

    def gather(self, value: Tensor) -> Tensor:
        """The tensors of all processes along the first axis; gradients find their way back."""
        if self.processes == 1:
            return value
        return cast(Tensor, self.fabric.all_gather(value, sync_grads=value.requires_grad)).flatten(0, 1)

    def align_buffers(self, module: nn.Module) -> None:
        """Give the buffers of a module the first process's values: a norm over the batch has other averages in each
        process.
        """
        if self.processes > 1:
            for buffer in module.buffers():
                buffer.copy_(self.fabric.broadcast(buffer.cpu()))

    def any_rank(self, flag: bool) -> bool:
        """Whether the flag is set in any process."""
        if self.processes == 1:
            return flag
        return bool(self.mean(torch.tensor(float(flag), device=self.device)) > 0)

    def first_process_first(self) -> AbstractContextManager[None]:
        """Let the first process through before the others, so that what it writes is there for them."""
        first: AbstractContextManager[None] = self.fabric.rank_zero_first()
        return first

    def wait(self) -> None:
        """Wait until every process is here."""
        self.fabric.barrier()

    def close(self) -> None:
        """Part from the other processes; left to the end of the program, its threads could bring that down."""
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            self.wait()
            torch.distributed.destroy_process_group()
        if self._launches:
            for name in (OWN_LAUNCHER, *OWN_VARIABLES):
                os.environ.pop(name, None)

    def losses_and_gradients(self, batch: Batch, step: int = 0) -> Losses:
        """Return losses whose mean over the processes is that of the whole batch, of which ``batch`` is this process's
        share.

        Gradients are left on the parameters: those of one process with the whole batch, whatever processes and parts
        there are. What is random in a pass (dropout of weights) is a function of seed and step, the same in every part;
        what is random in a window comes with the batch.
        """
        mask = masking.training_mask(self.learner.recipe.model, self.learner.grid, batch.noise, batch.valid)
        totals = {
            name: {key: self.sum(value) for key, value in each.items()}
            for name, each in self.learner.totals(batch, mask).items()
        }
        parts = _split(batch, mask, self.training.accumulate)
        found: Losses = {}
        for index, (part, hidden) in enumerate(parts):
            last = index == len(parts) - 1
            self._seed(step)
            with nullcontext() if last else self.fabric.no_backward_sync(self.module):
                values: Losses = self.module(part, hidden, totals)
                self.fabric.backward(
                    values["loss"] * self.processes
                )  # gradients are averaged over processes, and belong added up
            for name, value in values.items():
                share = 1 / len(parts) if name.startswith("diagnostics/") else self.processes
                found[name] = found.get(name, torch.zeros_like(value)) + value.detach() * share
        return found

    def step(self, rate: float) -> None:
        """Clip, move the weights with the given learning rate, times the ``scale`` of their group, and forget the
        gradients.
        """
        for group in self.optimiser.param_groups:
            group["lr"] = rate * group.get("scale", 1.0)
        if self.training.clip_norm is not None:
            self.fabric.clip_gradients(
                self.module, self._optimiser, max_norm=self.training.clip_norm, error_if_nonfinite=False
            )
        self._optimiser.step()
        self._optimiser.zero_grad()

    def seed_step(self, step: int) -> None:
        """Seed the global generator, so that anything random in a step depends on seed, step and rank alone."""
        self._seed(step, self.rank)

    def _seed(self, step: int, rank: int = 0) -> None:
        torch.manual_seed((self.training.seed * 1_000_003 + step) * 1_009 + rank)

    def benchmark_step(self, batch: Batch) -> float:
        """Seconds one step on ``batch`` takes, measured without moving a weight or anything objectives remember."""
        kept = self.kept_buffers()
        self.losses_and_gradients(batch)
        begin = time.perf_counter()
        self.losses_and_gradients(batch)
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        seconds = time.perf_counter() - begin
        self.undo(kept)
        return seconds

    def kept_buffers(self) -> list[tuple[Tensor, Tensor]]:
        """Return every buffer of what is trained with a copy of its values."""
        return [(buffer, buffer.clone()) for buffer in self.module.buffers()]

    def undo(self, kept: list[tuple[Tensor, Tensor]]) -> None:
        """Drop the gradients of a pass and put buffers back."""
        self._optimiser.zero_grad()
        for buffer, value in kept:
            buffer.copy_(value)


def bf16_on_cpu() -> bool:
    """Whether this processor computes in bfloat16 itself (AVX512-BF16 or AMX)."""
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def _accelerator(device: str) -> str:
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not available.get(device, False):
        usable = ", ".join(name for name, there in available.items() if there)
        raise ConfigError(f"device {device!r} is not available here; usable: auto, {usable}")
    return device


def _precision(asked: str, accelerator: str) -> str:
    if asked == "auto":
        return "bf16" if accelerator == "cuda" else "float32"
    if asked == "bf16" and accelerator == "cpu" and not bf16_on_cpu():
        raise ConfigError(
            "training.precision=bf16 needs a processor with AVX512-BF16 or AMX, or a GPU; use float32 here"
        )
    return asked


def _processes(devices: int) -> dict[str, Any]:
    """Device and node counts: those of the launcher that started this process as one of several, else the recipe's."""
    found = launch()
    if found is not None:
        return {"devices": found.local, "num_nodes": found.nodes, "strategy": Together(), "plugins": [Launched(found)]}
    return {"devices": devices, "strategy": Together() if devices > 1 else "auto", "plugins": [Launching()]}


def _split(batch: Batch, mask: Mask, parts: int) -> list[tuple[Batch, Mask]]:
    if len(batch.spec) % parts:
        raise ConfigError(
            f"training.accumulate={parts} does not divide the {len(batch.spec)} windows of a batch that a process"
            " takes; set training.batch_size or training.accumulate so that it does"
        )
    batches = zip(*(_chunks(getattr(batch, field.name), parts) for field in fields(batch)), strict=True)
    masks = zip(mask.keep.chunk(parts), mask.hide.chunk(parts), strict=True)
    return [(Batch(*tensors), Mask(*indices)) for tensors, indices in zip(batches, masks, strict=True)]


def one_by_one(batch: Batch) -> list[Batch]:
    """Return every window of a batch as a batch of its own."""
    columns = zip(*(_chunks(getattr(batch, field.name), batch.spec.shape[0]) for field in fields(batch)), strict=True)
    return [Batch(*tensors) for tensors in columns]


def _chunks(values: Tensor | None, parts: int) -> Sequence[Tensor | None]:
    return [None] * parts if values is None else values.chunk(parts)
