"""Fine-tuning: a new run, and the continuation of an interrupted one."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from unheard.api.options import FinetuneOptions, documented
from unheard.api.pretraining import one_length, tracked, training_settings
from unheard.config import override
from unheard.finetuning.recipe import FinetuneRecipe
from unheard.remote.writing import relocated

if TYPE_CHECKING:
    from unheard.finetuning.scores import FinetunedRun
    from unheard.trackers import TrackerName
    from unheard.training.callbacks import Callbacks


@documented(FinetuneOptions)
def finetune(
    model: str | Path,
    labels: str | Path,
    out: str | Path,
    recipe: str | FinetuneRecipe = "small",
    settings: Iterable[str] = (),
    *,
    epochs: float | None = None,
    steps: int | None = None,
    batch_size: int | None = None,
    skip_bad_batches: int | None = None,
    corpus: str | Path | None = None,
    log: TrackerName | None = None,
    device: str = "auto",
    overwrite: bool = False,
    report: Callbacks | None = None,
) -> FinetunedRun:
    """Fine-tune a model on a CSV with the columns ``path`` and ``label``, and score it on the test clips.

    Parameters
    ----------
    model : path or str
        A run, a model folder or a built-in name.
    out : path
        Run folder. One at an address is written to a local folder that is mirrored at every checkpoint.
    recipe : str or FinetuneRecipe
        Also a recipe itself.
    settings : iterable of str
        Changes of the recipe, as in `pretrain`; they replace the options.
    device : {"auto", "cpu", "cuda", "mps"}
    overwrite : bool
        Replace an existing run.
    report : Callbacks, optional
        Functions that the run calls.

    Examples
    --------
    >>> import unheard
    >>> unheard.finetune("runs/first", "labels.csv", "runs/clf").predict("clip.wav")  # doctest: +SKIP
    """
    from unheard.finetuning import run as training
    from unheard.finetuning.named_recipes import find_finetune_recipe
    from unheard.view.finetuned import finalise

    settings = one_length([*training_settings(epochs, steps, batch_size, skip_bad_batches), *settings])
    chosen = override(find_finetune_recipe(recipe) if isinstance(recipe, str) else recipe, settings)
    storage = training.Storage(overwrite, corpus)
    with _mirrored(out, tracked(report, log), overwrite=overwrite) as (place, mirrored):
        done = training.finetune(model, labels, place, chosen, storage=storage, device=device, report=mirrored)
        run = finalise(place, done, mirrored, device)
    return relocated(run, place, out)


def resume_finetune(
    out: str | Path,
    *,
    skip_bad_batches: int | None = None,
    log: TrackerName | None = None,
    device: str = "auto",
    report: Callbacks | None = None,
) -> FinetunedRun:
    """Continue an interrupted fine-tuning run; a finished one is scored again.

    Parameters
    ----------
    skip_bad_batches : int, optional
        New value of ``training.skip_bad_batches``.
    log : {"tensorboard", "wandb", "mlflow"}, optional
        As in `finetune`; the curves of the run are continued.
    """
    from unheard.finetuning import run as training
    from unheard.view.finetuned import finalise

    with _mirrored(out, tracked(report, log), resume=True) as (place, mirrored):
        done = training.resume(place, skip_bad_batches=skip_bad_batches, device=device, report=mirrored)
        run = finalise(place, done, mirrored, device)
    return relocated(run, place, out)


def _mirrored(
    out: str | Path, report: Callbacks, *, resume: bool = False, overwrite: bool = False
) -> AbstractContextManager[tuple[Path, Callbacks]]:
    """Return the context in which a run is written, see `mirrored_run`."""
    from unheard.finetuning.session import finished, read_session
    from unheard.training.mirrors.mirrored_run import mirrored_run

    def trained(run: Path) -> bool:
        return finished(run, read_session(run))

    return mirrored_run(out, report, resume=resume, overwrite=overwrite, verb="finetune", finished=trained)
