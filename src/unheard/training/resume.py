"""Continuation of an interrupted pre-training run: its corpus and inputs are opened again and compared."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from unheard.audio.archives.members import is_sound_file
from unheard.config import override, to_json
from unheard.data.corpus import Sources, brief, listed
from unheard.data.open_store import Cache, open_corpus_store
from unheard.data.store import Store
from unheard.data.windows.device_store import keep_on_device
from unheard.errors import ConfigError, DataError, shown
from unheard.model.sizes import resolved
from unheard.recipes.recipe import Recipe
from unheard.remote.listing import exists
from unheard.training.callbacks import Callbacks, Run
from unheard.training.checkpoints import checkpoints
from unheard.training.engine import Engine
from unheard.training.external_inputs import ExternalInputs
from unheard.training.initial import build_initialised
from unheard.training.pretrain import Origin, rank_zero_report, train
from unheard.training.processes import lost_processes
from unheard.training.run_folder import is_complete, one_writer
from unheard.training.session import Session, absolute_sources, read_session, same_sources, write_session
from unheard.weights.built_in import origin_of

CHANGEABLE = ("training.devices", "training.skip_bad_batches", "data.on_device")
"""Settings that may change when a run is continued: the batches and their updates do not depend on them."""


@lost_processes()
@one_writer
def resume(
    out: str | Path,
    *,
    data: Sources | None = None,
    skip_bad_batches: int | None = None,
    settings: Iterable[str] = (),
    no_code: bool = False,
    device: str = "auto",
    report: Callbacks | None = None,
) -> Run:
    """Continue the run ``out`` from its latest checkpoint, or from the start if there is none.

    If all steps are done but model or figures are missing, they are written.

    Parameters
    ----------
    data : path, or sequence of path, optional
        New location of the corpus, if it has moved: all sources in their order, or one that holds them. Its content,
        the order of the clips, and their paths below the common folder must be unchanged.
    skip_bad_batches : int, optional
        New value of ``training.skip_bad_batches``.
    settings : iterable of str
        ``section.key=value`` of fields in `CHANGEABLE`.
    no_code : bool
        Refuse a run that needs to execute a recipe file.

    Raises
    ------
    CheckpointError
        When ``out`` is not a run.
    DataError
        When the corpus is not the one of the run.
    AudioError
        When a clip of the labelled table that the run scores cannot be read.
    ConfigError
        When the run is finished and ``data`` is not the corpus of the run, because it would not be read.
        When the recipe file of the run is missing or has changed.
        When a setting cannot change.
    """
    run, report = Path(out), rank_zero_report(report)
    session, settings = read_session(run, no_code, report.log), list(settings)
    refuse_unchangeable(run, settings)
    if is_complete(run, session):
        if data is not None and not same_sources(data, session.data):
            raise ConfigError(
                f"{run} is finished and was trained on {brief(session.data)}, so --data {brief(data)} would not be"
                f" used. Omit --data, or start a new run on the other corpus with --init {run}"
            )
        report.log(f"{run} is finished: {session.total} of {session.total} steps")
        return Run(run, session.total, session.total)
    changed = _changed(session, data, skip_bad_batches, settings)
    store, engine, inputs = open_session(run, changed, device, report)
    if engine.rank == 0 and changed.watch is not None:
        inputs.watched = report.watch(changed.watch, changed.recipe)
    if engine.rank == 0 and changed != session:
        write_session(run, changed)
    learner = build_initialised(changed.recipe, None if checkpoints(run) else changed.init)
    return train(run, changed, store, learner, engine, inputs, report)


def open_session(run: Path, session: Session, device: str, report: Callbacks) -> tuple[Store, Engine, ExternalInputs]:
    """Open the corpus, the engine and the external inputs of a run, and verify that they are unchanged.

    Raises
    ------
    DataError
        When the corpus, a teacher or the text encoder has changed, or the corpus is missing.
    """
    inputs = ExternalInputs(session.recipe)
    if inputs.fingerprint != session.teacher:
        raise DataError(
            f"the teacher of {run}, or its stored targets, changed since the run started; restore them, or start a new"
            f" run with --init {run}"
        )
    if session.text and inputs.text is not None and inputs.text.fingerprint != session.text:
        raise DataError(
            f"the text encoder of {run} changed since the run started; restore it, or start a new run with --init {run}"
        )
    for source in listed(session.data):
        if not exists(source) and not is_sound_file(source):
            raise DataError(
                f"{shown(source)}: no such file or folder; if the corpus of {run} has moved, give its new path:"
                f" --resume {run} --data NEW_PATH{' for each source' * (len(listed(session.data)) > 1)}"
            )
    engine = Engine(session.recipe.training, device)
    with engine.first_process_first():
        cache, recipe = Cache.of(run / "corpus", engine.processes), session.recipe
        store = open_corpus_store(session.data, recipe.frontend, cache, report.progress, recipe.data.input)
        if store.fingerprint != session.fingerprint:
            raise DataError(
                f"the corpus {brief(session.data)} is not the one that {run} started with, or has changed; restore it,"
                f" give the path of an identical one with --data NEW_PATH, or start a new run with --init {run}"
            )
        store = keep_on_device(store, engine.device, recipe.data.on_device)
        inputs.attach_to_corpus(store, engine.device, report.progress)
    return store, engine, inputs


def refuse_unchangeable(run: Path, settings: Iterable[str]) -> None:
    """Refuse settings that a continued run takes from its start.

    Raises
    ------
    ConfigError
        Names the setting, and those that can change.
    """
    for given in settings:
        if given.partition("=")[0] not in CHANGEABLE:
            raise ConfigError(
                f"--resume {run} cannot change {given}; it can change {', '.join(CHANGEABLE)}. For other settings,"
                f" start a new run from its weights: unheard pretrain DATA -o OTHER_RUN --init {run} --set {given}"
            )


def _changed(session: Session, data: Sources | None, skip_bad_batches: int | None, settings: Sequence[str]) -> Session:
    """Return the session with the values that a resumed run may change."""
    if data is not None:
        session = replace(session, data=absolute_sources(data))
    if skip_bad_batches is not None:
        settings = [f"training.skip_bad_batches={skip_bad_batches}", *settings]
    return replace(session, recipe=override(session.recipe, settings))


def changeable_settings(recipe: Recipe) -> list[str]:
    """Return the values of the fields in `CHANGEABLE`, as ``section.key=value``."""
    values = _leaves(to_json(recipe))
    return [f"{name}={json.dumps(values[name])}" for name in CHANGEABLE]


def moved_corpus(run: Path, data: Sources, recipe: Recipe, origin: Origin, no_code: bool = False) -> Sources | None:
    """Compare the options of a command with those that a run was started with.

    Fields that a run takes from its corpus may be empty, and those in `CHANGEABLE` may change. Teachers are opened, so
    that their fields are those that a run stores.

    Parameters
    ----------
    recipe : Recipe
        With the settings of the command.
    no_code : bool
        As in `read_session`.

    Returns
    -------
    path, sequence of path or None
        The corpus if it is not the one that is stored; `resume` compares its content.

    Raises
    ------
    ConfigError
        Names each option that differs, with both values.
    CheckpointError, DataError
        When a teacher cannot be opened.
    """
    session = read_session(run, no_code)
    init = None if origin.init is None else origin_of(origin.init)
    given = _leaves(to_json(ExternalInputs(replace(recipe, model=resolved(recipe.model))).recipe))
    given |= {"--init": init, "--minutes": origin.minutes, "--watch": origin.watch and origin.watch.table}
    stored = _leaves(to_json(session.recipe))
    stored |= {"--init": session.init, "--minutes": session.minutes, "--watch": session.watch and session.watch.table}
    if origin.watch is not None and origin.watch.every and session.watch is not None:
        given["--watch-every"], stored["--watch-every"] = origin.watch.every, session.watch.every
    differing = [
        f"{name} is {stored.get(name)!r}, given {given[name]!r}"
        for name in given
        if given[name] != stored.get(name)
        and name not in CHANGEABLE
        and (given[name] not in (None, "", []) or name.startswith("--"))
    ]
    if differing:
        raise ConfigError(
            f"{run} was started with other options: {'; '.join(differing)}; give those of the run, another -o, or"
            " replace the run with --overwrite instead of --resume-or-start"
        )
    return None if same_sources(data, session.data) else data


def _leaves(values: Any, prefix: str = "") -> dict[str, Any]:
    """Return the fields of a configuration by dotted name; entries of lists of sections by their number."""
    if isinstance(values, list) and values and isinstance(values[0], dict):
        values = {str(number): each for number, each in enumerate(values)}
    if not isinstance(values, dict):
        return {prefix: values}
    inner = {f"{prefix}.{name}" if prefix else name: each for name, each in values.items()}
    return {name: value for key, each in inner.items() for name, value in _leaves(each, key).items()}
