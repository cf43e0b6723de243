"""Distributed training: detection of the launcher, and set-up of the process group.

A process is one of several when it was started by torchrun, by srun, or by this library for ``training.devices``.
Other launchers must set RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT, as torchrun does. Variables of a SLURM
allocation without srun are ignored.
"""

from __future__ import annotations

import os
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from lightning_fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from lightning_fabric.strategies.ddp import DDPStrategy
from torch import nn

from unheard.errors import ConfigError, UnheardError
from unheard.training.parallel.sharding import is_sharded

JOINING = timedelta(minutes=5)  # our choice; timeout of the processes for each other at the start
DIST_TIMEOUT = timedelta(hours=12)  # our choice; the others wait while the first process reads or packs a corpus
NOTICE_SECONDS = 10.0  # our choice; a process that waits longer at the start prints a note
TORCHRUN = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
OWN_LAUNCHER = "UNHEARD_LAUNCHER"
"""Environment variable with the process id of the first process, inherited by those it starts."""
OWN_VARIABLES = ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK", "LOCAL_RANK", "WORLD_SIZE")
NO_STEP = 2**32 - 16  # SLURM step ids from here on mean a batch script or an interactive shell


@dataclass(frozen=True)
class Launch:
    """Properties of a process that a launcher started as one of several."""

    launcher: str
    rank: int
    processes: int
    local_rank: int
    node: int
    local: int
    """Number of processes on this machine."""
    nodes: int
    address: str
    port: int


def launch() -> Launch | None:
    """Return how this process was started as one of several; None for a single process.

    Raises
    ------
    ConfigError
        When only some of the variables of a launcher are set.
    """
    env = os.environ
    world = int(env.get("WORLD_SIZE") or 1)
    if _own_child():
        rank = int(env["LOCAL_RANK"])
        return Launch("unheard", rank, world, rank, 0, world, 1, env["MASTER_ADDR"], int(env["MASTER_PORT"]))
    if world > 1 and OWN_LAUNCHER not in env:
        missing = [name for name in TORCHRUN if name not in env]
        if missing:
            raise ConfigError(
                f"WORLD_SIZE={world} is set, but not {', '.join(missing)}; torchrun sets all of them. To train with one"
                " process, unset WORLD_SIZE; to train with several, start them with torchrun"
            )
        local, local_rank = int(env.get("LOCAL_WORLD_SIZE") or 1), int(env.get("LOCAL_RANK") or 0)
        node = int(env.get("GROUP_RANK") or int(env["RANK"]) // local)
        return Launch(
            "torchrun",
            int(env["RANK"]),
            world,
            local_rank,
            node,
            local,
            max(1, world // local),
            env["MASTER_ADDR"],
            int(env["MASTER_PORT"]),
        )
    return _srun()


def first_process() -> bool:
    """Return whether this process prints and writes for all: it is the only one or has rank 0."""
    try:
        launched = launch()
    except ConfigError:  # raised again where training starts
        return True
    return launched is None or launched.rank == 0


def _own_child() -> bool:
    launcher = os.environ.get(OWN_LAUNCHER)
    return launcher is not None and launcher != str(os.getpid()) and "LOCAL_RANK" in os.environ


def _srun() -> Launch | None:
    """Return the properties of this process in a SLURM job step of several tasks."""
    env = os.environ
    step = env.get("SLURM_STEP_ID")
    tasks = int(env.get("SLURM_STEP_NUM_TASKS") or 1)
    if step is None or int(step) >= NO_STEP or tasks < 2 or "SLURM_PROCID" not in env:
        return None
    per_node = _expanded(env.get("SLURM_STEP_TASKS_PER_NODE") or str(tasks))
    node = int(env.get("SLURM_NODEID") or 0)
    names = env.get("SLURM_STEP_NODELIST") or env.get("SLURM_NODELIST") or "127.0.0.1"
    port = int(env.get("MASTER_PORT") or 15000 + int((env.get("SLURM_JOB_ID") or "0")[-4:]))
    address = env.get("MASTER_ADDR") or SLURMEnvironment.resolve_root_node_address(names)
    rank, local_rank = int(env["SLURM_PROCID"]), int(env.get("SLURM_LOCALID") or 0)
    return Launch(
        "srun", rank, tasks, local_rank, node, per_node[min(node, len(per_node) - 1)], len(per_node), address, port
    )


def _expanded(counts: str) -> list[int]:
    """Expand SLURM's ``2(x3),1`` to ``[2, 2, 2, 1]``."""
    expanded: list[int] = []
    for count, times in re.findall(r"(\d+)(?:\(x(\d+)\))?", counts):
        expanded += [int(count)] * int(times or 1)
    return expanded


class LauncherEnvironment(ClusterEnvironment):
    """Environment of a process started by a launcher, for Lightning Fabric.

    Parameters
    ----------
    launch : Launch
    """

    def __init__(self, launch: Launch) -> None:
        self.launch = launch

    creates_processes_externally = True

    @property
    def main_address(self) -> str:
        """Address of the first process."""
        return self.launch.address

    @property
    def main_port(self) -> int:
        """Port of the first process."""
        return self.launch.port

    @staticmethod
    def detect() -> bool:
        """Return False: Fabric must not detect this environment itself."""
        return False

    def world_size(self) -> int:
        """Return the number of processes."""
        return self.launch.processes

    def set_world_size(self, size: int) -> None:
        """The launcher has set it."""

    def global_rank(self) -> int:
        """Return the rank of this process."""
        return self.launch.rank

    def set_global_rank(self, rank: int) -> None:
        """The launcher has set it."""

    def local_rank(self) -> int:
        """Return the rank of this process on its machine."""
        return self.launch.local_rank

    def node_rank(self) -> int:
        """Return the index of the machine."""
        return self.launch.node


class OwnProcessEnvironment(LightningEnvironment):
    """Environment of a process that starts the others itself; ignores launcher variables of the shell."""

    creates_processes_externally = False

    def local_rank(self) -> int:
        """Return the rank of this process on its machine."""
        return 0

    def node_rank(self) -> int:
        """Return the index of this machine."""
        return 0


class DistributedStrategy(DDPStrategy):
    """Data-parallel strategy with a short timeout at the start (`JOINING`) and a long one later (`DIST_TIMEOUT`)."""

    def __init__(self) -> None:
        super().__init__(timeout=DIST_TIMEOUT)

    def setup_module(self, module: nn.Module) -> nn.Module:  # type: ignore[override]
        """Wrap a module for data parallelism; a sharded one exchanges its gradients itself."""
        return module if is_sharded(module) else super().setup_module(module)

    def setup_environment(self) -> None:
        """Create the process group."""
        self._set_world_ranks()
        assert self.cluster_environment is not None
        meet(self.cluster_environment, self._get_process_group_backend(), self.root_device)
        super().setup_environment()


def meet(environment: ClusterEnvironment, backend: str, device: torch.device) -> None:
    """Wait for the other processes and create the process group.

    Raises
    ------
    ConfigError
        When not all processes connect within `JOINING`.
    """
    from torch.distributed.rendezvous import rendezvous

    rank, processes = environment.global_rank(), environment.world_size()
    address = f"{environment.main_address}:{environment.main_port}"
    os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"] = environment.main_address, str(environment.main_port)
    text = f"process {rank} of {processes} waits for the others at {address} (MASTER_ADDR, MASTER_PORT)"
    notice = threading.Timer(NOTICE_SECONDS, lambda: sys.stderr.write(f"note       {text}\n"))
    notice.daemon = True
    notice.start()
    try:
        store = next(iter(rendezvous("env://", rank, processes, timeout=JOINING)))[0]
    except (RuntimeError, OSError) as error:  # torch's errors of a store and of a network are both RuntimeError
        raise ConfigError(
            f"{text}, and not all connected within {JOINING.total_seconds():.0f} s ({str(error).splitlines()[0]});"
            f" start {processes} processes (WORLD_SIZE). To train with one process, unset RANK, WORLD_SIZE, MASTER_ADDR"
            " and MASTER_PORT"
        ) from error
    finally:
        notice.cancel()
    store.set_timeout(DIST_TIMEOUT)
    on: dict[str, Any] = {"device_id": device} if device.type == "cuda" else {}
    torch.distributed.init_process_group(
        backend, store=store, rank=rank, world_size=processes, timeout=DIST_TIMEOUT, **on
    )


LOST = ("closed by peer", "reset by peer", "connection refused", "broken pipe", "timed out", "nccl", "gloo")
"""Words in the error messages of a process group that lost a process."""


@contextmanager
def lost_processes() -> Iterator[None]:
    """Convert the error of a lost process into a message of one line.

    Raises
    ------
    UnheardError
        When another process of the group ended or cannot be reached.
    """
    try:
        yield
    except RuntimeError as error:
        several = torch.distributed.is_available() and torch.distributed.is_initialized()
        if not several or not any(word in str(error).lower() for word in LOST):
            raise
        first = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        rank = torch.distributed.get_rank()
        raise UnheardError(
            f"process {rank} lost another process of this run, which ended or cannot be reached ({first[:120]}); see"
            " the message of that process, and continue from the last checkpoint with --resume"
        ) from error
