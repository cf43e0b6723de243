"""The identity of embeddings: the model and options that made them, which tables and caches store and compare."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from unheard.addresses import address_of
from unheard.embedding.embedder import Model
from unheard.embedding.embedding_model import EmbeddingModel
from unheard.embedding.external import ExternalModel
from unheard.embedding.job import Options
from unheard.embedding.table_files import read_paths
from unheard.errors import ConfigError
from unheard.version import __version__


def fingerprint(model: EmbeddingModel) -> str:
    """Return a hash of all that embeddings of a model depend on: weights, sizes, statistics, front end and padding; for
    an encoder of others, the fingerprint of its teacher.
    """
    if isinstance(model, ExternalModel):
        return model.teacher.fingerprint
    assert isinstance(model, Model), "a model is one of these two"
    digest = hashlib.sha256(
        repr((model.statistics, model.config.frontend, model.config.model, model.pad_window)).encode()
    )
    if (precision := precision_of(model)) is not None:
        digest.update(precision.encode())
    for name, value in model.encoder.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def precision_of(model: EmbeddingModel) -> str | None:
    """Return the precision of a model; None for float32, and for encoders of others."""
    precision = model.precision if isinstance(model, Model) else "float32"
    return None if precision == "float32" else precision


SOURCE = "source"
"""Field of an identity with the name or path of the model; two identities may differ in it."""


def identity(model: EmbeddingModel, options: Options) -> dict[str, Any]:
    """Return all that the embedding of a clip depends on, apart from the clip, as plain values."""
    made = {"unheard": __version__, "model": fingerprint(model), SOURCE: model.origin}
    chosen = {
        name: list(value) if isinstance(value, tuple) else value  # as JSON returns it
        for name, value in asdict(options).items()
        if name != "on_error"
    }
    return {**made, "precision": precision_of(model), "segments": None, **chosen}


OPTIONS = ("layer", "pool", "frames", "window", "hop", "segments", "precision", "min_duration", "max_gap", "format")
"""Fields of identities with the value of the option of their name."""

NAMES = {"unheard": "the version of unheard", "thresholds": "--threshold", "labels": "the list of classes"} | {
    name: f"--{name.replace('_', '-')}" for name in OPTIONS
}
"""How messages name the fields of identities."""


def differences(stored: dict[str, Any], wanted: dict[str, Any]) -> str:
    """Return the options in which two identities differ, such as ``--layer is 3, now 6``; empty when there are none."""
    names = [name for name in wanted if name != SOURCE and stored.get(name) != wanted[name]]
    if "precision" in names:  # the hash of the model depends on it
        names = [name for name in names if name != "model"]
    return "; ".join(
        "the model is different"
        if name == "model"
        else f"{NAMES.get(name, name)} is {_text(name, stored.get(name))}, now {_text(name, wanted[name])}"
        for name in names
    )


def refuse_differences(out: str | Path, stored: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Refuse a table of another identity.

    Raises
    ------
    ConfigError
        Naming the options that differ.
    """
    if differing := differences(stored, wanted):
        raise ConfigError(
            f"{out} has another identity ({differing}); choose another -o, or replace it with --overwrite"
        )


def folder_of(paths: Iterable[str], table: Path) -> Path:
    """Return the folder of the relative paths of a table: the working directory, or the nearest folder above the table
    that has the first of them.

    A table stores paths as they were given, and may be opened in another working directory. The working directory is
    also returned where no folder has the file.
    """
    relative = (path for path in paths if not (address_of(path) or Path(path).is_absolute()))
    first, folders = next(relative, ""), (Path(), *Path(os.path.abspath(table)).parents)  # noqa: PTH100 - links are not followed
    return next((folder for folder in folders if (folder / first).exists()), Path())


def refuse_other_folder(tables: Sequence[Path]) -> None:
    """Refuse to continue tables, or parts of one, in another working directory, where relative paths name no files.

    Raises
    ------
    ConfigError
        Naming the folder.
    """
    for table in tables:
        if (folder := folder_of(sorted(read_paths(table)), table)) != Path():
            raise ConfigError(f"the paths in {table} are relative to {folder}; give the command there: cd {folder}")


def _text(name: str, value: Any) -> str:
    """Return a value as text; a list with equal values, such as one threshold for all classes, as one value."""
    if name == "precision":
        return value or "float32"
    if not isinstance(value, list):
        return str(value)
    texts = [f"{each:.4g}" if isinstance(each, float) else str(each) for each in value]
    return ", ".join(texts if len(set(texts)) > 1 else texts[:1])
