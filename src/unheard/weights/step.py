"""A kept checkpoint of a pre-training run as a model: ``RUN/checkpoints/step-XXXXXXXX``.

The folder has the weights of one step. The rest, such as recipe and statistics, is that of ``RUN/model``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from unheard.errors import CheckpointError
from unheard.files import FILES, read_json
from unheard.weights.tensors import read_tensors

LEARNER, STATE = "learner.safetensors", "state.json"


def is_step(folder: Path) -> bool:
    """Return whether a local folder is a checkpoint of a run."""
    return folder.resolve().parent.name == "checkpoints" and (folder / STATE).is_file()


def model_of_step(folder: Path) -> Path:
    """Return the model folder of the run that a checkpoint belongs to."""
    return folder.resolve().parent.parent / "model"


def at_step(folder: Path, config: dict[str, Any], weights: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the content of ``config.json`` and the weights of the model at a checkpoint.

    Parameters
    ----------
    config : dict
        That of the latest model.
    weights : Path
        Weights of the latest model, which name those that belong to a model.

    Raises
    ------
    CheckpointError
        When the checkpoint is damaged, split over several files, or one of a fine-tuning run.
    """
    if "classifier" in config:
        raise CheckpointError(
            f"{folder} is a checkpoint of a fine-tuning run, which only --resume reads; load {weights.parent}"
        )
    state = read_json(folder / STATE, CheckpointError, "load another checkpoint of the run")
    if not (folder / LEARNER).is_file():
        raise CheckpointError(
            f"{folder} has no {LEARNER}: the run is split over several processes, and such a checkpoint cannot be"
            f" loaded; load {weights.parent}, the model of the latest step"
        )
    try:
        with safe_open(weights, "pt") as stored:
            names = set(stored.keys())
        checksum, step, total = state[FILES][LEARNER], state["step"], state["total"]
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{weights} cannot be read as safetensors ({error}); copy the file again") from error
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"{folder}/{STATE} lacks {error}; load another checkpoint of the run") from error
    tensors = read_tensors(folder / LEARNER, {LEARNER: checksum})
    trained = dict(config["provenance"].get("trained", {}))
    latest = int(str(trained.get("steps", "0")).split(" of ")[0])
    if latest and "crops" in trained:
        trained |= {"steps": f"{step} of {total}", "crops": trained["crops"] * step // latest}
    changed = {name: value for name, value in config.items() if name != FILES}  # the checksums of the latest weights
    changed["provenance"] = {**config["provenance"], "trained": trained}
    return changed, {name: value for name, value in tensors.items() if name in names}
