"""The verbs of the library, in the words of the command line."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from unheard.config import override
from unheard.embedding.bulk import BulkReport, embed_table
from unheard.embedding.embedder import Model, Options
from unheard.embedding.loading import load
from unheard.embedding.pooling import Pool
from unheard.errors import ConfigError
from unheard.finetuning.recipe import FinetuneRecipe
from unheard.outputs import refuse_existing
from unheard.progress import Track, silent
from unheard.recipes import find_recipe, recipe_file
from unheard.recipes.recipe import Recipe

if TYPE_CHECKING:
    from unheard.data.store import Store
    from unheard.evaluation.probe.report import ProbeReport
    from unheard.evaluation.reconstruction import ReconstructionError
    from unheard.finetuning.scores import FinetunedRun
    from unheard.training.callbacks import Callbacks, Run

__all__ = ["attention", "convert", "embed", "finetune", "load", "pretrain", "probe", "reconstruct", "report", "resume"]


def pretrain(
    data: str | Path,
    out: str | Path,
    recipe: str | Recipe = "msm-mae",
    settings: Iterable[str] = (),
    *,
    init: str | Path | None = None,
    device: str = "auto",
    overwrite: bool = False,
    report: Callbacks | None = None,
) -> Run:
    """Pre-train a recipe on a folder of audio, a CSV with a ``path`` column, a manifest or a packed corpus.

    Parameters
    ----------
    recipe : str or Recipe
        A name of `unheard recipes`, a ``.py`` file with a ``recipe()`` function, or a recipe itself.
    settings : iterable of str
        ``section.key=value``, such as ``training.steps=2000`` or ``model.size=tiny``.
    init : path, optional
        Start from the weights of a model or run.

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

    chosen = override(find_recipe(recipe) if isinstance(recipe, str) else recipe, settings)
    code = recipe_file(recipe) if isinstance(recipe, str) else None
    watched = _watched(report)
    return training.pretrain(data, out, chosen, code=code, init=init, device=device, overwrite=overwrite, report=watched)


def resume(
    out: str | Path, *, data: str | Path | None = None, skip_bad_batches: int | None = None, no_code: bool = False,
    device: str = "auto", report: Callbacks | None = None,
) -> Run:  # fmt: skip
    """Continue an interrupted run; its curve continues number by number. ``data``: where the corpus is now, when it has moved."""
    from unheard.training import pretrain as training

    return training.resume(out, data=data, skip_bad_batches=skip_bad_batches, no_code=no_code, device=device, report=_watched(report))


def embed(
    model: Model | str | Path,
    audio: str | Path | Sequence[str | Path],
    out: str | Path,
    options: Options | None = None,
    *,
    resume: bool = False,
    overwrite: bool = False,
    track: Track = silent,
) -> BulkReport:
    """Embed files and folders into a ``.parquet``, ``.npz`` or ``.csv`` table, one row a file; see `embed_table`."""
    sources = [audio] if isinstance(audio, str | Path) else audio
    return embed_table(_loaded(model), sources, out, options, resume=resume, overwrite=overwrite, track=track)


def probe(
    model: Model | str | Path,
    labels: str | Path,
    out: str | Path,
    *,
    seeds: Sequence[int] = (0, 1, 2),
    pool: Pool = "mean",
    layer: int | None = None,
    layers: Literal["all"] | None = None,
    overwrite: bool = False,
    track: Track = silent,
) -> ProbeReport:
    """How much of the labels in a CSV can be read off frozen embeddings, beside a random encoder and log-mel statistics.

    Writes ``report.html``, ``probe.json``, tables and figures into ``out``; see `Embedded` for the parameters.

    Raises
    ------
    DataError, AudioError
        When the table, or a sound it names, cannot be used.
    ConfigError
        When ``out`` exists and ``overwrite`` is false.
    """
    from unheard.view.probed import ProbeOptions, probe_table

    refuse_existing(out, overwrite)
    if Path(out).is_file():
        raise ConfigError(f"{out} is a file; -o names the folder that the report goes to")
    which = ProbeOptions(tuple(seeds), pool, layer, layers)
    return probe_table(_loaded(model), Path(labels), Path(out), which, track)


def finetune(
    model: str | Path,
    labels: str | Path,
    out: str | Path,
    recipe: str | FinetuneRecipe = "small",
    settings: Iterable[str] = (),
    *,
    corpus: str | Path | None = None, device: str = "auto", overwrite: bool = False, report: Callbacks | None = None,
) -> FinetunedRun:  # fmt: skip
    """Make a trained encoder name the classes of a CSV with the columns ``path`` and ``label``, and score it on its test clips.

    Parameters
    ----------
    recipe : str or FinetuneRecipe
        A name of `unheard recipes`, such as ``esc50``, or a recipe itself; ``settings`` change it as in `pretrain`.
    corpus : path, optional
        A folder of packed audio that several runs share; without it every run packs for itself.

    Examples
    --------
    >>> import unheard
    >>> unheard.finetune("runs/first", "labels.csv", "runs/clf").predict("clip.wav")  # doctest: +SKIP
    """
    from unheard.finetuning import run as training
    from unheard.finetuning.named_recipes import find_finetune_recipe
    from unheard.view.finetuned import finalise

    chosen = override(find_finetune_recipe(recipe) if isinstance(recipe, str) else recipe, settings)
    done = training.finetune(model, labels, out, chosen, corpus=corpus, device=device, overwrite=overwrite, report=report)
    return finalise(Path(out), done, report)


def resume_finetune(
    out: str | Path, *, skip_bad_batches: int | None = None, device: str = "auto", report: Callbacks | None = None
) -> FinetunedRun:
    """Continue an interrupted fine-tuning run; a finished one is scored again. ``skip_bad_batches`` replaces that of the run."""
    from unheard.finetuning import run as training
    from unheard.view.finetuned import finalise

    return finalise(Path(out), training.resume(out, skip_bad_batches=skip_bad_batches, device=device, report=report), report)


def convert(
    file: str | Path, out: str | Path, layout: str, name: str | None = None, settings: Iterable[str] = (), *,
    classes: str | Path | None = None, overwrite: bool = False,
) -> Model:  # fmt: skip
    """Turn a released checkpoint into a model folder; its licence is kept in the model card.

    Parameters
    ----------
    layout : {"msm-mae", "m2d"}
        Whose keys the file has.
    name : str, optional
        Released name with the input size, such as ``80x512p16x16_paper``; taken from the path when left out.
    classes : path, optional
        Names for the classes of a fine-tuned file: AudioSet's ``class_labels_indices.csv``, or a text file with a name a line.
    """
    from unheard.weights.checkpoint import is_model, save_model
    from unheard.weights.published import convert as read

    refuse_existing(out, overwrite)
    if Path(out).exists() and not is_model(Path(out)):
        raise ConfigError(f"{out} is no model folder, so --overwrite does not replace it; choose another -o, or remove it yourself")
    saved = read(file, layout, name, settings, classes)
    save_model(Path(out), saved.learner, saved.recipe, saved.statistics, saved.provenance, saved.classifier)
    return load(out)


def reconstruct(
    model: Model | str | Path,
    audio: str | Path,
    out: str | Path,
    *,
    mask: str = "random",
    mask_ratio: float | None = None,
    start: float = 0.0,
    seed: int = 0,
    wav: str | Path | None = None,
    overwrite: bool = False,
) -> ReconstructionError:
    """Draw what a model makes of the hidden patches of one window: input, reconstruction, error.

    Parameters
    ----------
    out : path
        ``.png``, ``.pdf`` or ``.svg``.
    mask : {"random", "vertical", "horizontal", "chessboard", "structured"}
        Which patches are hidden.
    mask_ratio : float, optional
        Share hidden by a random or structured mask; the trained one when left out.
    start : float
        Where the window begins, in seconds.
    wav : path, optional
        Also write the reconstruction as sound.

    Returns
    -------
    HiddenError
        The model's error on hidden patches, and that of simple fill-ins.
    """
    from unheard.audio.resynthesis import griffin_lim, write_wave
    from unheard.view.axes import save
    from unheard.view.reconstruction import figure
    from unheard.view.window import reconstruct_window, take_window

    for file in [out] if wav is None else [out, wav]:
        refuse_existing(file, overwrite)
    loaded = _loaded(model)
    shown = reconstruct_window(loaded, take_window(loaded, audio, start), mask, mask_ratio, seed)
    save(figure(shown), out)
    if wav is not None:
        write_wave(griffin_lim(shown.drawn, loaded.config.frontend), loaded.sample_rate, wav)
    return shown.error


def attention(
    model: Model | str | Path,
    audio: str | Path,
    out: str | Path,
    *,
    at: Sequence[tuple[int, int]] | None = None,
    start: float = 0.0,
    overwrite: bool = False,
) -> None:
    """Draw where reference patches look: attention of the last layer, averaged over heads.

    Parameters
    ----------
    out : path
        ``.png``, ``.pdf`` or ``.svg``.
    at : sequence of (frequency, time) patch indices, optional
        Reference patches; three loud ones when left out.
    """
    from unheard.view.attention import figure
    from unheard.view.axes import save
    from unheard.view.window import attention_window, take_window

    refuse_existing(out, overwrite)
    loaded = _loaded(model)
    window = take_window(loaded, audio, start)
    gazes = attention_window(loaded, window, at)
    save(figure(window.spec, gazes, loaded.grid.patch_size, window.scale, window.title), out)


def report(run: str | Path) -> Path:
    """Write ``report.html`` into the folder of a run or probe: one page with its numbers, figures and sounds; returns its path."""
    from unheard.view.probe_page import write_probe_page
    from unheard.view.report import write_report

    probed = (Path(run) / "probe.json").is_file()
    return write_probe_page(Path(run)) if probed else write_report(Path(run))


def _loaded(model: Model | str | Path) -> Model:
    return model if isinstance(model, Model) else load(model)


def _watched(report: Callbacks | None) -> Callbacks:
    """The caller's report, or a silent one; a finished run is measured and drawn either way."""
    from unheard.training.callbacks import Callbacks
    from unheard.view.run import finish

    given = report or Callbacks()

    def finished(run: Path, store: Store) -> None:
        given.finished(run, store)
        finish(run, store, given.say)

    return replace(given, finished=finished)
