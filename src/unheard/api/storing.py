"""Targets of feature distillation, computed once for a corpus."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal, overload

from unheard.api.options import SpreadOptions, TargetOptions, documented
from unheard.devices import torch_device
from unheard.errors import ConfigError
from unheard.jobs.addressed import tasks_at_addresses
from unheard.progress import Track, silent
from unheard.remote.outputs import uploaded
from unheard.remote.writing import is_working_place

if TYPE_CHECKING:
    from unheard.data.corpus import Sources
    from unheard.jobs.engines import Engine
    from unheard.jobs.running import TaskReport
    from unheard.teachers.stored import StoredTargets


@overload
def targets(
    data: Sources, teacher: str, out: str | Path, *, stage: Literal["final", "middle"] = ..., projected: bool = ...,
    pca: int | None = ..., engine: Engine = ..., processes: int | None = ..., task: None = ..., device: str = ...,
    track: Track = ...,
) -> StoredTargets: ...  # fmt: skip


@overload
def targets(
    data: Sources, teacher: str, out: str | Path, *, stage: Literal["final", "middle"] = ..., projected: bool = ...,
    pca: int | None = ..., engine: Engine = ..., processes: int | None = ..., task: str, device: str = ...,
    track: Track = ...,
) -> StoredTargets | TaskReport: ...  # fmt: skip


@documented(SpreadOptions)
@documented(TargetOptions)
@tasks_at_addresses
@uploaded("out")
def targets(
    data: Sources,
    teacher: str,
    out: str | Path,
    *,
    stage: Literal["final", "middle"] = "final",
    projected: bool = False,
    pca: int | None = None,
    engine: Engine = "local",
    processes: int | None = None,
    task: str | None = None,
    device: str = "auto",
    track: Track = silent,
) -> StoredTargets | TaskReport:
    """Compute the feature maps of a frozen teacher for every clip of a corpus, and store them as float16.

    Parameters
    ----------
    data : path, or sequence of path
        A corpus packed as waves, also at an address. For one process also folders, archives and tables of sounds that
        fit into memory; several are one corpus, as in `pretrain`.
    teacher : str
        Folder of a Hugging Face CLAP, ``hf:DIR``, ``hear:MODULE``, or any model of this library.
    out : path
        Folder to write, also at an address; partly stored targets of the same corpus and teacher are completed.

    Returns
    -------
    StoredTargets
        The targets. With ``task``, the report of the task while others are missing.

    Raises
    ------
    ConfigError
        When the options of processes exclude each other, or several of them get a corpus that is not packed.
    DataError
        When the corpus holds no waves, ``out`` holds other targets, or the teacher returns values that cannot be
        stored.
    CheckpointError
        When the teacher cannot be loaded.

    Examples
    --------
    >>> import unheard
    >>> unheard.api.targets("corpora/mine", "models/clap", "targets/clap", pca=128)  # doctest: +SKIP
    """
    from unheard.jobs.engines import Spread
    from unheard.teachers.storing import TargetsConfig, store_targets
    from unheard.teachers.target_tasks import store_in_tasks

    config, spread = TargetsConfig(teacher, stage, projected, pca), Spread(engine, processes, task)
    if pca is not None and task is not None and is_working_place(Path(out)):
        raise ConfigError(
            "the tasks of --pca need a folder that all of them share, with the projection; give a local path with -o,"
            " or leave --pca or --task out"
        )
    if spread != Spread():
        return store_in_tasks(data, config, Path(out), device, spread, track)
    return store_targets(data, config, out, torch_device(device), track)
