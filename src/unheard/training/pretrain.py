"""Pre-training: start and completion of a run. See `resume` for its continuation, and `loop` for the steps."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from unheard.data.corpus import Sources, listed
from unheard.data.loader import PretrainLoader
from unheard.data.open_store import Cache, open_corpus_store
from unheard.data.store import Store
from unheard.data.windows.device_store import keep_on_device
from unheard.errors import CheckpointError
from unheard.files import write_json
from unheard.model.sizes import resolved
from unheard.recipes.file import RecipeFile
from unheard.recipes.learner import PretrainModule
from unheard.recipes.recipe import Recipe
from unheard.training.callbacks import Callbacks, Run
from unheard.training.checkpoints import CheckpointWriter
from unheard.training.engine import Engine
from unheard.training.external_inputs import ExternalInputs
from unheard.training.guards import Stop
from unheard.training.initial import build_initialised
from unheard.training.journal import environment
from unheard.training.loop import Loop, latest, loader_of, measured_steps, prepare
from unheard.training.processes import first_process, lost_processes
from unheard.training.run_folder import mark_complete, one_writer, prepare_output_dir
from unheard.training.session import (
    Session,
    absolute_sources,
    sampler_of,
    statistics_of,
    total_steps,
    write_session,
)
from unheard.training.summary import summary_lines
from unheard.training.watch.plan import WatchPlan
from unheard.training.watch.watcher import Watcher
from unheard.weights.built_in import origin_of


@dataclass(frozen=True)
class Origin:
    """What a new run begins with.

    Parameters
    ----------
    init : path, optional
        Model folder, run folder or built-in name with the initial weights.
    minutes : float, optional
        Duration of the training, from which the steps are computed.
    code : RecipeFile, optional
        File that registers objectives of the recipe; it is executed again when the run is resumed.
    watch : WatchPlan, optional
        Labelled table that is scored while the run trains.
    partial : bool
        Whether the run folder may hold the corpus of a run that was stopped while it read it.
    """

    init: str | Path | None = None
    minutes: float | None = None
    code: RecipeFile | None = None
    watch: WatchPlan | None = None
    partial: bool = False


@lost_processes()
@one_writer
def pretrain(
    data: Sources,
    out: str | Path,
    recipe: Recipe,
    *,
    origin: Origin = Origin(),
    device: str = "auto",
    overwrite: bool = False,
    report: Callbacks | None = None,
) -> Run:
    """Pre-train ``recipe`` on ``data`` and write the run folder ``out``.

    Parameters
    ----------
    data : path, or sequence of path
        A folder of audio, an archive, a CSV with a ``path`` column or a manifest, or several of them; or a packed
        corpus.

    Raises
    ------
    ConfigError
        When ``out`` exists and ``overwrite`` is false, or the recipe cannot be built.
    DataError
        When nothing in ``data`` can be used, or the loss becomes non-finite.
    """
    run, report, init = Path(out), rank_zero_report(report), origin.init
    inputs = ExternalInputs(replace(recipe, model=resolved(recipe.model)))
    trial = inputs.buildable_recipe()
    learner = build_initialised(trial, init)  # raises errors of recipe and weights before audio is read
    engine = Engine(recipe.training, device)
    if engine.rank == 0:
        inputs.watched = None if origin.watch is None else report.watch(origin.watch, recipe)
        prepare_output_dir(run, listed(data), overwrite, origin.partial)
    with engine.first_process_first():
        cache = Cache.of(run / "corpus", engine.processes)
        store = open_corpus_store(data, recipe.frontend, cache, report.progress, recipe.data.input)
        store = keep_on_device(store, engine.device, recipe.data.on_device)
        recipe = inputs.attach_to_corpus(store, engine.device, report.progress)
    session = Session(
        recipe=recipe,
        data=absolute_sources(data),
        fingerprint=store.fingerprint,
        statistics=statistics_of(store, recipe, init),
        total=0 if origin.minutes else total_steps(recipe.training, sampler_of(store, recipe).size),
        init=None if init is None else origin_of(init),
        minutes=origin.minutes,
        teacher=inputs.fingerprint,
        text="" if inputs.text is None else inputs.text.fingerprint,
        code=origin.code if recipe.objectives.added() else None,
        watch=origin.watch,
    )
    if engine.rank == 0:
        run.mkdir(parents=True, exist_ok=True)
        write_session(run, session)
        write_json(run / "environment.json", environment())
    return train(
        run, session, store, learner if recipe == trial else build_initialised(recipe, init), engine, inputs, report
    )


def train(
    run: Path,
    session: Session,
    store: Store,
    learner: PretrainModule,
    engine: Engine,
    inputs: ExternalInputs,
    report: Callbacks,
) -> Run:
    """Restore a checkpoint, print the summary, run the loop, and complete the run."""
    step, stop = prepare(session, engine, learner, latest(run)), Stop.NO
    if engine.largest(step) != -engine.largest(-step):
        raise CheckpointError(
            f"the processes found different checkpoints in {run}; the folder must be the same on every machine"
        )
    if not session.total:
        session = replace(session, total=measured_steps(session, store, engine, inputs))
        if engine.rank == 0:
            write_session(run, session)
    writer = CheckpointWriter(run, session, store, engine, inputs.stored, report.on_save)
    if step < session.total:
        loader = loader_of(session, store, engine, inputs, range(step, session.total))
        with loader:
            lines = summary_lines(session, store, loader.sampler, learner, engine, loader.peek(), step)
            for line in [*inputs.lines, *lines]:
                report.log(line)
            watcher = _watcher(session, inputs, writer, loader, report)
            loop = Loop(session if watcher is None else watcher.session, writer, loader, report, watcher)
            step, stop = loop.run(), loop.stop
    else:
        writer.save_model(step)
    engine.close()
    if step >= session.total:
        report.on_end(run, store)
        if engine.rank == 0:
            mark_complete(run, session)
    return Run(run, step, session.total, requeue=stop == Stop.REQUEUE and step < session.total)


def _watcher(
    session: Session,
    inputs: ExternalInputs,
    writer: CheckpointWriter,
    loader: PretrainLoader,
    report: Callbacks,
) -> Watcher | None:
    """Return what scores the labelled table of a run, if it has one, after the interval is stored."""
    if session.watch is None:
        return None
    watcher = Watcher(session, writer.engine, inputs.watched)
    for line in watcher.begin(writer.store, loader.peek(), loader.steps.start):
        report.log(f"watch      {line}")
    if writer.engine.rank == 0:
        write_session(writer.run, watcher.session)
    return watcher


def rank_zero_report(report: Callbacks | None) -> Callbacks:
    """Return the callbacks of the caller in the first process, and silent ones in the others, except ``on_stop``."""
    given = report or Callbacks()
    return given if first_process() else Callbacks(on_stop=given.on_stop)
