"""Where a run sends its rows of metrics besides ``metrics.jsonl``: TensorBoard, Weights & Biases or MLflow.

A tracker receives each row once. A resumed run continues the curves that it began: the identifier of a run of wandb or
MLflow is kept in the run folder.
"""

from __future__ import annotations

import os
import secrets
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from unheard.errors import ConfigError, require
from unheard.files import write_text

TrackerName = Literal["tensorboard", "wandb", "mlflow"]
PROJECT = "unheard"
EXTRAS = {"tensorboard": "track", "wandb": "wandb", "mlflow": "mlflow"}
"""The extra that installs the package of each tracker."""
NOT_CURVES = ("step", "time", "seconds")


class Tracker(ABC):
    """Receives the rows of a run."""

    @abstractmethod
    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Send the values of one step."""

    @abstractmethod
    def close(self) -> None:
        """Send what is left."""


class TensorBoard(Tracker):
    """Event files in ``RUN/tensorboard``.

    Parameters
    ----------
    run : Path
    start : int
        Steps done; later ones of an interrupted session are hidden.
    """

    def __init__(self, run: Path, start: int) -> None:
        require("torch.utils.tensorboard", "track", "tensorboard")
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(run / "tensorboard"), purge_step=start + 1)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Send the values of one step."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Send what is left."""
        self._writer.close()


class Wandb(Tracker):
    """A run of Weights & Biases, with its files in ``RUN/wandb``; ``WANDB_MODE=offline`` needs no account.

    Parameters
    ----------
    run : Path
    settings : mapping
        The recipe, as in ``config.json``.

    Raises
    ------
    ConfigError
        When wandb does not start, such as without an API key.
    """

    def __init__(self, run: Path, settings: Mapping[str, Any]) -> None:
        require("wandb", "wandb")
        import wandb

        kept = _read(run / "wandb" / "run.txt") or secrets.token_hex(4)
        try:
            self._run = wandb.init(
                project=PROJECT, name=run.name, id=kept, resume="allow", dir=str(run), config=dict(settings)
            )
        except (wandb.errors.Error, OSError) as error:
            raise ConfigError(
                f"wandb did not start ({' '.join(str(error).split())[:200]}); run wandb login, or set"
                " WANDB_MODE=offline"
            ) from error
        _keep(run / "wandb" / "run.txt", kept)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Send the values of one step."""
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        """Send what is left."""
        self._run.finish()


class Mlflow(Tracker):
    """A run of MLflow, at ``MLFLOW_TRACKING_URI`` or in ``RUN/mlflow``.

    Parameters
    ----------
    run : Path
    settings : mapping
        The recipe; its values are the parameters of the run.

    Raises
    ------
    ConfigError
        When the tracking server refuses the run.
    """

    def __init__(self, run: Path, settings: Mapping[str, Any]) -> None:
        require("mlflow", "mlflow", "mlflow-skinny")
        import mlflow

        self._failed = False
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # a database needs packages that skinny lacks
        address = os.environ.get("MLFLOW_TRACKING_URI") or (run / "mlflow").absolute().as_uri()
        try:
            self._client = mlflow.MlflowClient(address)
            self._id = _read(run / "mlflow.txt") or self._begin(run.name, settings)
            self._client.get_run(self._id)
        except (mlflow.exceptions.MlflowException, OSError) as error:
            raise ConfigError(
                f"MLflow at {address} refused the run ({' '.join(str(error).split())[:200]}); check MLFLOW_TRACKING_URI"
            ) from error
        _keep(run / "mlflow.txt", self._id)

    def _begin(self, name: str, settings: Mapping[str, Any]) -> str:
        found = self._client.get_experiment_by_name(PROJECT)
        experiment = found.experiment_id if found else self._client.create_experiment(PROJECT)
        run: str = self._client.create_run(experiment, run_name=name).info.run_id
        for key, value in flattened(settings):
            self._client.log_param(run, key, str(value)[:500])
        return run

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Send the values of one step."""
        for name, value in values.items():
            self._send(partial(self._client.log_metric, self._id, name, value, step=step))

    def close(self) -> None:
        """Mark the session as ended."""
        self._send(partial(self._client.set_terminated, self._id))

    def _send(self, call: Callable[[], object]) -> None:
        """Call the server. If it fails, warn once and send nothing more: ``metrics.jsonl`` has all rows."""
        import mlflow

        if self._failed:
            return
        try:
            call()
        except (mlflow.exceptions.MlflowException, OSError) as error:
            self._failed = True
            warnings.warn(
                f"MLflow does not answer ({' '.join(str(error).split())[:200]}); later rows are in metrics.jsonl only",
                stacklevel=2,
            )


def open_tracker(name: TrackerName | None, run: Path, start: int, settings: Mapping[str, Any]) -> Tracker | None:
    """Open a tracker. Without a name: TensorBoard if it is installed, as ``metrics.jsonl`` holds the same rows.

    Raises
    ------
    UnheardError
        When its package is not installed.
    ConfigError
        When it does not start.
    """
    if name is None and find_spec("tensorboard") is None:
        return None
    if name in (None, "tensorboard"):
        return TensorBoard(run, start)
    if name == "wandb":
        return Wandb(run, settings)
    return Mlflow(run, settings)


def require_tracker(name: TrackerName | None) -> None:
    """Refuse a tracker whose package is not installed, before a run begins.

    Raises
    ------
    UnheardError
        When it is not installed.
    ConfigError
        When there is no such tracker.
    """
    if name is None:
        return
    if name not in EXTRAS:
        raise ConfigError(f"log must be {', '.join(EXTRAS)} or left out; got {name!r:.40}")
    require(name, EXTRAS[name])


def flattened(settings: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Return the values of nested settings by their dotted names."""
    found: list[tuple[str, Any]] = []
    for key, value in settings.items():
        found += flattened(value, f"{prefix}{key}.") if isinstance(value, Mapping) else [(f"{prefix}{key}", value)]
    return found


def _read(file: Path) -> str:
    return file.read_text(encoding="utf-8").strip() if file.is_file() else ""


def _keep(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    write_text(file, f"{text}\n")
