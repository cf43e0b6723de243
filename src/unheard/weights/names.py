"""Names of models that are not of this library."""

from __future__ import annotations

import json
from pathlib import Path

from unheard.addresses import address_of
from unheard.errors import CheckpointError

HF, HEAR = "hf:", "hear:"
"""Prefixes of a Hugging Face folder, and of a module with the HEAR API."""
OURS = "unheard"
"""Type of a model of this library in a Hugging Face folder."""


def model_address(name: str | Path) -> str:
    """Return the address of a model; empty for a local folder, a built-in name, and a model of others."""
    text = str(name)
    ours = not text.startswith((HF, HEAR)) or text.startswith(f"{HF}//")
    return address_of(name).rstrip("/") if ours else ""


def hf_model_type(folder: Path) -> str:
    """Return transformers' type of the model in a folder; empty if its ``config.json`` is not one of transformers."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return ""
    theirs = isinstance(config, dict) and "model_type" in config and "recipe" not in config
    return str(config["model_type"]) if theirs else ""


def refuse_names_of_others(name: str) -> None:
    """Refuse a name that is not one of a model of this library.

    Raises
    ------
    CheckpointError
        When it has the prefix of another kind, or is a Hugging Face folder without it.
    """
    if name.startswith((HF, HEAR)) and not model_address(name):
        raise CheckpointError(
            f"{name} is no model of this library, which this needs; embed, probe, evaluate and teachers accept"
            f" {HF}DIR and {HEAR}MODULE; give a run, a model folder or a built-in name"
        )
    if hf_model_type(Path(name)) not in ("", OURS):
        raise CheckpointError(
            f"{name} is a Hugging Face folder, not a model of this library; to embed, probe or evaluate it, or as a"
            f" teacher, write {HF}{name}"
        )
