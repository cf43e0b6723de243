"""Reconstruction of a whole recording: its windows are masked and predicted one after the other, and joined."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float32

from unheard.audio.resynthesis import griffin_lim, write_wave
from unheard.audio.waveform import read
from unheard.embedding.embedder import Model
from unheard.view.reconstruction import Reconstruction
from unheard.view.window import Painted, on_frames, reconstruct_window, window_of

MOST_SECONDS = 120.0  # longest part of a recording that becomes sound, about a minute of computing; our choice

Kind = Literal["original", "masked", "reconstructed"]
KINDS: tuple[Kind, ...] = ("original", "masked", "reconstructed")


@dataclass(frozen=True)
class MaskPlan:
    """Masks of the windows of a recording.

    Parameters
    ----------
    mask : {"random", "vertical", "horizontal", "chessboard", "structured"}, or ndarray (f, t)
        See `reconstruct_window`. A painted mask is used for every window.
    mask_ratio : float, optional
    seed : int
        Seed of the mask of the first window; each further window adds one.
    """

    mask: str | Painted = "random"
    mask_ratio: float | None = None
    seed: int = 0


@dataclass(frozen=True)
class WholeReconstruction:
    """Log-mel spectrograms of a recording with equal shape (F, T).

    Parameters
    ----------
    original : ndarray (F, T)
    masked : ndarray (F, T)
        Masked patches have the lowest value of the recording.
    reconstructed : ndarray (F, T)
        Masked patches are predicted.
    """

    original: Float32[np.ndarray, "F T"]
    masked: Float32[np.ndarray, "F T"]
    reconstructed: Float32[np.ndarray, "F T"]

    def spectrogram(self, kind: Kind) -> Float32[np.ndarray, "F T"]:
        """Return one of the three spectrograms."""
        chosen: Float32[np.ndarray, "F T"] = getattr(self, kind)
        return chosen


def reconstruct_whole(
    model: Model, spec: Float32[np.ndarray, "T F"], plan: MaskPlan = MaskPlan()
) -> WholeReconstruction:
    """Mask and reconstruct every window of a spectrogram, and join them.

    The last window ends with the recording. Only its frames that no earlier window has are used.

    Raises
    ------
    CheckpointError, ConfigError
        As `reconstruct_window`.
    """
    lowest, masked, drawn = np.float32(spec.min()), [], []
    for new, shown in _windows(model, spec, plan):
        hidden = on_frames(shown.hidden, shown.patch_size, shown.spec.shape[1])
        masked.append(np.where(hidden, lowest, shown.spec)[:, -new:])
        drawn.append(shown.drawn[:, -new:])
    return WholeReconstruction(
        np.ascontiguousarray(spec.T, np.float32), np.concatenate(masked, axis=1), np.concatenate(drawn, axis=1)
    )


def _windows(model: Model, spec: Float32[np.ndarray, "T F"], plan: MaskPlan) -> Iterator[tuple[int, Reconstruction]]:
    """Yield each window, and the number of its last frames that are new."""
    width, total = model.grid.frames, len(spec)
    for number, first in enumerate(range(0, total, width)):
        start = max(0, min(first, total - width))
        window = window_of(model, spec[start : start + width], "")
        shown = reconstruct_window(model, window, plan.mask, plan.mask_ratio, plan.seed + number)
        yield min(width, total - first), shown


def write_sounds(
    model: Model, audio: str | Path, folder: str | Path, plan: MaskPlan = MaskPlan(), start: float = 0.0
) -> list[Path]:
    """Write ``original.wav``, ``masked.wav`` and ``reconstructed.wav`` of a recording into a folder.

    All three are converted from spectrograms by the same vocoder (Griffin-Lim), so that only masked patches differ.

    Parameters
    ----------
    start : float
        Second at which the part begins; at most 120 seconds are converted.

    Raises
    ------
    AudioError
        When the recording cannot be read or ends before ``start``, or a file cannot be written.
    CheckpointError, ConfigError
        When the model cannot reconstruct, or its front end cannot be converted back to sound.
    """
    wav, _ = read(audio, model.sample_rate, start=start, seconds=MOST_SECONDS)
    return write_kinds(model, model.frontend.spectrogram_cpu(wav), Path(folder), "", plan)


def write_kinds(
    model: Model, spec: Float32[np.ndarray, "T F"], folder: Path, prefix: str, plan: MaskPlan = MaskPlan()
) -> list[Path]:
    """Write the three sounds of a spectrogram as ``PREFIXoriginal.wav`` and so on. Errors as in `write_sounds`."""
    whole, files = reconstruct_whole(model, spec, plan), []
    for kind in KINDS:
        files.append(folder / f"{prefix}{kind}.wav")
        write_wave(griffin_lim(whole.spectrogram(kind), model.config.frontend), model.sample_rate, files[-1])
    return files
