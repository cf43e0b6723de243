"""The runs below a folder, with progress, loss, score and state."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from unheard.addresses import address_of
from unheard.errors import DataError, UnheardError
from unheard.evaluation.probe.files import read_report
from unheard.files import read_json
from unheard.outputs import in_use
from unheard.remote.listing import Entry, files_below, is_folder
from unheard.remote.reading import copied_folder
from unheard.training.checkpoints import checkpoints, read_progress
from unheard.training.run_folder import FINISHED
from unheard.training.session import CONFIG, read_config
from unheard.view.run import best_probe, read_metrics
from unheard.weights.checkpoint import ENSEMBLE_DIR, WEIGHTS

LISTED = (CONFIG, "environment.json", "metrics.jsonl", "state.json", FINISHED, "scores.json", "probe.json")
"""Files of a run that `list_runs` reads."""

State = Literal["finished", "stopped", "running", "unknown"]


@dataclass(frozen=True)
class ListedScore:
    """A score of a run on labelled clips.

    Parameters
    ----------
    source : str
        The probe, by the name of its folder, or "test clips" of a fine-tuned run.
    metric : str
    value : float
    low, high : float, optional
        95 % interval, where there is one.
    """

    source: str
    metric: str
    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class ListedRun:
    """A run.

    Parameters
    ----------
    path : Path
    kind : {"pretrain", "finetune"}
    recipe, data : str
        Name of the recipe, and the corpus or the labelled table.
    steps, total : int
        Steps done and planned, over all models of the run.
    loss : float, optional
        The last one.
    score : ListedScore, optional
        That of the best probe with a linear head, or of the test clips.
    watched : ListedScore, optional
        Best score of the linear head on the table of ``--watch``, and its step as the source.
    changed : str
        Time of the last metrics, else of the start: ``YYYY-MM-DD HH:MM``, local time. Empty for a run at an address.
    state : {"finished", "stopped", "running", "unknown"}
        Running: a process holds the lock of the folder. Unknown: an unfinished run at an address.
    """

    path: Path
    kind: Literal["pretrain", "finetune"]
    recipe: str
    data: str
    steps: int
    total: int
    loss: float | None
    score: ListedScore | None
    watched: ListedScore | None
    changed: str
    state: State


def list_runs(root: str | Path = ".") -> tuple[list[ListedRun], list[str]]:
    """Return the runs in a folder and below it, latest first, and a reason for each run that cannot be read.

    Folders in a run are not searched, nor are hidden ones. Runs at an address are in the order of
    their paths; the files of `LISTED` are copied.

    Raises
    ------
    DataError
        When the folder does not exist.
    RemoteError
        When an address cannot be read.
    """
    address = address_of(root).rstrip("/")
    if not address:
        return _list_local(Path(root))
    if not is_folder(address):
        raise DataError(f"there is no folder {address}; give one that holds runs")
    wanted = _listed_files(files_below(address))
    if not wanted:
        return [], []
    with copied_folder(address, wanted.__contains__) as folder:
        found, unreadable = _list_local(folder)
        remote = [at_address(run, Path(address, run.path.relative_to(folder))) for run in found]
        return sorted(remote, key=lambda run: run.path), [each.replace(str(folder), address) for each in unreadable]


def at_address(run: ListedRun, path: Path) -> ListedRun:
    """Return a run with its address. Its copy has neither the time nor the lock of the run there."""
    return replace(run, path=path, changed="", state=run.state if run.state == "finished" else "unknown")


def _listed_files(files: Mapping[str, Entry]) -> set[str]:
    """Return the names of the files that `_list_local` reads, without those of model folders."""
    split = {name: name.rpartition("/") for name in files}
    models = {parent for parent, _, last in split.values() if last == WEIGHTS}
    return {
        name for name, (parent, _, last) in split.items() if last in LISTED and (last != CONFIG or parent not in models)
    }


def _list_local(folder: Path) -> tuple[list[ListedRun], list[str]]:
    if not folder.is_dir():
        raise DataError(f"there is no folder {folder}; give one that holds runs")
    found, unreadable = list[ListedRun](), list[str]()
    for place, names, files in os.walk(folder):
        names[:] = sorted(name for name in names if not name.startswith("."))
        if "config.json" not in files:
            continue
        try:
            config = _run_config(Path(place))
            if config is not None:
                names.clear()
                found.append(read_run(Path(place), config))
        except (UnheardError, OSError, KeyError, TypeError) as error:
            names.clear()
            unreadable.append(str(error) if isinstance(error, UnheardError) else f"{place} cannot be read: {error!r}")
    return sorted(found, key=lambda run: (run.changed, str(run.path)), reverse=True), unreadable


def _run_config(folder: Path) -> dict[str, Any] | None:
    """Return the configuration of a run; None for a model folder, or a file of another program."""
    if (folder / WEIGHTS).is_file() or not any(
        (folder / name).exists() for name in ("environment.json", "metrics.jsonl", "checkpoints", ENSEMBLE_DIR)
    ):
        return None
    return read_config(folder)


def read_run(folder: Path, config: dict[str, Any] | None = None) -> ListedRun:
    """Return one run.

    Raises
    ------
    CheckpointError
        When the folder is not a run, or is damaged.
    """
    config = read_config(folder) if config is None else config
    tuned = "members" in config
    parts = model_folders(folder)
    progress = [_progress(part, int(config["total"])) for part in parts]
    models = len(config["members"]) if tuned else 1
    total = sum(end for _, end in progress) + (models - len(parts)) * int(config["total"])
    done = sum(step for step, _ in progress)
    finished = done >= total > 0 and (tuned or (folder / FINISHED).is_file())
    losses = [row["loss"] for part in parts for row in read_metrics(part) if row.get("loss") is not None]
    return ListedRun(
        folder,
        "finetune" if tuned else "pretrain",
        str(config["recipe"]["name"]),
        str(config["labels" if tuned else "data"]),
        done,
        total,
        float(losses[-1]) if losses else None,
        _score(folder),
        _watched(folder),
        _changed(folder, parts),
        "running" if in_use(folder) else "finished" if finished else "stopped",
    )


def model_folders(run: Path) -> list[Path]:
    """Return the folders with the metrics of a run: its own, or those of its models."""
    return sorted(path for path in (run / ENSEMBLE_DIR).glob("*") if path.is_dir()) or [run]


def _progress(folder: Path, total: int) -> tuple[int, int]:
    """Return steps done and planned: those of the last checkpoint, or of later metrics."""
    saved, rows = checkpoints(folder), read_metrics(folder)
    state = read_progress(saved[-1]) if saved else None
    logged = int(rows[-1]["step"]) if rows else 0
    if state is None:
        return logged, total
    return (state.step, state.total) if state.step >= state.total else (max(state.step, logged), state.total)


def _score(run: Path) -> ListedScore | None:
    if (run / "scores.json").is_file():
        stored = read_json(run / "scores.json")
        return ListedScore("test clips", stored["metric"], stored["mean"], stored["low"], stored["high"])
    scores = [score for file in sorted(run.glob("*/probe.json")) if (score := probe_score(file)) is not None]
    return max(scores, key=lambda score: score.value, default=None)


def _watched(run: Path) -> ListedScore | None:
    best = best_probe(read_metrics(run))
    return None if best is None else ListedScore(f"step {best[2]}", best[0], best[1], None, None)


def probe_score(file: Path) -> ListedScore | None:
    """Return the score of the model with the linear head in a probe; None if it has none."""
    report = read_report(file)
    wanted = ("model", "linear", report["metric"])
    for row in report["scores"]:
        if (row["embedding"], row["head"], row["metric"]) == wanted:
            return ListedScore(file.parent.name, row["metric"], row["mean"], row["low"], row["high"])
    return None


def _changed(run: Path, parts: list[Path]) -> str:
    files = [file for part in parts if (file := part / "metrics.jsonl").is_file()] or [run / "config.json"]
    return datetime.fromtimestamp(max(file.stat().st_mtime for file in files)).strftime("%Y-%m-%d %H:%M")
