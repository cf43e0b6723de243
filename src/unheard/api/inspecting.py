"""Figures and reports of models and runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from unheard.api.options import ReconstructOptions, documented
from unheard.embedding.embedding_model import EmbeddingModel
from unheard.embedding.loading import own
from unheard.outputs import refuse_existing

if TYPE_CHECKING:
    from unheard.evaluation.reconstruction import ReconstructionError


@documented(ReconstructOptions)
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
    """
    from unheard.audio.resynthesis import griffin_lim, write_wave
    from unheard.view.axes import save
    from unheard.view.reconstruction import figure
    from unheard.view.window import parse_painted, reconstruct_window, take_window

    chosen = mask if painted is None else parse_painted(painted)
    for file in [out] if wav is None else [out, wav]:
        refuse_existing(file, overwrite)
    opened = own(model)
    shown = reconstruct_window(opened, take_window(opened, audio, start), chosen, mask_ratio, seed)
    save(figure(shown), out)
    if wav is not None:
        write_wave(griffin_lim(shown.drawn, opened.config.frontend), opened.sample_rate, wav)
    return shown.error


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

    refuse_existing(out, overwrite)
    opened = own(model)
    window = take_window(opened, audio, start)
    maps = attention_window(opened, window, at)
    save(figure(window.spec, maps, opened.grid.patch_size, window.scale, window.title), out)


def report(run: str | Path) -> Path:
    """Write ``report.html`` with scores, figures and sounds into the folder of a run or probe. Return its path."""
    from unheard.view.probe_page import write_probe_page
    from unheard.view.report import write_report

    probed = (Path(run) / "probe.json").is_file()
    return write_probe_page(Path(run)) if probed else write_report(Path(run))
