"""The verbs of the library, in the words of the command line."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from unheard.config import override
from unheard.embedding.bulk import BulkReport, embed_table
from unheard.embedding.embedder import Model, Options
from unheard.embedding.loading import load
from unheard.embedding.pooling import Pool
from unheard.errors import ConfigError
from unheard.progress import Track, silent
from unheard.recipes import find_recipe
from unheard.recipes.recipe import Recipe

if TYPE_CHECKING:
    from unheard.evaluation.probe import ProbeReport
    from unheard.training.run import Report, Run

__all__ = ["convert", "embed", "load", "pretrain", "probe", "resume"]


def pretrain(
    data: str | Path,
    out: str | Path,
    recipe: str | Recipe = "msm-mae",
    settings: Iterable[str] = (),
    *,
    init: str | Path | None = None,
    device: str = "auto",
    overwrite: bool = False,
    report: Report | None = None,
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

    chosen = find_recipe(recipe) if isinstance(recipe, str) else recipe
    return training.pretrain(data, out, override(chosen, settings), init=init, device=device, overwrite=overwrite, report=_watched(report))


def resume(out: str | Path, *, device: str = "auto", report: Report | None = None) -> Run:
    """Go on with an interrupted run from its latest checkpoint; its curve continues number by number."""
    from unheard.training import pretrain as training

    return training.resume(out, device=device, report=_watched(report))


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
    overwrite: bool = False,
    track: Track = silent,
) -> ProbeReport:
    """How much of the labels in a CSV can be read off frozen embeddings, beside a random encoder and log-mel statistics.

    Writes ``probe.json``, ``probe.md`` and ``probe.png`` into ``out``.

    Raises
    ------
    DataError
        When the table cannot be used.
    ConfigError
        When ``out`` exists and ``overwrite`` is false.
    """
    from unheard.data.label_table import read_labels
    from unheard.evaluation.probe import Probe
    from unheard.evaluation.probe import probe as score
    from unheard.evaluation.probe_files import write
    from unheard.evaluation.probing import vectors

    if Path(out).exists() and not overwrite:
        raise ConfigError(f"{out} exists; choose another -o, or replace it with --overwrite")
    table = read_labels(labels)
    found = vectors(_loaded(model), table, seeds, pool, layer, track)
    report = score(found, table, Probe(seeds=tuple(seeds)), track)
    write(report, out)
    return report


def convert(
    file: str | Path, out: str | Path, layout: str, name: str | None = None, settings: Iterable[str] = (), *, overwrite: bool = False
) -> Model:
    """Turn a released checkpoint into a model folder; its licence is kept in the model card.

    Parameters
    ----------
    layout : {"msm-mae", "m2d"}
        Whose keys the file has.
    name : str, optional
        Released name with the input size, such as ``80x512p16x16_paper``; taken from the path when left out.
    """
    from unheard.weights.checkpoint import save_model
    from unheard.weights.published import convert as read

    if Path(out).exists() and not overwrite:
        raise ConfigError(f"{out} exists; choose another -o, or replace it with --overwrite")
    saved = read(file, layout, name, settings)
    save_model(Path(out), saved.learner, saved.recipe, saved.statistics, saved.provenance)
    return load(out)


def _loaded(model: Model | str | Path) -> Model:
    return model if isinstance(model, Model) else load(model)


def _watched(report: Report | None) -> Report:
    """The caller's report, or a silent one; figures are drawn at the end either way."""
    from unheard.training.run import Report

    return replace(report or Report())
