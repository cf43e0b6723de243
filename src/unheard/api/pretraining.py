"""Pre-training: a new run, and the continuation of an interrupted one."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from unheard.addresses import address_of, named
from unheard.api.options import PretrainOptions, documented
from unheard.config import override
from unheard.errors import ConfigError
from unheard.recipes import find_recipe, recipe_file
from unheard.recipes.file import refuse_code
from unheard.recipes.recipe import Recipe
from unheard.remote.writing import relocated

if TYPE_CHECKING:
    from unheard.data.corpus import Sources
    from unheard.data.store import Store
    from unheard.trackers import TrackerName
    from unheard.training.callbacks import Callbacks, Run
    from unheard.training.watch.plan import WatchedTable, WatchPlan


@documented(PretrainOptions)
def pretrain(
    data: Sources,
    out: str | Path,
    recipe: str | Recipe | None = None,
    settings: Iterable[str] = (),
    *,
    epochs: float | None = None,
    steps: int | None = None,
    batch_size: int | None = None,
    minutes: float | None = None,
    init: str | Path | None = None,
    skip_bad_batches: int | None = None,
    no_code: bool = False,
    log: TrackerName | None = None,
    watch: str | Path | None = None,
    watch_every: int | None = None,
    resume_or_start: bool = False,
    device: str = "auto",
    overwrite: bool = False,
    report: Callbacks | None = None,
) -> Run:
    """Pre-train a recipe on folders of audio or archives, archives, CSVs with a ``path`` column and manifests, or on a
    packed corpus.

    Several sources are a list. They are one corpus, in their order: archives in the order of their names give the run
    of the folder that holds them. Sources and ``out`` may be at addresses such as ``s3://bucket/folder``. A run at an
    address is written to a local folder that is mirrored at every checkpoint.

    Parameters
    ----------
    recipe : str or Recipe, optional
        Also a recipe itself. With ``init``, the default is the recipe of that model, without objectives that need
        teachers, labels or captions.
    settings : iterable of str
        ``section.key=value``, such as ``training.warmup=10`` or ``model.size=tiny``; they replace the options.
    device : {"auto", "cpu", "cuda", "mps"}
    overwrite : bool
        Replace an existing run.
    report : Callbacks, optional
        Functions that the run calls.

    Returns
    -------
    Run
        The folder ``out``, the steps done and the steps of the whole run.

    Examples
    --------
    >>> import unheard
    >>> unheard.pretrain("my_audio/", "runs/first", settings=["model.size=tiny"])  # doctest: +SKIP
    """
    from unheard.training import pretrain as training
    from unheard.training.mirrors.mirrored_run import mirrored_run
    from unheard.training.resume import changeable_settings, moved_corpus
    from unheard.training.run_folder import is_started

    if no_code and isinstance(recipe, str):
        refuse_code(recipe)
    name = recipe if isinstance(recipe, str) else None
    start, table = (None if each is None else Path(each) for each in (init, watch))
    options = PretrainOptions(
        name, no_code, epochs, steps, batch_size, minutes, start, skip_bad_batches, log, table, watch_every,
        resume_or_start,
    )  # fmt: skip
    plan = checked_options(options, out, overwrite)
    watched = _watched(tracked(report, log), out)
    chosen = chosen_recipe(options, settings, watched.log, None if isinstance(recipe, str) else recipe)
    origin = training.Origin(init, minutes, recipe_file(name) if name else None, plan, partial=resume_or_start)
    if resume_or_start and is_started(Path(out)):
        moved = moved_corpus(Path(out), data, chosen, origin, no_code)
        kept = changeable_settings(chosen)
        return resume(out, data=moved, settings=kept, no_code=no_code, log=log, device=device, report=report)
    with mirrored_run(out, watched, overwrite=overwrite) as (place, mirrored):
        run = training.pretrain(data, place, chosen, origin=origin, device=device, overwrite=overwrite, report=mirrored)
    return relocated(run, place, out)


def checked_options(options: PretrainOptions, out: str | Path | None, overwrite: bool) -> WatchPlan | None:
    """Check the options of a run that are no settings of its recipe. Return which table it scores while it trains.

    Raises
    ------
    ConfigError
        When options exclude each other, or ``watch_every`` is not positive.
    UnheardError
        When the package of ``log`` is not installed.
    """
    from unheard.trackers import require_tracker
    from unheard.training.watch.plan import WatchPlan

    require_tracker(options.log)
    if options.resume_or_start and overwrite:
        raise ConfigError("--resume-or-start continues a run, and --overwrite deletes it; give only one of them")
    if options.resume_or_start and out is not None and address_of(out):
        raise ConfigError(f"{named(out)}: --resume-or-start needs a local run folder; give one, or use --resume")
    return WatchPlan.of(options.watch, options.watch_every)


def chosen_recipe(
    options: PretrainOptions, settings: Iterable[str], log: Callable[[str], None], recipe: Recipe | None = None
) -> Recipe:
    """Return the recipe of a new run, with the settings and short options applied.

    Parameters
    ----------
    options : PretrainOptions
    settings : iterable of str
        ``section.key=value``; they replace the options.
    log : callable
        Called with a line about the recipe of ``options.init``, if that is taken.
    recipe : Recipe, optional
        Instead of the name ``options.recipe``.

    Raises
    ------
    ConfigError
        On an unknown recipe or setting, a setting that changes nothing, or minutes with a number of steps.
    """
    from unheard.training.initial import continued_recipe

    short = training_settings(options.epochs, options.steps, options.batch_size, options.skip_bad_batches)
    settings = one_length([*short, *settings])
    if options.minutes is not None:
        _refuse_duration(options.minutes, settings)
    if recipe is None and options.recipe is None and options.init is not None:
        recipe, left_out = continued_recipe(options.init)
        log(f"recipe     that of {options.init}{', without ' * bool(left_out)}{', '.join(left_out)}")
    chosen = override(recipe or find_recipe(options.recipe or "msm-mae"), settings)
    _refuse_inactive(chosen, settings)
    return chosen


def _refuse_duration(minutes: float, settings: Sequence[str]) -> None:
    """Refuse minutes that are not positive, or that a setting contradicts."""
    if not 0 < minutes < math.inf:
        raise ConfigError(f"minutes must be a positive number; got {minutes}")
    if given := [each for each in settings if each.startswith(("training.steps=", "training.epochs="))]:
        raise ConfigError(f"minutes excludes {given[0]}: the steps are computed from the minutes; give only one")


def _refuse_inactive(recipe: Recipe, settings: Sequence[str]) -> None:
    """Refuse a setting of an objective that is not trained: it would change nothing."""
    for given in settings:
        section, name, field = [*given.partition("=")[0].split(".", 2), "", ""][:3]
        if section == "objectives" and field not in ("", "weight") and name not in recipe.objectives.active():
            raise ConfigError(
                f"{given} changes nothing, because the weight of objectives.{name} is 0; also set"
                f" objectives.{name}.weight=1, or leave the setting out"
            )


def resume(
    out: str | Path, *, data: Sources | None = None, skip_bad_batches: int | None = None, settings: Iterable[str] = (),
    no_code: bool = False, log: TrackerName | None = None, device: str = "auto", report: Callbacks | None = None,
) -> Run:  # fmt: skip
    """Continue an interrupted run; the result is the same as without the interruption.

    Parameters
    ----------
    data : path, or sequence of path, optional
        New path of the corpus, if it has moved: all sources in their order, or one that holds them.
    settings : iterable of str
        ``training.devices=N`` or ``training.skip_bad_batches=N``; all other settings are those of the run.
    log : {"tensorboard", "wandb", "mlflow"}, optional
        As in `pretrain`; the curves of the run are continued.
    """
    from unheard.training import resume as training
    from unheard.training.mirrors.mirrored_run import mirrored_run

    with mirrored_run(out, _watched(tracked(report, log), out), resume=True) as (place, mirrored):
        run = training.resume(
            place, data=data, skip_bad_batches=skip_bad_batches, settings=settings, no_code=no_code, device=device,
            report=mirrored,
        )  # fmt: skip
    return relocated(run, place, out)


def tracked(report: Callbacks | None, log: TrackerName | None) -> Callbacks:
    """Return callbacks with a tracker, which is checked before the run begins."""
    from unheard.trackers import require_tracker
    from unheard.training.callbacks import Callbacks

    require_tracker(log)
    given = report or Callbacks()
    return given if log is None else replace(given, tracker=log)


def _watched(given: Callbacks, out: str | Path) -> Callbacks:
    """Return the callbacks of the caller, extended to write the figures and measurements of a finished run, and to
    read the table of a watched one. Messages name the run as the caller does.
    """
    from unheard.view.run import finish

    def finished(run: Path, store: Store) -> None:
        given.on_end(run, store)
        finish(run, store, lambda text: given.log(text.replace(str(run), named(out)) if address_of(out) else text))

    def table(plan: WatchPlan, recipe: Recipe) -> WatchedTable:
        from unheard.evaluation.probe.watched import WatchedLabels

        return WatchedLabels.read(plan, recipe, given.progress)

    return replace(given, on_end=finished, watch=table)


def training_settings(
    epochs: float | None, steps: int | None, batch_size: int | None, skip_bad_batches: int | None
) -> list[str]:
    """Return short options as settings; epochs or steps replaces both values of the recipe.

    Raises
    ------
    ConfigError
        When both are given.
    """
    if epochs is not None and steps is not None:
        raise ConfigError("--epochs and --steps exclude each other; give only one of them")
    found = [] if batch_size is None else [f"training.batch_size={batch_size}"]
    if epochs is not None or steps is not None:
        found += [
            f"training.{key}={'null' if value is None else value}"
            for key, value in (("epochs", epochs), ("steps", steps))
        ]
    return found + ([] if skip_bad_batches is None else [f"training.skip_bad_batches={skip_bad_batches}"])


def one_length(settings: Sequence[str]) -> list[str]:
    """Return settings in which epochs replace the steps of the recipe, and steps its epochs.

    Raises
    ------
    ConfigError
        When both have a value.
    """
    values = dict(setting.partition("=")[::2] for setting in settings)
    pair = ("training.epochs", "training.steps")
    given = [name for name in pair if values.get(name, "null") != "null"]
    if len(given) == 2:
        raise ConfigError("training.epochs and training.steps exclude each other; give only one of them")
    return [*settings, *(f"{name}=null" for name in pair if given and name not in values)]
