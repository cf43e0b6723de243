"""The session of a fine-tuning run: its stored settings, and its labelled table with splits."""

from __future__ import annotations

import hashlib
import posixpath
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from unheard.audio.waveform import Channel
from unheard.config import from_json, to_json
from unheard.data.label_table import Files, Labels, read_labels
from unheard.data.partitions import FoldIndices, make_folds, small_validation_warnings
from unheard.errors import CheckpointError, ConfigError, DataError
from unheard.files import write_json
from unheard.finetuning.recipe import FinetuneRecipe
from unheard.training.checkpoints import checkpoints, read_progress
from unheard.training.session import read_config
from unheard.version import __version__
from unheard.weights.checkpoint import ENSEMBLE_DIR


@dataclass(frozen=True)
class FinetuneSession:
    """Settings that are fixed when a run starts; stored as ``config.json`` of the run folder."""

    recipe: FinetuneRecipe
    model: str
    """The model that is fine-tuned."""
    labels: str
    """Path of the labelled table."""
    fingerprint: str
    """Hash of the clips, a dash, and hash of the table."""
    classes: tuple[str, ...]
    activation: str
    """softmax or sigmoid."""
    members: tuple[tuple[str, Channel], ...]
    """Name of the fold and channel of every model of the run."""
    total: int
    """Number of steps of the first model."""
    corpus: str | None = None
    """Folder of packed clips shared by several runs; null: the run has its own."""

    @property
    def channels(self) -> tuple[Channel, ...]:
        """Input channels of the models."""
        return self.recipe.task.channels

    @property
    def shared_corpus(self) -> Path | None:
        """Folder of packed clips shared by several runs."""
        return None if self.corpus is None else Path(self.corpus)

    def folder(self, run: Path, part: str, channel: Channel) -> Path:
        """Return the folder of one model."""
        return (
            run
            if len(self.members) == 1
            else run
            / ENSEMBLE_DIR
            / "-".join(name for name in (part, channel if len(self.channels) > 1 else "") if name)
        )


@dataclass(frozen=True)
class LabelledSplits:
    """A labelled table with the train, valid and test rows of each fold.

    Parameters
    ----------
    labels : Labels
    parts : list of FoldIndices
    """

    labels: Labels
    parts: list[FoldIndices]

    def remarks(self, recipe: FinetuneRecipe) -> list[str]:
        """Return warnings about the clips used for model selection."""
        return small_validation_warnings(self.labels, self.parts, recipe.task.validation_fraction)

    def fingerprint(self) -> str:
        """Return a hash of the labels and of the splits."""
        names = self.labels.paths.names if isinstance(self.labels.paths, Files) else map(str, self.labels.paths)
        digest = hashlib.sha256("|".join(posixpath.basename(name) for name in names).encode("utf-8", "surrogateescape"))
        sides = [side for part in self.parts for side in (part.train, part.valid, part.test)]
        target, known = self.labels.target, self.labels.known
        annotated = () if known is None else (known.partial, known.sets.numbers, known.sets.bounds)
        for values in (target.numbers, target.bounds, *sides, *annotated):
            digest.update(np.ascontiguousarray(values).data)
        times = enumerate(zip(self.labels.start, self.labels.end, strict=True))
        digest.update(
            "".join(f"{row}:{start}-{end}|" for row, (start, end) in times if (start, end) != (None, None)).encode()
        )
        return digest.hexdigest()


def open_table(labels: str | Path, recipe: FinetuneRecipe) -> LabelledSplits:
    """Read a labelled table and assign its clips to splits as the recipe specifies.

    Raises
    ------
    DataError
        When the table cannot be used.
    """
    path = Path(labels).resolve()
    table = read_labels(path)
    parts = make_folds(table, recipe.training.seed, recipe.task.validation_fraction)
    tested = np.concatenate([part.test for part in parts])
    if len(tested) and not table.target.sizes[tested].any():
        raise DataError(f"none of the {len(tested)} test clips has a label; give test clips with labels, or none")
    return LabelledSplits(table, parts)


def training_table(run: Path, session: FinetuneSession) -> LabelledSplits:
    """Read the table a run was trained with.

    Raises
    ------
    DataError
        When the table is missing or has changed.
    """
    table = open_table(session.labels, session.recipe)
    if session.fingerprint.rpartition("-")[2] != table.fingerprint() or session.classes != tuple(table.labels.classes):
        raise DataError(f"the table {session.labels} has changed since {run} started; restore it, or start a new run")
    return table


def read_session(run: Path) -> FinetuneSession:
    """Read the session of a fine-tuning run.

    Raises
    ------
    CheckpointError
        When ``run`` is not a fine-tuning run.
    """
    stored: dict[str, Any] = {name: value for name, value in read_config(run).items() if name != "unheard"}
    try:
        return from_json(FinetuneSession, stored)
    except ConfigError as error:
        raise CheckpointError(f"{run} is not a fine-tuning run of this version of unheard: {error}") from error


def write_session(run: Path, session: FinetuneSession) -> None:
    """Write ``config.json``."""
    write_json(run / "config.json", {"unheard": __version__, **to_json(session)})


def finished(run: Path, session: FinetuneSession) -> bool:
    """Return whether every model of a run is trained."""
    return all(step >= total for step, total in (_progress(session.folder(run, *member)) for member in session.members))


def _progress(folder: Path) -> tuple[int, int]:
    saved = checkpoints(folder)
    progress = read_progress(saved[-1]) if saved else None
    return (progress.step, progress.total) if progress else (0, 1)
