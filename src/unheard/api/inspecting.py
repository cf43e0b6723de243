"""Figures and reports of models and runs."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from unheard.addresses import address_of
from unheard.api.options import FigureOptions, ReconstructOptions, documented
from unheard.embedding.embedding_model import EmbeddingModel
from unheard.embedding.loading import own
from unheard.errors import ConfigError
from unheard.outputs import refuse_existing
from unheard.progress import Track, silent
from unheard.remote.mirror import Mirror
from unheard.remote.outputs import uploaded
from unheard.remote.writing import naming

if TYPE_CHECKING:
    from unheard.evaluation.reconstruction import ReconstructionError
    from unheard.evaluation.report_card.result import ReportCard
    from unheard.view.runs.comparison import Comparison
    from unheard.view.runs.listing import ListedRun

NOT_OF_REPORT = ("checkpoints", "corpus", "tensorboard")
"""Folders of a run that a report does not need."""


@documented(ReconstructOptions)
@uploaded("out", "wav", "sounds")
def reconstruct(
    model: EmbeddingModel | str | Path,
    audio: str | Path,
    out: str | Path,
    *,
    mask: str = "random",
    mask_ratio: float | None = None,
    start: float = 0.0,
    seed: int = 0,
    painted: str | None = None,
    wav: str | Path | None = None,
    sounds: str | Path | None = None,
    overwrite: bool = False,
) -> ReconstructionError:
    """Plot the reconstruction of the masked patches of one window: input, reconstruction, error.

    Parameters
    ----------
    out : path
        ``.png``, ``.pdf`` or ``.svg``.

    Returns
    -------
    ReconstructionError
        The errors of the model and of the interpolation baselines on masked patches.

    Raises
    ------
    ConfigError
        When an output exists, or options exclude each other.
    """
    from unheard.audio.resynthesis import griffin_lim, write_wave
    from unheard.view.axes import save
    from unheard.view.reconstruction import figure
    from unheard.view.whole import MaskPlan, write_sounds
    from unheard.view.window import parse_painted, reconstruct_window, take_window

    if mask_ratio is not None and (painted is not None or mask not in ("random", "structured")):
        raise ConfigError("the mask ratio has an effect on random and structured masks only; leave it out")
    if painted is not None and mask != "random":
        raise ConfigError(f"the mask is either painted or {mask}; leave one of them out")
    chosen = mask if painted is None else parse_painted(painted)
    for file in (out, wav):
        if file is not None:
            refuse_existing(file, overwrite, kind="file")
    if sounds is not None:
        refuse_existing(sounds, overwrite, kind="folder")
    opened = own(model)
    shown = reconstruct_window(opened, take_window(opened, audio, start), chosen, mask_ratio, seed)
    save(figure(shown), out)
    if wav is not None:
        write_wave(griffin_lim(shown.drawn, opened.config.frontend), opened.sample_rate, wav)
    if sounds is not None:
        write_sounds(opened, audio, sounds, MaskPlan(chosen, mask_ratio, seed), start)
    return shown.error


@uploaded("out")
def attention(
    model: EmbeddingModel | str | Path,
    audio: str | Path,
    out: str | Path,
    *,
    at: Sequence[tuple[int, int]] | None = None,
    start: float = 0.0,
    overwrite: bool = False,
) -> None:
    """Plot the attention of the last layer for reference patches, averaged over heads.

    Parameters
    ----------
    out : path
        ``.png``, ``.pdf`` or ``.svg``.
    at : sequence of (frequency, time) patch indices, optional
        Reference patches; default: three loud ones.
    """
    from unheard.view.attention import figure
    from unheard.view.axes import save
    from unheard.view.window import attention_window, take_window

    refuse_existing(out, overwrite, kind="file")
    opened = own(model)
    window = take_window(opened, audio, start)
    maps = attention_window(opened, window, at)
    save(figure(window.spec, maps, opened.grid.patch_size, window.scale, window.title), out)


@documented(FigureOptions)
@uploaded("out")
def figure(
    kind: str,
    models: EmbeddingModel | str | Path | Sequence[EmbeddingModel | str | Path],
    audio: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    mask_ratio: float | None = None,
    seed: int = 0,
    start: float = 0.0,
    at: Sequence[tuple[int, int]] | None = None,
    device: str = "auto",
    overwrite: bool = False,
) -> None:
    """Plot a common figure of papers on masked spectrogram modelling, for any models and sounds.

    Parameters
    ----------
    kind : {"masks", "ratios", "strips", "attention", "durations", "patches"}
        Three random masks; mask ratios from 0.40 to 0.99; vertical, horizontal and chessboard masks; attention of two
        reference patches; one sound over durations; one sound over patch sizes.
    models : one or several
        Loaded models, or what `unheard.load` accepts.
    audio : path, or sequence of paths
    out : path
        ``.png``, ``.pdf`` or ``.svg``.
    at : sequence of (frequency, time) patch indices, optional
        Reference patches of attention; default: two loud ones of each sound.

    Raises
    ------
    ConfigError
        When an option does not belong to the kind, or the output exists.
    """
    from unheard.embedding.loading import loaded
    from unheard.view.axes import save
    from unheard.view.figures.kinds import FigurePlan, draw_figure

    refuse_existing(out, overwrite, kind="file")
    several = [models] if isinstance(models, str | Path | EmbeddingModel) else list(models)
    sounds = [audio] if isinstance(audio, str | Path) else list(audio)
    opened = [own(loaded(each, device)) for each in several]
    plan = FigurePlan(mask_ratio, seed, start, at)
    save(draw_figure(kind, opened, [Path(each) for each in sounds], plan), out)


def report(run: str | Path) -> Path:
    """Write ``report.html`` with scores, figures and sounds into the folder of a run or probe. Return its path.

    A folder at an address is copied first, without ``checkpoints/``; checkpoints of the models of a run of several are
    copied. The page and its new figures are uploaded.
    """
    address = address_of(run).rstrip("/")
    if not address:
        return _write_page(Path(run))
    with tempfile.TemporaryDirectory() as place:
        copy = Path(place) / address.rpartition("/")[2]
        mirror = Mirror(copy, address, local=NOT_OF_REPORT)
        mirror.fetch()
        with naming(copy, address):
            page = _write_page(copy)
        mirror.update(delete_gone=False)
    return Path(address) / page.relative_to(copy)


def _write_page(folder: Path) -> Path:
    from unheard.view.probe_page import write_probe_page
    from unheard.view.report import write_report

    return write_probe_page(folder) if (folder / "probe.json").is_file() else write_report(folder)


def runs(root: str | Path = ".") -> tuple[list[ListedRun], list[str]]:
    """List the runs in a folder and below it, latest first. Return them, and a reason for each that cannot be read.

    The folder may be at an address. Its runs have no time of the last change, and are in the order of their paths. The
    state of one that is not finished is "unknown".

    Raises
    ------
    DataError
        When the folder does not exist.
    RemoteError
        When an address cannot be read.
    """
    from unheard.view.runs.listing import list_runs

    return list_runs(root)


@uploaded("out")
def compare(
    run: str | Path,
    other: str | Path,
    out: str | Path,
    *,
    audio: Sequence[str | Path] = (),
    device: str = "auto",
    overwrite: bool = False,
) -> Comparison:
    """Compare two runs, and write a page with settings that differ, loss curves, scores and reconstructions.

    Parameters
    ----------
    run, other : path
        Run folders, also at addresses.
    out : path
        ``.html``.
    audio : sequence of paths
        Sounds that both runs reconstruct. Default: three of the corpus of the first run, if it is a folder.

    Returns
    -------
    Comparison
        ``settings`` that differ, ``scores`` with paired differences, and ``notes``.
    """
    from unheard.view.runs.comparison import compare_runs

    return compare_runs(run, other, Path(out), [Path(each) for each in audio], device, overwrite)


@uploaded("out")
def doctor(
    model: EmbeddingModel | str | Path,
    out: str | Path | None = None,
    *,
    device: str = "auto",
    overwrite: bool = False,
    track: Track = silent,
) -> ReportCard:
    """Check an encoder of any kind with generated sounds: its vectors, times, input, speed and memory.

    Parameters
    ----------
    model : model, path or str
        What `unheard.load` accepts, or ``xares:MODULE``.
    out : path, optional
        ``.html``, the page of the report card.
    device : str
        Where an encoder that is given by name computes.
    track : Track
        Progress display.

    Returns
    -------
    ReportCard
        ``passed``, and ``checks`` with state, number and meaning. An error of the encoder in one check is the failure
        of that check.

    Raises
    ------
    ConfigError
        When the encoder cannot be loaded, or the output exists.
    """
    from unheard.evaluation.report_card.card import report_card
    from unheard.view.report_card_page import write_report_card

    if out is not None:
        refuse_existing(out, overwrite, kind="file")
    card = report_card(model, device, track)
    if out is not None:
        write_report_card(card, Path(out))
    return card
