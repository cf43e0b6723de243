"""Fine-tuning: a new run, and the continuation of an interrupted one."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from unheard.config import override
from unheard.finetuning.recipe import FinetuneRecipe

if TYPE_CHECKING:
    from unheard.finetuning.scores import FinetunedRun
    from unheard.training.callbacks import Callbacks


def finetune(
    model: str | Path,
    labels: str | Path,
    out: str | Path,
    recipe: str | FinetuneRecipe = "small",
    settings: Iterable[str] = (),
    *,
    corpus: str | Path | None = None, device: str = "auto", overwrite: bool = False, report: Callbacks | None = None,
) -> FinetunedRun:  # fmt: skip
    """Fine-tune a model on a CSV with the columns ``path`` and ``label``, and score it on the test clips.

    Parameters
    ----------
    recipe : str or FinetuneRecipe
        A name listed by ``unheard recipes --finetune``, such as ``esc50``, or a recipe.
    settings : iterable of str
        Changes of the recipe, as in `pretrain`.
    corpus : path, optional
        Folder of packed audio shared by several runs; default: every run packs its own audio.

    Examples
    --------
    >>> import unheard
    >>> unheard.finetune("runs/first", "labels.csv", "runs/clf").predict("clip.wav")  # doctest: +SKIP
    """
    from unheard.finetuning import run as training
    from unheard.finetuning.named_recipes import find_finetune_recipe
    from unheard.view.finetuned import finalise

    chosen = override(find_finetune_recipe(recipe) if isinstance(recipe, str) else recipe, settings)
    storage = training.Storage(overwrite, corpus)
    done = training.finetune(model, labels, out, chosen, storage=storage, device=device, report=report)
    return finalise(Path(out), done, report, device)


def resume_finetune(
    out: str | Path, *, skip_bad_batches: int | None = None, device: str = "auto", report: Callbacks | None = None
) -> FinetunedRun:
    """Continue an interrupted fine-tuning run; a finished one is scored again.

    Parameters
    ----------
    skip_bad_batches : int, optional
        New value of ``training.skip_bad_batches``.
    """
    from unheard.finetuning import run as training
    from unheard.view.finetuned import finalise

    done = training.resume(out, skip_bad_batches=skip_bad_batches, device=device, report=report)
    return finalise(Path(out), done, report, device)
