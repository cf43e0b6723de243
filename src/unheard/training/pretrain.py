"""Pre-training: the loop, in the order a step happens.

batch -> mask -> losses and gradients -> before_step -> optimiser -> after_step -> journal -> checkpoint
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

from unheard.config import from_json, to_json
from unheard.data.ahead import Share
from unheard.data.batch import Loader
from unheard.data.open import open_data
from unheard.data.store import Store
from unheard.errors import CheckpointError, ConfigError, DataError
from unheard.files import write_json
from unheard.model.masking import share_hidden
from unheard.model.sizes import explicit
from unheard.objectives.schedules import Moment
from unheard.recipes.learner import Learner, build, grid_of
from unheard.recipes.recipe import Recipe
from unheard.training.checkpoints import checkpoints, read_progress, restore
from unheard.training.collapse import Collapse
from unheard.training.companions import Companions
from unheard.training.engine import Engine, first_process
from unheard.training.journal import Journal, environment
from unheard.training.optim import learning_rate, peak_learning_rate
from unheard.training.run import (
    Keeper,
    Report,
    Run,
    Session,
    describe,
    make_room,
    read_config,
    sampler_of,
    statistics_of,
    total_steps,
)
from unheard.training.watch import Clock, Watch, stop_signal
from unheard.version import __version__
from unheard.weights.built_in import BUILT_IN, open_model


def pretrain(
    data: str | Path,
    out: str | Path,
    recipe: Recipe,
    *,
    init: str | Path | None = None,
    device: str = "auto",
    overwrite: bool = False,
    report: Report | None = None,
) -> Run:
    """Pre-train ``recipe`` on ``data`` and leave a run folder at ``out``.

    Parameters
    ----------
    data : path
        A folder of audio, a CSV with a ``path`` column, a manifest, or a packed corpus.
    init : path, optional
        A model or run folder, or a built-in name, whose weights training starts from.

    Raises
    ------
    ConfigError
        When ``out`` exists and ``overwrite`` is false, or the recipe cannot be built.
    DataError
        When nothing in ``data`` can be used, or the loss stops being a number.
    """
    run, report = Path(out), _speaking(report)
    companions = Companions(replace(recipe, model=explicit(recipe.model)))
    trial = companions.trial()
    learner = _begun(trial, init)  # a recipe that cannot be built, or weights that do not fit, should say so before audio is read
    engine = Engine(recipe.training, device)
    if engine.rank == 0:
        make_room(run, Path(data), overwrite)
    with engine.first_process_first():
        store = open_data(data, recipe.frontend, run / "corpus", report.track, recipe.data.store)
        recipe = companions.join(store, engine.device, run, report.track)
    session = Session(
        recipe=recipe,
        data=str(Path(data).resolve()),
        fingerprint=store.fingerprint,
        statistics=statistics_of(store, recipe),
        total=total_steps(recipe.training, sampler_of(store, recipe).size),
        init=None if init is None else str(init) if str(init) in BUILT_IN else str(Path(init).resolve()),
        teacher=companions.fingerprint,
    )
    if engine.rank == 0:
        run.mkdir(parents=True, exist_ok=True)
        write_json(run / "config.json", {"unheard": __version__, **to_json(session)})
        write_json(run / "environment.json", environment())
    return _train(run, session, store, learner if recipe == trial else _begun(recipe, init), engine, companions, report)


def resume(out: str | Path, *, device: str = "auto", report: Report | None = None) -> Run:
    """Go on with the run at ``out`` from its latest checkpoint, or from the start when it has none.

    Raises
    ------
    CheckpointError
        When there is no run there.
    DataError
        When the corpus is not the one the run began with.
    """
    run, report = Path(out), _speaking(report)
    stored = read_config(run)
    try:
        session = from_json(Session, {name: value for name, value in stored.items() if name != "unheard"})
    except ConfigError as error:
        raise CheckpointError(f"{run} is not a run of this version of unheard: {error}") from error
    saved = checkpoints(run)
    if saved and read_progress(saved[-1]).step >= session.total:
        report.say(f"{run} is finished: {session.total} of {session.total} steps")
        return Run(run, session.total, session.total)
    companions = Companions(session.recipe)
    if companions.fingerprint != session.teacher:
        raise DataError(f"the teacher of {run} has changed since it began; restore it, or start a new run with --init {run}")
    engine = Engine(session.recipe.training, device)
    with engine.first_process_first():
        store = open_data(session.data, session.recipe.frontend, run / "corpus", report.track, session.recipe.data.store)
        if store.fingerprint != session.fingerprint:
            raise DataError(f"the corpus {session.data} has changed since {run} began; restore it, or start a new run with --init {run}")
        companions.join(store, engine.device, run, report.track)
    learner = _begun(session.recipe, None if saved else session.init)
    return _train(run, session, store, learner, engine, companions, report)


def _begun(recipe: Recipe, init: str | Path | None) -> Learner:
    """The learner of a run at its first step."""
    learner = build(recipe)
    if learner.model.decodes:
        refuse_nothing_hidden(recipe)
    if init is not None:
        start_from(learner, str(init))
    return learner


def _train(run: Path, session: Session, store: Store, learner: Learner, engine: Engine, companions: Companions, report: Report) -> Run:
    """Restore what a checkpoint holds, say what is coming, and run the loop."""
    training = session.recipe.training
    saved = checkpoints(run)
    progress = read_progress(saved[-1]) if saved else None
    engine.setup(learner, progress.kernel if progress else None)
    step = 0
    if progress is not None:
        step = progress.step
        restore(saved[-1], learner, engine.optimiser)
    sampler = sampler_of(store, session.recipe)
    loader = Loader(
        store, sampler, learner.grid, session.statistics, Share(training.batch_size, engine.rank, engine.processes),
        device=engine.device, steps=range(step, session.total), adds=companions.added,
    )  # fmt: skip
    with loader:
        lines = describe(session, store, sampler, learner, engine, loader.peek(), step)
        for line in [*companions.lines, *lines]:
            report.say(line)
        step = _loop(run, session, store, engine, loader, report)
    engine.close()
    if step >= session.total:
        report.finished(run, store)
    return Run(run, step, session.total)


def _loop(run: Path, session: Session, store: Store, engine: Engine, loader: Loader, report: Report) -> int:
    """Every step from the loader's first to its last, or to Ctrl-C; returns the steps done."""
    training, learner = session.recipe.training, engine.learner
    peak = peak_learning_rate(training)
    step = loader.steps.start
    keeper = Keeper(run, session, store, engine)
    watch, clock, collapse = Watch(run, store.names), Clock(loader, training.batch_size), Collapse(learner, report.say)
    journal = Journal(run, step, session.total, report.live) if engine.rank == 0 else nullcontext()
    with journal as rows, stop_signal() as stopped:
        for batch in loader:
            now = Moment(step, session.total)
            rate = learning_rate(now.progress, peak, training.warmup)
            learner.begin_step(now)
            losses = engine.losses_and_gradients(batch, step)
            learner.before_step(now)
            engine.step(rate)
            step += 1
            learner.after_step(Moment(step, session.total))

            watch.remember(step, batch.clips, losses["loss"])
            ending = step == session.total or engine.any_process(stopped())
            saving = ending or step % training.checkpoint_every == 0
            if saving or step % training.log_every == 0:
                watch.check()
            if ending or step % training.log_every == 0:
                means = {name: float(engine.mean(value)) for name, value in losses.items()}
                epoch = step * training.batch_size / loader.epoch_size
                row = {"step": step, "epoch": epoch, **means, **learner.schedules(now), "learning_rate": rate, **clock.lap(step)}
                if rows is not None:
                    rows.write(row)
                    collapse.look(row)
            if saving:
                watch.check_weights(learner, step)
                keeper.save(step)
            if ending:
                break
    return step


def start_from(learner: Learner, source: str) -> None:
    """Copy into ``learner`` every weight of a saved model that has its name and shape.

    Raises
    ------
    CheckpointError
        When the encoders differ.
    """
    theirs = open_model(source).learner.lasting_state()
    mine = learner.state_dict()
    fitting = {name: value for name, value in theirs.items() if name in mine and mine[name].shape == value.shape}
    missing = [name for name in mine if name.startswith("model.encoder.") and name not in fitting]
    if missing:
        raise CheckpointError(
            f"--init {source}: its encoder has another size or patch than the recipe's ({missing[0]} differs); set model.* to match"
        )
    learner.load_state_dict(fitting, strict=False)
    teacher = learner.model.teacher
    if teacher is not None and learner.recipe.teacher.copied:
        teacher.follow(learner.model.encoder, momentum=0.0)


def refuse_nothing_hidden(recipe: Recipe) -> None:
    """Refuse mask settings so small that no patch is hidden.

    Raises
    ------
    ConfigError
        With the smallest ratio that hides one.
    """
    grid, model = grid_of(recipe), recipe.model
    if share_hidden(model, grid) > 0:
        return
    if model.mask_axes is None:
        asked, enough = f"mask_ratio={model.mask_ratio:g}", f"{1 / grid.num_patches:.3g}"
    else:
        asked, enough = f"mask_axes={list(model.mask_axes)}", f"[{1 / grid.freq:.3g}, {1 / grid.time:.3g}]"
    raise ConfigError(f"model.{asked} hides none of the {grid.num_patches} patches, so there is nothing to predict; set at least {enough}")


def _speaking(report: Report | None) -> Report:
    """The caller's report in the first process, a silent one in the others."""
    return report if report is not None and first_process() else Report()
