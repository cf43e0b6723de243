"""Pre-training: what a run begins with, how it is resumed, and how it ends. `loop` has the steps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from unheard.config import override
from unheard.data.open_store import open_corpus_store
from unheard.data.store import Store
from unheard.errors import ConfigError, DataError
from unheard.files import write_json
from unheard.model.sizes import resolved
from unheard.recipes.file import RecipeFile
from unheard.recipes.learner import PretrainModule
from unheard.recipes.recipe import Recipe
from unheard.training.callbacks import Callbacks, Run
from unheard.training.checkpoint_writer import CheckpointWriter
from unheard.training.checkpoints import checkpoints
from unheard.training.engine import Engine
from unheard.training.external_inputs import ExternalInputs
from unheard.training.initial import begun
from unheard.training.journal import environment
from unheard.training.loop import Loop, latest, loader_of, prepare
from unheard.training.processes import first_process, lost_processes
from unheard.training.run_folder import is_complete, mark_complete, one_writer, prepare_output_dir
from unheard.training.session import Session, read_session, sampler_of, statistics_of, total_steps, write_session
from unheard.training.summary import summary_lines
from unheard.weights.built_in import BUILT_IN


@lost_processes()
@one_writer
def pretrain(
    data: str | Path,
    out: str | Path,
    recipe: Recipe,
    *,
    code: RecipeFile | None = None,
    init: str | Path | None = None,
    device: str = "auto",
    overwrite: bool = False,
    report: Callbacks | None = None,
) -> Run:
    """Pre-train ``recipe`` on ``data`` and leave a run folder at ``out``.

    Parameters
    ----------
    data : path
        A folder of audio, a CSV with a ``path`` column, a manifest, or a packed corpus.
    code : RecipeFile, optional
        The file that registers objectives of the recipe; a resumed run runs it again.
    init : path, optional
        A model or run folder, or a built-in name, whose weights training starts from.

    Raises
    ------
    ConfigError
        When ``out`` exists and ``overwrite`` is false, or the recipe cannot be built.
    DataError
        When nothing in ``data`` can be used, or the loss stops being a number.
    """
    run, report = Path(out), _rank_zero_report(report)
    companions = ExternalInputs(replace(recipe, model=resolved(recipe.model)))
    trial = companions.buildable_recipe()
    learner = begun(
        trial, init
    )  # a recipe that cannot be built, or weights that do not fit, should say so before audio is read
    engine = Engine(recipe.training, device)
    if engine.rank == 0:
        prepare_output_dir(run, Path(data), overwrite)
    with engine.first_process_first():
        store = open_corpus_store(data, recipe.frontend, run / "corpus", report.track, recipe.data.input)
        recipe = companions.attach_to_corpus(store, engine.device, run, report.track)
    session = Session(
        recipe=recipe,
        data=str(Path(data).resolve()),
        fingerprint=store.fingerprint,
        statistics=statistics_of(store, recipe),
        total=total_steps(recipe.training, sampler_of(store, recipe).size),
        init=None if init is None else str(init) if str(init) in BUILT_IN else str(Path(init).resolve()),
        teacher=companions.fingerprint,
        code=code if recipe.objectives.added() else None,
    )
    if engine.rank == 0:
        run.mkdir(parents=True, exist_ok=True)
        write_session(run, session)
        write_json(run / "environment.json", environment())
    return _train(run, session, store, learner if recipe == trial else begun(recipe, init), engine, companions, report)


@lost_processes()
@one_writer
def resume(
    out: str | Path,
    *,
    data: str | Path | None = None,
    skip_bad_batches: int | None = None,
    no_code: bool = False,
    device: str = "auto",
    report: Callbacks | None = None,
) -> Run:
    """Continue the run at ``out`` from its latest checkpoint, or from the start when it has none.

    A run whose steps are done, but which was stopped before its model and figures were written, gets them.

    Parameters
    ----------
    data : path, optional
        Where the corpus is now, when it has moved; it must hold what the run began with.
    skip_bad_batches : int, optional
        New value of ``training.skip_bad_batches``.
    no_code : bool
        Refuse a run whose objectives are those of a recipe file, which is run.

    Raises
    ------
    CheckpointError
        When there is no run there.
    DataError
        When the corpus is not the one the run began with.
    ConfigError
        When the run is finished and ``data`` is another place than the run's corpus: nothing would be read from it.
        When the recipe file of the run is missing or has changed.
    """
    run, report = Path(out), _rank_zero_report(report)
    session = read_session(run, no_code, report.say)
    if is_complete(run, session):
        if data is not None and Path(data).resolve() != Path(session.data):
            raise ConfigError(
                f"{run} is finished, and nothing is read from --data {data}; it was trained on {session.data}. Leave"
                f" --data out, or start a new run on the other corpus with --init {run}"
            )
        report.say(f"{run} is finished: {session.total} of {session.total} steps")
        return Run(run, session.total, session.total)
    changed = _changed(session, data, skip_bad_batches)
    store, engine, companions = open_session(run, changed, device, report)
    if engine.rank == 0 and changed != session:
        write_session(run, changed)
    learner = begun(changed.recipe, None if checkpoints(run) else changed.init)
    return _train(run, changed, store, learner, engine, companions, report)


def open_session(run: Path, session: Session, device: str, report: Callbacks) -> tuple[Store, Engine, ExternalInputs]:
    """Open what a run reads and computes with, and compare it with what the run began with.

    Raises
    ------
    DataError
        When the corpus or a teacher has changed, or the corpus is not there.
    """
    companions = ExternalInputs(session.recipe)
    if companions.fingerprint != session.teacher:
        raise DataError(
            f"the teacher of {run} has changed since it began; restore it, or start a new run with --init {run}"
        )
    if not Path(session.data).exists():
        raise DataError(
            f"{session.data}: no such file or folder; if the corpus of {run} has moved, give its place: --resume {run}"
            " --data NEW_PLACE"
        )
    engine = Engine(session.recipe.training, device)
    with engine.first_process_first():
        store = open_corpus_store(
            session.data, session.recipe.frontend, run / "corpus", report.track, session.recipe.data.input
        )
        if store.fingerprint != session.fingerprint:
            raise DataError(
                f"the corpus {session.data} is not the one that {run} began with, or has changed; restore it, give the"
                f" place of an equal one with --data NEW_PLACE, or start a new run with --init {run}"
            )
        companions.attach_to_corpus(store, engine.device, run, report.track)
    return store, engine, companions


def _changed(session: Session, data: str | Path | None, skip_bad_batches: int | None) -> Session:
    """The session with what a resumed run may change."""
    if data is not None:
        session = replace(session, data=str(Path(data).resolve()))
    if skip_bad_batches is not None:
        session = replace(session, recipe=override(session.recipe, [f"training.skip_bad_batches={skip_bad_batches}"]))
    return session


def _train(
    run: Path,
    session: Session,
    store: Store,
    learner: PretrainModule,
    engine: Engine,
    companions: ExternalInputs,
    report: Callbacks,
) -> Run:
    """Restore what a checkpoint holds, print what comes, run the loop, and complete the run."""
    step = prepare(session, engine, learner, latest(run))
    keeper = CheckpointWriter(run, session, store, engine)
    if step < session.total:
        loader = loader_of(session, store, engine, companions, range(step, session.total))
        with loader:
            lines = summary_lines(session, store, loader.sampler, learner, engine, loader.peek(), step)
            for line in [*companions.lines, *lines]:
                report.say(line)
            step = Loop(session, keeper, loader, report).run()
    elif engine.rank == 0:
        keeper.save_model(step)
    engine.close()
    if step >= session.total:
        report.finished(run, store)
        if engine.rank == 0:
            mark_complete(run, session)
    return Run(run, step, session.total)


def _rank_zero_report(report: Callbacks | None) -> Callbacks:
    """The caller's report in the first process, a silent one in the others."""
    return report if report is not None and first_process() else Callbacks()
