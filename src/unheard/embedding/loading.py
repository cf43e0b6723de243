"""Load a model by path or by name: the one place that opens a MODEL that embeds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import overload

from unheard.devices import torch_device
from unheard.embedding.embedder import Model, Precision
from unheard.embedding.embedding_model import EmbeddingModel
from unheard.embedding.external import ExternalModel
from unheard.embedding.identity import precision_of
from unheard.embedding.stored_check import verify_check
from unheard.errors import ConfigError
from unheard.teachers.load import load_teacher
from unheard.weights.built_in import DEFAULT, open_model, origin_of
from unheard.weights.names import HEAR, HF, model_address
from unheard.weights.step import is_step


@overload
def load(*, device: str = ..., precision: Precision = ...) -> Model: ...


@overload
def load(name: str | Path, device: str = ..., precision: Precision = ...) -> Model | ExternalModel: ...


def load(name: str | Path = DEFAULT, device: str = "auto", precision: Precision = "float32") -> Model | ExternalModel:
    """Load a model. A model folder with a stored sound and its embedding is checked: the embedding is computed again.

    Parameters
    ----------
    name : path or str
        A run folder, a checkpoint in one (``RUN/checkpoints/step-00001000``), a model folder, or a built-in name.
        ``unheard-tiny``, the default, is the trained model of the package. ``random-tiny`` ... ``random-large`` are
        randomly initialised encoders: compare every result with this baseline. Also ``hf:DIR``, the folder of a Hugging
        Face audio encoder, and ``hear:MODULE`` or ``hear:MODULE:WEIGHTS``, a module with the HEAR API; these embed and
        do nothing else.
    device : str
        Device of the encoder; auto is the fastest one of this machine.
    precision : {"float32", "bf16"}
        Of the matrix products of the encoder. bf16 is faster on processors that have it. Embeddings differ slightly.

    Raises
    ------
    CheckpointError
        When there is no such model, it cannot be read, or it does not reproduce its stored embedding.
    ConfigError
        When a HEAR module cannot be loaded, or bf16 is asked of an encoder of others.
    DataError
        When the encoder of others gives features that are not finite or do not follow its hop.
    """
    text = str(name)
    if model_address(name) or not text.startswith((HF, HEAR)):
        return load_own(name, device, precision)
    if precision != "float32":
        raise ConfigError(f"{text} computes at its own precision; leave precision out, or use a model of this library")
    model = ExternalModel(text, load_teacher(text), torch_device(device))
    model.origin = HF + origin_of(text.removeprefix(HF)) if text.startswith(HF) else text
    return model


def load_own(name: str | Path, device: str = "auto", precision: Precision = "float32") -> Model:
    """Load a model of this library, for what needs more than embeddings.

    Raises
    ------
    CheckpointError
        When there is no such model, it is one of another library, or it does not reproduce its stored embedding.
    """
    saved = open_model(name)
    place = torch_device(device)
    model = Model(saved, place, precision=precision)
    model.origin = origin_of(name)
    if saved.check:
        verify_check(model if precision == "float32" else Model(saved, place), saved.check, model.origin)
    return model


def loaded(
    model: EmbeddingModel | str | Path, device: str = "auto", precision: Precision = "float32"
) -> EmbeddingModel:
    """Return a model; load it if a name or path is given.

    Raises
    ------
    ConfigError
        When another precision is asked of a loaded model.
    """
    if not isinstance(model, EmbeddingModel):
        return load(model, device, precision)
    if precision not in ("float32", precision_of(model)):
        raise ConfigError(f"the model is loaded in float32; give unheard.load(..., precision={precision!r}) instead")
    return model


def named(
    models: Sequence[EmbeddingModel | str | Path], first: str | None = None, precision: Precision = "float32"
) -> dict[str, EmbeddingModel]:
    """Return models by their names, loaded if a name or path is given; see `name_of`.

    Parameters
    ----------
    first : str, optional
        Name of the first model instead of its own.

    Raises
    ------
    ConfigError
        When two models have the same name.
    """
    names = [first if first is not None and not at else name_of(each) for at, each in enumerate(models)]
    refuse_same_names(names)
    return {name: loaded(each, precision=precision) for name, each in zip(names, models, strict=True)}


def name_of(model: EmbeddingModel | str | Path) -> str:
    """Return the name of a model in comparisons: its folder, its built-in name, or what the user wrote.

    The name of ``RUN/model`` is that of its run, the name of a checkpoint is ``RUN-step-00001000``.
    """
    if isinstance(model, EmbeddingModel):
        if not model.origin:
            return model.description
        return _folder_name(Path(model.origin)) if Path(model.origin).exists() else Path(model.origin).name
    return _folder_name(Path(model)) if Path(model).exists() else str(model)


def _folder_name(path: Path) -> str:
    """Return the name of a model on this machine."""
    folder = path.resolve()
    if is_step(folder):
        return f"{folder.parent.parent.name}-{folder.name}"
    return folder.parent.name if folder.name == "model" and (folder.parent / "config.json").is_file() else folder.name


def refuse_same_names(names: Sequence[str]) -> None:
    """Refuse models with one name, because a table has one row for each name.

    Raises
    ------
    ConfigError
        When two have the same name.
    """
    name, times = Counter(names).most_common(1)[0]
    if times > 1:
        raise ConfigError(
            f"{times} models have the name {name}; rename the folder or the weights of one, or remove the duplicate"
        )


def own(model: EmbeddingModel | str | Path, device: str = "auto") -> Model:
    """Return a model of this library; load it if a name or path is given.

    Raises
    ------
    CheckpointError
        When it is one of another library.
    """
    if isinstance(model, Model):
        return model
    return load_own(model.description if isinstance(model, EmbeddingModel) else model, device)
