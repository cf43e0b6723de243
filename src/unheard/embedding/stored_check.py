"""The stored check of a model folder: one second of sound, and the frame embeddings that the model computed for it.

`unheard.embedding.loading.load` computes them again and refuses a model that differs: weights of another model, changed
statistics, or a front end that behaves differently on this machine. It takes about 30 ms of a CPU core at size tiny.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from unheard.embedding.embedder import Model
from unheard.errors import CheckpointError

TOLERANCE = 0.01  # largest relative difference, L2; our choice: float32 on other processors differs by less than 0.001


def stored_check(model: Model) -> dict[str, Tensor]:
    """Return the sound ``wav`` (S,) and its embedding ``frames`` (T, D'), to store in a model folder."""
    wav = example_sound(model.sample_rate)
    frames = model.embed((wav, model.sample_rate)).frames
    return {"wav": torch.from_numpy(wav), "frames": torch.from_numpy(frames)}


def verify_check(model: Model, check: dict[str, Tensor], source: str) -> None:
    """Compute the embedding of a stored check again.

    Raises
    ------
    CheckpointError
        When the result differs by more than `TOLERANCE`, or the check is incomplete.
    """
    if not {"wav", "frames"} <= check.keys():
        raise CheckpointError(f"the stored check of {source} lacks its sound or its embedding; copy the model again")
    stored = check["frames"].numpy()
    frames = model.embed((check["wav"].numpy(), model.sample_rate)).frames
    difference = float("inf")
    if frames.shape == stored.shape:
        difference = float(np.linalg.norm(frames - stored) / max(float(np.linalg.norm(stored)), 1e-12))
    if not difference <= TOLERANCE:
        raise CheckpointError(
            f"{source} does not reproduce its stored embedding (relative difference {difference:.3g}, at most"
            f" {TOLERANCE:g} is accepted); its files are of different models, or this installation computes it wrongly:"
            " copy the model again, or install unheard again"
        )


def example_sound(sample_rate: int) -> Float32[np.ndarray, " S"]:
    """Return one second of sound: a harmonic tone, a rising chirp and a decaying burst of noise, always the same."""
    times = np.arange(sample_rate) / sample_rate
    tone = sum(np.sin(2 * np.pi * 220 * k * times) / k for k in range(1, 6))
    chirp = np.sin(2 * np.pi * (300 * times + 1200 * times**2))
    noise = np.random.default_rng(0).standard_normal(sample_rate) * np.exp(-6 * np.abs(times - 0.5))
    wav: Float32[np.ndarray, " S"] = (0.1 * tone + 0.2 * chirp + 0.1 * noise).astype(np.float32)
    return wav
