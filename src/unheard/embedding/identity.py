"""The identity of embeddings: the model and options that made them, which tables and caches store and compare."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from typing import Any

from unheard.embedding.embedder import Model, Options
from unheard.version import __version__


def fingerprint(model: Model) -> str:
    """Return a SHA-256 of all that embeddings of a model depend on: weights, sizes, statistics, front end and
    padding.
    """
    digest = hashlib.sha256(
        repr((model.statistics, model.config.frontend, model.config.model, model.pad_window)).encode()
    )
    for name, value in model.encoder.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def identity(model: Model, options: Options) -> dict[str, Any]:
    """Return all that the embedding of a clip depends on, apart from the clip, as plain values."""
    return {"unheard": __version__, "model": fingerprint(model), **asdict(options)}


def differences(stored: dict[str, Any], wanted: dict[str, Any]) -> str:
    """Return the fields in which two identities differ, such as ``layer is 3, now 6``; empty when there are none."""
    names = [name for name in wanted if stored.get(name) != wanted[name]]
    return "; ".join(
        "the model is different" if name == "model" else f"{name} is {stored.get(name)}, now {wanted[name]}"
        for name in names
    )
