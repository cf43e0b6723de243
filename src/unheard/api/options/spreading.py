"""Options of jobs that several processes can share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class SpreadOptions:
    """How a job is spread over processes.

    Parameters
    ----------
    engine
        local: processes of this machine. ray: the Ray cluster of RAY_ADDRESS, or a new one on this machine.
    processes
        Number of processes, each with its own copy of a model. Default: 1; with ray one per GPU of the cluster, or
        per core if it has none.
    task
        I/N: do only the I-th of N tasks in this process, as one task of a SLURM array. The last one that ends joins the
        parts. A part that exists is continued.
    """

    engine: Literal["local", "ray"] = "local"
    processes: int | None = None
    task: str | None = None
