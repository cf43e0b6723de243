"""Fine-tuning: train a classifier from an encoder and a labelled table, or one for each fold and channel.

A run of one model is a run folder as in pre-training; ``model/`` holds the weights with the best validation score. A
run of several models has one such folder for each below ``members/``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from unheard.audio.waveform import Channel
from unheard.config import override
from unheard.data.label_table import Labels
from unheard.data.open_store import Cache
from unheard.errors import ConfigError, DataError, require
from unheard.files import write_json
from unheard.finetuning.clips import PackedLabelledClips, open_sounds
from unheard.finetuning.network import FinetuneSetup, begin
from unheard.finetuning.recipe import FinetuneRecipe
from unheard.finetuning.session import (
    FinetuneSession,
    LabelledSplits,
    finished,
    open_table,
    read_session,
    training_table,
    write_session,
)
from unheard.finetuning.trainer import FinetuneTrainer
from unheard.training.callbacks import Callbacks
from unheard.training.checkpoints import RunState
from unheard.training.engine import Engine
from unheard.training.journal import environment
from unheard.training.processes import first_process, lost_processes
from unheard.training.run_folder import one_writer, prepare_output_dir
from unheard.weights.built_in import open_model, origin_of
from unheard.weights.checkpoint import SavedModel


@dataclass(frozen=True)
class Storage:
    """How a new run stores its files.

    Parameters
    ----------
    overwrite : bool
        Whether an existing run is replaced.
    corpus : path, optional
        Folder of packed clips that several runs share, see `shared_folder`; default: the run has its own.
    """

    overwrite: bool = False
    corpus: str | Path | None = None


@lost_processes()
@one_writer
def finetune(
    model: str | Path,
    labels: str | Path,
    out: str | Path,
    recipe: FinetuneRecipe,
    *,
    storage: Storage = Storage(),
    device: str = "auto",
    report: Callbacks | None = None,
) -> bool:
    """Fine-tune ``model`` on a labelled table and write the run folder ``out``.

    Parameters
    ----------
    model : path or str
        A run, a model folder or a built-in name.
    labels : path
        A CSV with the columns path and label; optionally start, end, split, fold, group, known. See `make_folds` for
        the splits.

    Returns
    -------
    bool
        Whether the run is finished; False after Ctrl-C.

    Raises
    ------
    ConfigError
        When ``out`` exists, or the recipe needs one class per clip and the table has several.
    DataError
        When the table cannot be used, or the loss becomes non-finite.
    CheckpointError
        When ``model`` does not exist.
    UnheardError
        When scikit-learn is not installed.
    """
    require("sklearn", "eval", "scikit-learn")  # the validation scores need it
    run, table = Path(out), open_table(labels, recipe)
    saved, activation = open_model(model), _activation(recipe, table.labels)
    engine = Engine(recipe.training, device)
    if engine.rank == 0:
        prepare_output_dir(run, [Path(labels)], storage.overwrite)
    shared = None if storage.corpus is None else Path(storage.corpus).resolve()
    members = tuple((part.name, channel) for channel in recipe.task.channels for part in table.parts)
    source = origin_of(model)
    start = FinetuneSetup(recipe, tuple(table.labels.classes), activation, source)
    with engine.first_process_first():
        sounds = sounds_of(run, table, saved, recipe.task.channels[0], shared, engine, report)
    trial = FinetuneTrainer(run, begin(saved, start), start, sounds, table.parts[0], engine)
    session = FinetuneSession(
        recipe,
        source,
        str(Path(labels).resolve()),
        _fingerprint(sounds, table),
        start.classes,
        activation,
        members,
        trial.total,
        None if shared is None else str(shared),
    )
    if engine.rank == 0:
        run.mkdir(parents=True, exist_ok=True)
        write_session(run, session)
        write_json(run / "environment.json", environment())
    return _train(run, session, table, saved, sounds, engine, report)


@lost_processes()
@one_writer
def resume(
    out: str | Path, *, skip_bad_batches: int | None = None, device: str = "auto", report: Callbacks | None = None
) -> bool:
    """Continue the run ``out`` from the latest checkpoint of each of its models.

    Parameters
    ----------
    skip_bad_batches : int, optional
        New value of ``training.skip_bad_batches``.

    Raises
    ------
    CheckpointError
        When ``out`` is not a fine-tuning run.
    DataError
        When clips or labels have changed since the run started.
    """
    run = Path(out)
    session = read_session(run)
    if finished(run, session):
        return True
    changed = session
    if skip_bad_batches is not None:
        changed = replace(session, recipe=override(session.recipe, [f"training.skip_bad_batches={skip_bad_batches}"]))
    engine = Engine(session.recipe.training, device)
    table, saved, sounds = open_inputs(run, session, engine, report)
    if engine.rank == 0 and changed != session:
        write_session(run, changed)
    return _train(run, changed, table, saved, sounds, engine, report)


def open_inputs(
    run: Path, session: FinetuneSession, engine: Engine, report: Callbacks | None
) -> tuple[LabelledSplits, SavedModel, PackedLabelledClips]:
    """Open the table, the model and the clips (first channel) of a run, and verify that they are unchanged.

    Raises
    ------
    DataError
        When clips or labels have changed since the run started.
    """
    table, saved = training_table(run, session), open_model(session.model)
    with engine.first_process_first():
        sounds = sounds_of(run, table, saved, session.channels[0], session.shared_corpus, engine, report)
    if _fingerprint(sounds, table) != session.fingerprint:
        raise DataError(
            f"the clips of {session.labels} have changed since {run} started; restore them, or start a new run"
        )
    return table, saved, sounds


def _train(
    run: Path,
    session: FinetuneSession,
    table: LabelledSplits,
    saved: SavedModel,
    sounds: PackedLabelledClips,
    engine: Engine,
    report: Callbacks | None,
) -> bool:
    """Train every model in turn; ``sounds`` holds the first channel."""
    callbacks = report if report is not None and first_process() else Callbacks()
    start = FinetuneSetup(session.recipe, session.classes, session.activation, session.model)
    parts, current_channel = {part.name: part for part in table.parts}, session.channels[0]
    callbacks.log(_line(table, sounds, session))
    clipped = [f"{text}; scores are computed from the sound as it is" for text in sounds.store.header.notes]
    for text in (*clipped, *table.remarks(session.recipe)):
        callbacks.log(f"note       {text}")
    for number, (name, channel) in enumerate(session.members):
        if channel != current_channel:
            with engine.first_process_first():
                sounds = sounds_of(run, table, saved, channel, session.shared_corpus, engine, report)
            current_channel = channel
        if len(session.members) > 1:
            callbacks.log(
                f"model      {number + 1} of {len(session.members)}: {session.folder(run, name, channel).name}"
            )
        member = FinetuneTrainer(
            session.folder(run, name, channel), begin(saved, start, channel), start, sounds, parts[name], engine
        )
        progress: RunState = member.run(callbacks)
        if progress.step < progress.total:
            engine.close()
            return False
    engine.close()
    return True


def _activation(recipe: FinetuneRecipe, labels: Labels) -> str:
    """Return the activation for a table; refuse settings that have no effect on its loss."""
    requested = recipe.task.loss
    if requested == "cross-entropy" and labels.multilabel:
        raise ConfigError(
            f"the recipe {recipe.name} needs one class per clip, but some clips of the table have none or several; set"
            " task.loss=bce"
        )
    sigmoid = requested == "bce" or (requested == "auto" and labels.multilabel)
    if sigmoid and recipe.task.label_smoothing:
        raise ConfigError("task.label_smoothing belongs to tables with one label a clip; set task.label_smoothing=0")
    if not sigmoid and recipe.task.asymmetric:
        raise ConfigError("task.asymmetric belongs to binary cross-entropy; set task.loss=bce or task.asymmetric=false")
    return "sigmoid" if sigmoid else "softmax"


def sounds_of(
    run: Path,
    table: LabelledSplits,
    saved: SavedModel,
    channel: Channel,
    shared: Path | None,
    engine: Engine,
    report: Callbacks | None,
) -> PackedLabelledClips:
    """Return the packed clips of one channel of a run."""
    callbacks = report if report is not None and first_process() else Callbacks()
    cache = Cache.of(run / "corpus" / channel, engine.processes)
    return open_sounds(
        table.labels, saved.recipe.frontend, channel, cache, callbacks.progress, shared=shared, log=callbacks.log
    )


def _fingerprint(sounds: PackedLabelledClips, table: LabelledSplits) -> str:
    return f"{sounds.store.fingerprint}-{table.fingerprint()}"


def _line(table: LabelledSplits, sounds: PackedLabelledClips, session: FinetuneSession) -> str:
    skipped, seconds = sounds.store.skipped, sounds.store.seconds_total
    bad = f", {len(skipped)} skipped (the first: {skipped[0].reason})" if skipped else ""
    kind = "one per clip" if session.activation == "softmax" else "any number per clip"
    clips = f"{len(sounds.rows)} of {len(table.labels)} clips, {seconds / 60:.1f} minutes{bad}"
    return f"labels     {clips}; {len(session.classes)} classes, {kind}"
