"""Training engine on Lightning Fabric: devices, processes and precision, hidden from the training loop."""

from __future__ import annotations

import gc
import logging
import os
import time
from contextlib import AbstractContextManager, nullcontext
from typing import Any, cast

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from unheard.devices import bf16_on_cpu, torch_device
from unheard.errors import ConfigError
from unheard.model.transformer import AttentionKernel, use_attention, use_recompute
from unheard.objectives.base import Batch
from unheard.recipes.learner import PretrainModule
from unheard.recipes.recipe import TrainingConfig
from unheard.training.optim import build_optimiser
from unheard.training.parallel.exchange import summed
from unheard.training.parallel.parts import split_batch
from unheard.training.parallel.sharding import average_whole_gradients, clip_gradients, gradient_norm, shard
from unheard.training.processes import (
    OWN_LAUNCHER,
    OWN_VARIABLES,
    DistributedStrategy,
    LauncherEnvironment,
    OwnProcessEnvironment,
    launch,
)

Losses = dict[str, Tensor]


class Engine:
    """Run a learner on one CPU, one GPU, or several processes under torchrun or SLURM.

    Parameters
    ----------
    training : TrainingConfig
        Precision, compilation, accumulation, clipping.
    device : {"auto", "cpu", "cuda", "mps"}
    """

    learner: PretrainModule
    optimiser: torch.optim.Optimizer
    kernel: AttentionKernel

    def __init__(self, training: TrainingConfig, device: str = "auto") -> None:
        self.accelerator = _accelerator(device)
        self.precision = _precision(training.precision, self.accelerator)
        self.training = training
        # Fabric logs processes and precision; `summary_lines` already prints them
        logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
        exact: dict[str, Any] = {"precision": "bf16-mixed" if self.precision == "bf16" else "32-true"}
        self.fabric = Fabric(accelerator=self.accelerator, **exact, **_processes(training.devices))
        self._launches = training.devices > 1 and launch() is None
        if self._launches:
            os.environ[OWN_LAUNCHER] = str(os.getpid())
        self.fabric.launch()

    def setup(self, learner: PretrainModule, kernel: AttentionKernel | None = None) -> None:
        """Move a learner to the device and build its optimiser.

        Parameters
        ----------
        learner : PretrainModule
        kernel : AttentionKernel, optional
            Attention kernel of an earlier session of the run.
        """
        self.learner = learner
        if self.sharded:
            if self.training.compile:
                raise ConfigError("training.shard=true cannot be combined with training.compile=true; remove one")
            shard(learner.to(self.device), self.device, self.processes)
        self.setup_module(learner, build_optimiser(learner, self.training), kernel)
        learner.sum_over_processes, learner.gather_over_processes = self.sum, self.gather

    def setup_module(
        self, module: nn.Module, optimiser: torch.optim.Optimizer, kernel: AttentionKernel | None = None
    ) -> None:
        """Move a module and its optimiser to the device; afterwards call ``self.module``."""
        if self.training.shard and not isinstance(module, PretrainModule):
            raise ConfigError("training.shard=true is for pre-training only; remove it")
        slow_fused = self.accelerator == "cpu" and self.precision == "bf16"
        self.kernel = kernel or ("explicit" if slow_fused else "fused")
        use_attention(module, self.kernel)
        if self.training.activation_checkpointing:
            use_recompute(module)
        on_gpu = self.training.compile is None and self.accelerator == "cuda" and not self.sharded
        if self.training.compile or on_gpu:
            module.compile(dynamic=False)
        self.module, self._optimiser = self.fabric.setup(module, optimiser)
        self.optimiser = self._optimiser.optimizer

    @property
    def device(self) -> torch.device:
        """Device that batches must be on."""
        device: torch.device = self.fabric.device
        return device

    @property
    def rank(self) -> int:
        """Index of this process."""
        return int(self.fabric.global_rank)

    @property
    def processes(self) -> int:
        """Number of processes that train together."""
        return int(self.fabric.world_size)

    @property
    def sharded(self) -> bool:
        """Whether weights, gradients and optimiser states are split over the processes."""
        return self.training.shard and self.processes > 1

    def mean(self, value: Tensor) -> Tensor:
        """Return the mean over all processes."""
        return value if self.processes == 1 else summed(value) / self.processes

    def sum(self, value: Tensor) -> Tensor:
        """Return the sum over all processes."""
        return value if self.processes == 1 else summed(value)

    def gather(self, value: Tensor) -> Tensor:
        """Concatenate the tensors of all processes along the first axis, with gradients."""
        if self.processes == 1:
            return value
        return cast(Tensor, self.fabric.all_gather(value, sync_grads=value.requires_grad)).flatten(0, 1)

    def align_buffers(self, module: nn.Module) -> None:
        """Copy the buffers of the first process to all processes; batch norm statistics differ between processes."""
        if self.processes > 1:
            for buffer in module.buffers():
                buffer.copy_(self.fabric.broadcast(buffer.cpu()))

    def largest(self, number: int) -> int:
        """Return the largest number of all processes; with several, the device is synchronised."""
        if self.processes == 1:
            return number
        return int(cast(Tensor, self.fabric.all_reduce(torch.tensor(number, device=self.device), reduce_op="max")))

    def any_rank(self, flag: bool) -> bool:
        """Return whether the flag is set in any process."""
        return self.largest(flag) > 0

    def first_process_first(self) -> AbstractContextManager[None]:
        """Return a context that the first process completes before the others enter it, so that they find its files."""
        first: AbstractContextManager[None] = self.fabric.rank_zero_first()
        return first

    def wait(self) -> None:
        """Wait until every process has reached this call."""
        self.fabric.barrier()

    def close(self) -> None:
        """Release the module and destroy the process group; `setup` cannot be called again.

        The threads of a gloo process group end with its last reference, and the wrapped module has one. A thread that
        still runs at exit can abort the program. With sharded weights on the CPU they run until exit, because caches of
        PyTorch keep a reference.
        """
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            self.wait()
            for name in ("module", "_optimiser", "optimiser"):
                vars(self).pop(name, None)
            gc.collect()
            torch.distributed.destroy_process_group()
        if self._launches:
            for name in (OWN_LAUNCHER, *OWN_VARIABLES):
                os.environ.pop(name, None)

    def losses_and_gradients(self, batch: Batch, step: int = 0) -> Losses:
        """Compute the losses of the part of the batch of this process, and the gradients of the whole batch.

        The gradients are those of one process with the whole batch, for every number of processes and parts.
        Randomness in a pass (dropout) depends on seed and step, and is the same in every part. Randomness of a window
        is part of the batch.

        Returns
        -------
        dict of Tensor
            Losses and diagnostics; their mean over the processes is the value of the whole batch.
        """
        mask = self.learner.training_mask(batch)
        totals = {
            name: {key: self.sum(value) for key, value in each.items()}
            for name, each in self.learner.totals(batch, mask).items()
        }
        parts = split_batch(batch, mask, self.training.accumulate)
        losses: Losses = {}
        for index, (part, hidden) in enumerate(parts):
            last = index == len(parts) - 1
            self._seed(step)
            with nullcontext() if last or self.sharded else self.fabric.no_backward_sync(self.module):
                values: Losses = self.learner.finish(self.module(part, hidden, totals), totals)
                # gradients are averaged over processes, but must be summed
                self.fabric.backward(values["loss"] * self.processes)
            for name, value in values.items():
                share = 1 / len(parts) if name.startswith("diagnostics/") else self.processes
                losses[name] = losses.get(name, torch.zeros_like(value)) + value.detach() * share
        if self.sharded:
            average_whole_gradients(self.learner, self.mean)
        return losses

    def gradient_norm(self) -> Tensor:
        """Return the Euclidean norm of all gradients of the learner; every process must call this."""
        return gradient_norm(self.learner, self.sum)

    def step(self, rate: float) -> None:
        """Clip the gradients, update the weights, and reset the gradients.

        Parameters
        ----------
        rate : float
            Learning rate; multiplied by the ``scale`` of each parameter group.
        """
        for group in self.optimiser.param_groups:
            group["lr"] = rate * group.get("scale", 1.0)
        if self.training.clip_norm is not None and self.sharded:
            clip_gradients(self.learner, self.gradient_norm(), self.training.clip_norm)
        elif self.training.clip_norm is not None:
            self.fabric.clip_gradients(
                self.module, self._optimiser, max_norm=self.training.clip_norm, error_if_nonfinite=False
            )
        self._optimiser.step()
        self._optimiser.zero_grad()

    def seed_step(self, step: int, rank: int) -> None:
        """Seed the global generator, so that randomness in a step depends only on seed, step and rank."""
        self._seed(step, rank)

    def _seed(self, step: int, rank: int = 0) -> None:
        torch.manual_seed((self.training.seed * 1_000_003 + step) * 1_009 + rank)

    def benchmark_step(self, batch: Batch) -> float:
        """Return the seconds of one step on ``batch``; weights and buffers stay unchanged."""
        saved = self.saved_buffers()
        self.losses_and_gradients(batch)
        begin = time.perf_counter()
        self.losses_and_gradients(batch)
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        seconds = time.perf_counter() - begin
        self.undo(saved)
        return seconds

    def saved_buffers(self) -> list[tuple[Tensor, Tensor]]:
        """Return every buffer of the module with a copy of its values."""
        return [(buffer, buffer.clone()) for buffer in self.module.buffers()]

    def undo(self, saved: list[tuple[Tensor, Tensor]]) -> None:
        """Reset the gradients and restore the buffers."""
        self._optimiser.zero_grad()
        for buffer, value in saved:
            buffer.copy_(value)


def _accelerator(device: str) -> str:
    """Return the kind of device that a name stands for: "auto" is a GPU if there is one."""
    name = torch_device(device)
    if name not in ("cpu", "cuda", "mps"):
        raise ConfigError(f"training takes cuda, mps or cpu, not {name!r}; select GPUs with CUDA_VISIBLE_DEVICES")
    return name


def _precision(requested: str, accelerator: str) -> str:
    if requested == "auto":
        return "bf16" if accelerator == "cuda" else "float32"
    if requested == "bf16" and accelerator == "cpu" and not bf16_on_cpu():
        raise ConfigError(
            "training.precision=bf16 needs a processor with AVX512-BF16 or AMX, or a GPU; use float32 here"
        )
    return requested


def _processes(devices: int) -> dict[str, Any]:
    """Return the Fabric arguments for devices and nodes, from the launcher if there is one, else from the recipe."""
    launched = launch()
    if launched is not None:
        return {
            "devices": launched.local,
            "num_nodes": launched.nodes,
            "strategy": DistributedStrategy(),
            "plugins": [LauncherEnvironment(launched)],
        }
    strategy = DistributedStrategy() if devices > 1 else "auto"
    return {"devices": devices, "strategy": strategy, "plugins": [OwnProcessEnvironment()]}
