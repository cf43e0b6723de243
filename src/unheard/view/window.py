"""Reconstruction and attention of one window of a sound, as input of the figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32
from torch import Tensor

from unheard.audio.frontend import MIN_STD
from unheard.audio.waveform import read
from unheard.embedding.embedder import Model
from unheard.errors import CheckpointError, ConfigError
from unheard.evaluation.reconstruction import predict, reconstruction_error
from unheard.model import masking
from unheard.model.patches import Grid
from unheard.view.attention import AttentionMap
from unheard.view.axes import SpectrogramAxes
from unheard.view.reconstruction import Reconstruction


@dataclass(frozen=True)
class Window:
    """A window of a sound.

    Parameters
    ----------
    spec : ndarray (F, T)
        Log-mel of the frames without padding.
    normal : Tensor (1, F, W)
        Normalised model input with zero padding.
    grid : Grid
        Grid of the patches without padding.
    scale : SpectrogramAxes
    title : str
        File and time.
    """

    spec: Float32[np.ndarray, "F T"]
    normal: Float[Tensor, "1 F W"]
    grid: Grid
    scale: SpectrogramAxes
    title: str


def take_window(model: Model, audio: str | Path, start: float = 0.0) -> Window:
    """Read one window of a sound, from ``start`` seconds on.

    Raises
    ------
    AudioError
        When the file cannot be read, or is shorter than ``start``.
    """
    wav, _ = read(audio, model.sample_rate, start=start, seconds=window_seconds(model))
    return window_of(model, model.frontend.spectrogram_cpu(wav), Path(audio).name, start)


def window_seconds(model: Model) -> float:
    """Return the seconds of a sound that one window needs."""
    framing = model.frontend.framing
    return (model.grid.frames * framing.hop_size + framing.frame_size) / framing.sample_rate


def window_of(model: Model, spec: Float32[np.ndarray, "T F"], name: str, start: float = 0.0) -> Window:
    """Return the first window of a log-mel spectrogram that starts at ``start`` seconds of ``name``."""
    full, frontend = model.grid, model.config.frontend
    spec = spec[: full.frames]
    normal = np.zeros((1, full.frames, full.n_mels), np.float32)
    normal[0, : len(spec)] = model.statistics.normalise_frames(spec)
    grid = Grid(full.freq, full.real_columns(len(spec)), full.patch_size, full.order)
    title = f"{name}, {start:.1f} to {start + len(spec) * frontend.hop_size / frontend.sample_rate:.1f} s"
    return Window(spec.T, torch.from_numpy(normal).transpose(1, 2), grid, SpectrogramAxes.of(frontend, start), title)


Painted = Bool[np.ndarray, "f t"]
"""A mask of one's own: True on masked patches, the lowest frequency first."""


def parse_painted(text: str) -> Painted:
    """Return a mask from rows of ``x`` (masked) and ``.`` (visible) that are separated by ``/``, the lowest row first.

    Raises
    ------
    ConfigError
        When the text holds another character, or its rows differ in length.
    """
    rows = text.strip().split("/")
    if not rows[0] or any(len(row) != len(rows[0]) or set(row) - {"x", "."} for row in rows):
        raise ConfigError(
            f"a painted mask is rows of x and . of equal length, separated by /, such as xx../...x; got {text!r:.80}"
        )
    return np.array([[letter == "x" for letter in row] for row in rows])


def painted_text(hidden: Painted) -> str:
    """Return a mask as text that `parse_painted` reads."""
    return "/".join("".join("x" if patch else "." for patch in row) for row in hidden)


def reconstruct_window(
    model: Model, window: Window, mask: str | Painted = "random", mask_ratio: float | None = None, seed: int = 0
) -> Reconstruction:
    """Mask patches of a window and reconstruct them.

    Parameters
    ----------
    mask : {"random", "vertical", "horizontal", "chessboard", "structured"}, or ndarray (f, t)
        Pattern of the masked patches; or True on the patches to mask, in the grid of the window.
    mask_ratio : float, optional
        Fraction of masked patches; default: that of the training. Rounded to whole patches, see `masking.named_mask`.

    Raises
    ------
    CheckpointError
        When the model cannot reconstruct.
    ConfigError
        When a mask of one's own has another shape than the grid of the window, or hides no patch or all.
    """
    refuse_reconstruction(model)
    full, frames = model.grid, window.spec.shape[1]
    tokens, kind = _hidden_tokens(model, window, mask, mask_ratio, seed)
    flags = torch.ones(1, full.num_patches, dtype=torch.bool)  # padding stays masked
    flags[:, full.crop_time(window.grid.time)] = tokens
    chosen, normal = masking.mask_from_flags(flags), window.normal.to(model.device)
    drawn_mask = masking.Mask(chosen.keep.to(model.device), chosen.hide.to(model.device))
    drawn = predict(model.learner, normal, drawn_mask)[0, :, :frames].cpu().numpy()
    hidden = window.grid.to_timesteps(tokens[..., None].float())[0].T.bool().numpy()
    statistics = model.statistics.with_min_std(MIN_STD)  # what normalises the window
    mean, std = (np.asarray(values, np.float32)[:, None] for values in (statistics.mean, statistics.std))
    back = np.where(on_frames(hidden, full.patch_size, frames), drawn * std + mean, window.spec).astype(np.float32)
    error = reconstruction_error(model.learner, normal, drawn_mask, frames)
    return Reconstruction(window.spec, back, hidden, full.patch_size, window.scale, f"{window.title}; {kind}", error)


def on_frames(hidden: Painted, patch_size: tuple[int, int], frames: int) -> Bool[np.ndarray, "F T"]:
    """Return a mask of patches as one of spectrogram values."""
    return np.repeat(np.repeat(hidden, patch_size[0], 0), patch_size[1], 1)[:, :frames]


def refuse_reconstruction(model: Model) -> None:
    """Refuse a model that cannot reconstruct.

    Raises
    ------
    CheckpointError
        When its front end scales each window by its own extremes, or its decoder is not trained.
    """
    if model.statistics.top_db is not None:
        raise CheckpointError(
            f"the front end {model.config.frontend.kind} scales each window by its own extremes, which masked patches"
            " do not show; reconstruction needs another front end"
        )
    if model.provenance.encoder_only:
        raise CheckpointError("this model has no trained decoder, so it cannot reconstruct; use a pre-training run")


def _hidden_tokens(
    model: Model, window: Window, mask: str | Painted, mask_ratio: float | None, seed: int
) -> tuple[Bool[Tensor, "1 n"], str]:
    """Return True on the masked tokens of a window, and the name of the mask."""
    grid = window.grid
    if isinstance(mask, str):
        ratio = model.config.model.mask_ratio if mask_ratio is None else mask_ratio
        noise = torch.rand(1, grid.num_patches, generator=torch.Generator().manual_seed(seed))
        kind = f"{mask} mask, ratio {ratio:g}" if mask in ("random", "structured") else f"{mask} mask"
        return masking.named_mask(mask, grid, noise, ratio).hidden(), kind
    if mask.shape != (grid.freq, grid.time):
        raise ConfigError(
            f"the painted mask has {mask.shape[0]} x {mask.shape[1]} patches, the window {grid.freq} x {grid.time}"
            " (frequency x time); give one row for each frequency"
        )
    if mask.all() or not mask.any():
        raise ConfigError("a painted mask must hide at least one patch and leave at least one visible")
    return torch.from_numpy(mask)[grid.rows(), grid.columns()][None], "painted mask"


def attention_window(
    model: Model,
    window: Window,
    at: Sequence[tuple[int, int]] | None = None,
    layer: int | None = None,
    head: int | None = None,
) -> list[AttentionMap]:
    """Return the attention of chosen patches to all patches.

    Parameters
    ----------
    at : sequence of (frequency, time) patch indices, optional
        Reference patches; default: three loud ones at different times.
    layer, head : int, optional
        Counted from 1. Default: the last layer, and the mean over heads.

    Raises
    ------
    ConfigError
        When a patch is outside the window, or there is no such layer or head.
    """
    grid, full = window.grid, model.grid
    _refuse_number("layer", layer, model.depth)
    keep = full.crop_time(grid.time, model.device)[None]
    with torch.inference_mode():
        every = model.encoder.attention(full.patchify(window.normal.to(model.device)), keep, layer)[0].cpu()
    _refuse_number("head", head, len(every))
    weights = every.mean(dim=0) if head is None else every[head - 1]
    maps = []
    for row, column in loud_patches(window) if at is None else at:
        if not (0 <= row < grid.freq and 0 <= column < grid.time):
            raise ConfigError(
                f"patch {row},{column} is outside the window; frequency must be 0 to {grid.freq - 1}, time 0 to"
                f" {grid.time - 1}"
            )
        token = int(((grid.rows() == row) & (grid.columns() == column)).nonzero())
        map_ = grid.to_timesteps(weights[token][None, :, None])[0].T
        maps.append(AttentionMap(row, column, map_.numpy()))
    return maps


def _refuse_number(name: str, value: int | None, most: int) -> None:
    if value is not None and not 1 <= value <= most:
        raise ConfigError(f"{name} must be 1 to {most}; got {value}")


def loud_patches(window: Window, count: int = 3) -> list[tuple[int, int]]:
    """Return the loudest patch of each of ``count`` parts of the window, relative to the mean of its band."""
    pf, pt = window.grid.patch_size
    above = window.spec - window.spec.mean(axis=1, keepdims=True)
    chosen = []
    for columns in np.array_split(np.arange(window.grid.time), min(count, window.grid.time)):
        cells = {
            (row, int(column)): above[row * pf : (row + 1) * pf, column * pt : (column + 1) * pt].mean()
            for row in range(window.grid.freq)
            for column in columns
        }
        chosen.append(max(cells, key=lambda cell: cells[cell]))
    return chosen
