"""Fine-tuning: a trained encoder and a table of labels become a classifier, or one for each fold and channel.

A run of one model is a run folder as pre-training leaves it, its ``model/`` the weights that did best on validation clips. A run of
several has a folder of that kind for each below ``members/``.
"""

from __future__ import annotations

import hashlib
import posixpath
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from unheard.audio.waveform import Channel
from unheard.config import from_json, override, to_json
from unheard.data.holdout import Part, few_choose, parts_of
from unheard.data.label_table import Files, Labels, read_labels
from unheard.data.labelled import Sounds, open_sounds
from unheard.errors import CheckpointError, ConfigError, DataError
from unheard.files import write_json
from unheard.recipes.finetune import FinetuneRecipe
from unheard.training.checkpoints import Progress, checkpoints, read_progress
from unheard.training.engine import Engine
from unheard.training.finetune_member import Member, Start, begin
from unheard.training.journal import environment
from unheard.training.processes import first_process, lost_processes
from unheard.training.run import Report, read_config
from unheard.training.run_folder import make_room, one_writer
from unheard.version import __version__
from unheard.weights.built_in import BUILT_IN, open_model
from unheard.weights.checkpoint import MEMBERS, SavedModel


@dataclass(frozen=True)
class FinetuneSession:
    """Everything fixed when a run starts; stored as ``config.json`` of the run folder."""

    recipe: FinetuneRecipe
    model: str
    """The model that is fine-tuned."""
    labels: str
    """The table of labels."""
    fingerprint: str
    """Of the clips, and behind a dash of the table."""
    classes: tuple[str, ...]
    activation: str
    """softmax or sigmoid."""
    members: tuple[tuple[str, Channel], ...]
    """Name of the part and channel of every model of the run."""
    total: int
    """Steps of the first model."""

    @property
    def channels(self) -> tuple[Channel, ...]:
        """Channels the models listen to."""
        return self.recipe.task.channels

    def folder(self, run: Path, part: str, channel: Channel) -> Path:
        """Where one model lives."""
        return (
            run
            if len(self.members) == 1
            else run / MEMBERS / "-".join(name for name in (part, channel if len(self.channels) > 1 else "") if name)
        )


@dataclass(frozen=True)
class Table:
    """A table of labels with its sides."""

    labels: Labels
    parts: list[Part]

    def remarks(self, recipe: FinetuneRecipe) -> list[str]:
        """What a reader must know of who chooses the weights."""
        return few_choose(self.labels, self.parts, recipe.task.holdout)

    def fingerprint(self) -> str:
        """A hash of what is said of the clips, and of who trains, chooses and tests."""
        names = self.labels.paths.names if isinstance(self.labels.paths, Files) else map(str, self.labels.paths)
        digest = hashlib.sha256("|".join(posixpath.basename(name) for name in names).encode("utf-8", "surrogateescape"))
        sides = [side for part in self.parts for side in (part.train, part.valid, part.test)]
        target, known = self.labels.target, self.labels.known
        annotated = () if known is None else (known.partial, known.sets.numbers, known.sets.bounds)
        for values in (target.numbers, target.bounds, *sides, *annotated):
            digest.update(np.ascontiguousarray(values).data)
        times = enumerate(zip(self.labels.start, self.labels.end, strict=True))
        digest.update("".join(f"{row}:{start}-{end}|" for row, (start, end) in times if (start, end) != (None, None)).encode())
        return digest.hexdigest()


def open_table(labels: str | Path, recipe: FinetuneRecipe) -> Table:
    """Read a table of labels and deal out its sides as the recipe says.

    Raises
    ------
    DataError
        When it cannot be used.
    """
    path = Path(labels).resolve()
    table = read_labels(path)
    return Table(table, parts_of(table, recipe.training.seed, recipe.task.holdout))


def own_table(run: Path, session: FinetuneSession) -> Table:
    """The table a run was trained with.

    Raises
    ------
    DataError
        When it is gone or has changed since.
    """
    table = open_table(session.labels, session.recipe)
    if session.fingerprint.rpartition("-")[2] != table.fingerprint() or session.classes != tuple(table.labels.classes):
        raise DataError(f"the table {session.labels} has changed since {run} began; restore it, or start a new run")
    return table


@lost_processes()
@one_writer
def finetune(
    model: str | Path,
    labels: str | Path,
    out: str | Path,
    recipe: FinetuneRecipe,
    *,
    device: str = "auto",
    overwrite: bool = False,
    report: Report | None = None,
) -> bool:
    """Fine-tune ``model`` on a table of labels and leave a run folder at ``out``.

    Parameters
    ----------
    model : path or str
        A run, a model folder or a built-in name.
    labels : path
        A CSV with the columns path and label; optionally start, end, split, fold, group, known. See `parts_of` for who trains.

    Returns
    -------
    bool
        Whether it is finished; False after Ctrl-C.

    Raises
    ------
    ConfigError
        When ``out`` exists, or the recipe asks for one class a clip and the table has several.
    DataError
        When the table cannot be used, or the loss stops being a number.
    CheckpointError
        When there is no such model.
    """
    run, table = Path(out), open_table(labels, recipe)
    saved, activation = open_model(model), _activation(recipe, table.labels)
    engine = Engine(recipe.training, device)
    if engine.rank == 0:
        make_room(run, Path(labels), overwrite)
    members = tuple((part.name, channel) for channel in recipe.task.channels for part in table.parts)
    source = str(model) if str(model) in BUILT_IN else str(Path(model).resolve())
    start = Start(recipe, tuple(table.labels.classes), activation, source)
    with engine.first_process_first():
        sounds = _sounds(run, table, saved, recipe.task.channels[0], report)
    trial = Member(run, begin(saved, start), start, sounds, table.parts[0], engine)
    session = FinetuneSession(
        recipe, source, str(Path(labels).resolve()), _fingerprint(sounds, table), start.classes, activation, members, trial.total
    )
    if engine.rank == 0:
        run.mkdir(parents=True, exist_ok=True)
        _write_session(run, session)
        write_json(run / "environment.json", environment())
    return _train(run, session, table, saved, sounds, engine, report)


@lost_processes()
@one_writer
def resume(out: str | Path, *, skip_bad_batches: int | None = None, device: str = "auto", report: Report | None = None) -> bool:
    """Continue the run at ``out`` from the latest checkpoint of each of its models.

    Parameters
    ----------
    skip_bad_batches : int, optional
        New value of ``training.skip_bad_batches``.

    Raises
    ------
    CheckpointError
        When there is no such run.
    DataError
        When clips or labels have changed since it began.
    """
    run = Path(out)
    session = read_session(run)
    if finished(run, session):
        return True
    changed = session
    if skip_bad_batches is not None:
        changed = replace(session, recipe=override(session.recipe, [f"training.skip_bad_batches={skip_bad_batches}"]))
    table, saved = own_table(run, session), open_model(session.model)
    engine = Engine(session.recipe.training, device)
    with engine.first_process_first():
        sounds = _sounds(run, table, saved, session.channels[0], report)
    if _fingerprint(sounds, table) != session.fingerprint:
        raise DataError(f"the clips of {session.labels} have changed since {run} began; restore them, or start a new run")
    if engine.rank == 0 and changed != session:
        _write_session(run, changed)
    return _train(run, changed, table, saved, sounds, engine, report)


def read_session(run: Path) -> FinetuneSession:
    """What a fine-tuning run is.

    Raises
    ------
    CheckpointError
        When there is none at ``run``.
    """
    stored: dict[str, Any] = {name: value for name, value in read_config(run).items() if name != "unheard"}
    try:
        return from_json(FinetuneSession, stored)
    except ConfigError as error:
        raise CheckpointError(f"{run} is not a fine-tuning run of this version of unheard: {error}") from error


def _write_session(run: Path, session: FinetuneSession) -> None:
    write_json(run / "config.json", {"unheard": __version__, **to_json(session)})


def finished(run: Path, session: FinetuneSession) -> bool:
    """Whether every model of a run is trained."""
    return all(step >= total for step, total in (_stands(session.folder(run, *member)) for member in session.members))


def _stands(folder: Path) -> tuple[int, int]:
    saved = checkpoints(folder)
    progress = read_progress(saved[-1]) if saved else None
    return (progress.step, progress.total) if progress else (0, 1)


def _train(
    run: Path,
    session: FinetuneSession,
    table: Table,
    saved: SavedModel,
    sounds: Sounds,
    engine: Engine,
    report: Report | None,
) -> bool:
    """Train every model in turn; ``sounds`` are those of the first channel."""
    told = report if report is not None and first_process() else Report()
    start = Start(session.recipe, session.classes, session.activation, session.model)
    parts, heard = {part.name: part for part in table.parts}, session.channels[0]
    told.say(_line(table, sounds, session))
    for text in table.remarks(session.recipe):
        told.say(f"note       {text}")
    for number, (name, channel) in enumerate(session.members):
        if channel != heard:
            with engine.first_process_first():
                sounds, heard = _sounds(run, table, saved, channel, report), channel
        if len(session.members) > 1:
            told.say(f"model      {number + 1} of {len(session.members)}: {session.folder(run, name, channel).name}")
        member = Member(session.folder(run, name, channel), begin(saved, start), start, sounds, parts[name], engine)
        progress: Progress = member.run(told)
        if progress.step < progress.total:
            engine.close()
            return False
    engine.close()
    return True


def _activation(recipe: FinetuneRecipe, labels: Labels) -> str:
    asked = recipe.task.loss
    if asked == "cross-entropy" and labels.multilabel:
        raise ConfigError(
            f"the recipe {recipe.name} wants one class a clip, and some clips of the table have none or several; set task.loss=bce"
        )
    return "sigmoid" if asked == "bce" or (asked == "auto" and labels.multilabel) else "softmax"


def _sounds(run: Path, table: Table, saved: SavedModel, channel: Channel, report: Report | None) -> Sounds:
    track = report.track if report is not None and first_process() else Report().track
    return open_sounds(table.labels, saved.recipe.frontend, channel, run / "corpus" / channel, track)


def _fingerprint(sounds: Sounds, table: Table) -> str:
    return f"{sounds.store.fingerprint}-{table.fingerprint()}"


def _line(table: Table, sounds: Sounds, session: FinetuneSession) -> str:
    skipped, seconds = sounds.store.skipped, sounds.store.seconds_total
    bad = f", {len(skipped)} skipped (the first: {skipped[0].reason})" if skipped else ""
    kind = "one a clip" if session.activation == "softmax" else "any number a clip"
    clips = f"{len(sounds.rows)} of {len(table.labels)} clips, {seconds / 60:.1f} minutes{bad}"
    return f"labels     {clips}; {len(session.classes)} classes, {kind}"
