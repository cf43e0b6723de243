"""Runs at addresses: a local working folder that is mirrored at every checkpoint, and fetched to be resumed."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from unheard.addresses import address_of
from unheard.errors import CheckpointError, ConfigError, RemoteError, shown
from unheard.remote.listing import exists, files_below, is_file
from unheard.remote.mirror import Mirror
from unheard.remote.writing import naming, working_place
from unheard.training.callbacks import Callbacks
from unheard.training.processes import first_process, launch
from unheard.training.run_folder import FINISHED

NOT_MIRRORED = ("corpus",)
"""Folders of a run that stay local: a packed corpus can be made again from its sounds."""

_CHECKPOINT = re.compile(r"(.*)checkpoints/step-(\d+)/state\.json")


def is_finished(run: Path) -> bool:
    """Return whether a pre-training run is finished, with its figures."""
    return (run / FINISHED).is_file()


@contextmanager
def mirrored_run(
    out: str | Path, report: Callbacks, *, resume: bool = False, overwrite: bool = False, verb: str = "pretrain",
    finished: Callable[[Path], bool] = is_finished,
) -> Iterator[tuple[Path, Callbacks]]:  # fmt: skip
    """Yield the local folder of a run, and callbacks that mirror it to its address at every checkpoint.

    A checkpoint that cannot be uploaded is reported, and the next one is tried again; training continues. When the
    block ends, everything is uploaded. The local folder is deleted when the run is finished.

    Parameters
    ----------
    out : path
        A local run folder is yielded as it is.
    report : Callbacks
    resume : bool
        Fetch the run, unless this machine has the same or a later checkpoint.
    overwrite : bool
        Replace a run at the address.
    verb : str
        The command that writes the run, for messages.
    finished : callable
        Returns whether the run in a folder is finished.

    Raises
    ------
    ConfigError
        When the address exists and must not be replaced, or processes of a launcher would write to it.
    CheckpointError
        When there is no run to resume.
    RemoteError
        When the address cannot be read, or written at the end. The local folder is kept.
    """
    address = address_of(out).rstrip("/")
    if not address:
        yield Path(out), report
        return
    place = working_place(address)
    mirror = Mirror(place, address, NOT_MIRRORED)
    launched = launch()
    if launched is not None and launched.launcher != "unheard":
        raise ConfigError(
            f"{shown(address)}: processes that {launched.launcher} starts need a run folder that all of them share;"
            " give a local path with -o, or let unheard start them with training.devices"
        )
    if first_process():
        place.parent.mkdir(parents=True, exist_ok=True)
        _resume(mirror, verb) if resume else _prepare(address, place, overwrite)

    def save(run: Path) -> None:
        try:
            mirror.update()
        except RemoteError as error:
            report.log(f"warning    {error}; the next checkpoint is tried again")
        report.on_save(run)

    with naming(place, address):
        yield place, replace(report, on_save=save, log=lambda text: report.log(text.replace(str(place), address)))
    if not first_process():
        return
    try:
        mirror.update()
    except RemoteError as error:
        raise RemoteError(
            f"{error}; the run is kept in {shown(place)}, and unheard {verb} --resume {shown(address)} uploads it"
        ) from error
    if finished(place):
        shutil.rmtree(place.parent, ignore_errors=True)


def _prepare(address: str, place: Path, overwrite: bool) -> None:
    """Refuse an address that must not be replaced."""
    if not exists(address):
        return
    if not overwrite:
        raise ConfigError(
            f"{shown(address)} exists and is not empty; choose another -o, continue it with --resume, or replace it"
            " with --overwrite"
        )
    if not is_file(f"{address}/config.json"):
        raise ConfigError(
            f"{shown(address)} is not a run folder, so --overwrite does not delete it; choose another -o, or delete it"
            " yourself"
        )
    shutil.rmtree(place, ignore_errors=True)


def _resume(mirror: Mirror, verb: str) -> None:
    """Fetch a run, unless this machine has the same or a later checkpoint of it."""
    address, place = mirror.address, mirror.folder
    there = files_below(address) if exists(address) else {}
    here = [path.relative_to(place).as_posix() for path in place.rglob("*")] if place.exists() else []
    if "config.json" not in there and "config.json" not in here:
        raise CheckpointError(
            f"there is no run at {shown(address)}; give the address that unheard {verb} wrote with -o"
        )
    if "config.json" in here and _steps(here) >= _steps(there):
        return
    shutil.rmtree(place, ignore_errors=True)
    mirror.fetch()


def _steps(names: Iterable[str]) -> int:
    """Return the steps of the latest complete checkpoints of all models of a run; -1 without one."""
    latest: dict[str, int] = {}
    for found in filter(None, map(_CHECKPOINT.fullmatch, names)):
        latest[found[1]] = max(latest.get(found[1], 0), int(found[2]))
    return sum(latest.values()) if latest else -1
