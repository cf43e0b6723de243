"""A kept checkpoint of a run as a model: ``RUN/checkpoints/step-XXXXXXXX``.

The folder has the weights of one step. The rest, such as recipe and statistics, is that of ``RUN/model``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors import safe_open
from torch import Tensor

from unheard.errors import CheckpointError
from unheard.files import FILES, read_json
from unheard.weights.tensors import read_tensors

LEARNER, STATE, MODEL = "learner.safetensors", "state.json", "model.safetensors"


def is_step(folder: Path) -> bool:
    """Return whether a folder is a checkpoint of a run."""
    return folder.parent.name == "checkpoints" and (folder / STATE).is_file()


def read_step(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the content of ``config.json`` and the weights of the model at a checkpoint.

    Raises
    ------
    CheckpointError
        When the checkpoint is damaged or split over several files, or the run has no model.
    """
    model = folder.absolute().parent.parent / "model"
    state = read_json(folder / STATE, CheckpointError, "load another checkpoint of the run")
    if not (folder / LEARNER).is_file():
        raise CheckpointError(
            f"{folder} has no {LEARNER}: the run is split over several processes, and such a checkpoint cannot be"
            f" loaded; load {model}, the model of the latest step"
        )
    if not (model / "config.json").is_file() or not (model / MODEL).is_file():
        raise CheckpointError(f"{folder} has no model without {model}, which describes it; copy the whole run")
    config = read_json(model / "config.json", CheckpointError, "copy the model again")
    config.pop(FILES, None)  # the checksums of the latest weights
    with safe_open(model / MODEL, "pt") as stored:
        names = set(stored.keys())
    tensors = read_tensors(folder / LEARNER, {LEARNER: state[FILES][LEARNER]})
    trained = config["provenance"].get("trained", {})
    if "steps" in trained:
        step, total = state["step"], state["total"]
        crops = trained["crops"] * step // int(str(trained["steps"]).split(" of ")[0])
        config["provenance"]["trained"] = {**trained, "steps": f"{step} of {total}", "crops": crops}
    return config, {name: value for name, value in tensors.items() if name in names}
