"""The run folder: preparation, locking and completion."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ParamSpec, TypeVar

from unheard.addresses import address_of
from unheard.audio.archives.members import is_sound_file
from unheard.errors import CheckpointError, ConfigError, DataError, shown
from unheard.files import read_json, remove_contents, remove_unfinished, write_json
from unheard.outputs import LOCK, locked_folder
from unheard.remote.listing import exists
from unheard.training.checkpoints import checkpoints, read_progress
from unheard.training.processes import first_process
from unheard.training.session import CONFIG, Session, read_config

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

FINISHED = "finished.json"
"""File of a run folder that is written last, when the run is complete."""


def is_run(folder: Path) -> bool:
    """Return whether a folder is a run, or a run that was stopped while it read its corpus."""
    try:
        read_config(folder)
    except CheckpointError:
        return [entry.name for entry in folder.iterdir() if entry.name != LOCK] == ["corpus"]
    return True


def is_started(folder: Path) -> bool:
    """Return whether a folder holds the configuration of a run."""
    return (folder / CONFIG).is_file()


def prepare_output_dir(run: Path, sources: Sequence[Path], overwrite: bool, partial: bool = False) -> None:
    """Prepare the folder of a new run. Only run folders of this library are ever deleted.

    Parameters
    ----------
    partial : bool
        Accept a folder that holds a packed corpus only.

    Raises
    ------
    DataError
        When one of ``sources`` does not exist.
    ConfigError
        When ``run`` exists and must not be replaced.
    """
    for data in sources:
        if not exists(data) and not is_sound_file(data):
            raise DataError(
                f"{shown(data)}: no such file or folder; give folders of audio, archives, CSVs with a column path, or a"
                " packed corpus"
            )
    if not (run.is_file() or (run.exists() and any(entry.name != LOCK for entry in run.iterdir()))):
        return
    if partial and not run.is_file() and is_run(run) and not is_started(run):
        return
    if not overwrite:
        raise ConfigError(
            f"{run} exists and is not empty; choose another -o, continue it with --resume, or replace it with"
            " --overwrite"
        )
    if run.is_file() or not is_run(run):
        raise ConfigError(
            f"{run} is not a run folder, so --overwrite does not delete it; choose another -o, or delete it yourself"
        )
    for data in sources:
        if not address_of(data) and data.resolve().is_relative_to(run.resolve()):
            raise ConfigError(f"the data {data} is inside {run}, which --overwrite would delete; choose another -o")
    remove_contents(run)


def one_writer(verb: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Decorate a function that writes the run folder ``out``: the first process holds the lock of the folder.

    Raises
    ------
    ConfigError
        When another process writes to the folder.
    """
    signature = inspect.signature(verb)

    @functools.wraps(verb)
    def locking(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        out = Path(signature.bind(*args, **kwargs).arguments["out"])
        if out.is_file() or not first_process():
            return verb(*args, **kwargs)
        with locked_folder(out):
            remove_unfinished(out)
            return verb(*args, **kwargs)

    return locking


def mark_complete(run: Path, session: Session) -> None:
    """Mark a run as complete, with model and figures of the last step."""
    write_json(run / FINISHED, {"step": session.total})


def is_complete(run: Path, session: Session) -> bool:
    """Return whether every step is done, and model and figures of the last step exist."""
    saved, mark = checkpoints(run), run / FINISHED
    done = bool(saved) and read_progress(saved[-1]).step >= session.total and mark.is_file()
    return done and read_json(mark, CheckpointError, "delete it, and resume the run to create it") == {
        "step": session.total
    }
