"""An encoder of any kind, opened for its checks: waveforms in, NumPy arrays out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Float32

from unheard.audio.waveform import read
from unheard.devices import torch_device
from unheard.embedding.embedding_model import EmbeddingModel
from unheard.embedding.job import Sound
from unheard.embedding.loading import loaded, name_of
from unheard.errors import ConfigError
from unheard.evaluation.encoders.choose import Encoder, encoder
from unheard.teachers.hear_module import check_shape


class Subject:
    """An encoder under test.

    Parameters
    ----------
    name : str
        As the user wrote it.
    encoder : Encoder
    model : EmbeddingModel, optional
        The same encoder, if it accepts clips of different lengths in one call.
    """

    def __init__(self, name: str, encoder: Encoder, model: EmbeddingModel | None = None) -> None:
        self.name, self.encoder, self.model = name, encoder, model
        self.rate = encoder.sample_rate

    def vectors(self, wavs: Sequence[Float32[np.ndarray, " S"]]) -> Float[np.ndarray, "n D"]:
        """Return the scene vectors of waveforms of one length, encoded in one batch.

        Raises
        ------
        DataError
            When the encoder returns another shape than one vector for each waveform.
        """
        found = self.encoder.scenes(torch.from_numpy(np.stack(wavs)))
        check_shape(found, len(wavs), False, f"scene vectors of {self.name}")
        return np.asarray(found.float().cpu())

    def vector(self, wav: Float32[np.ndarray, " S"]) -> Float[np.ndarray, " D"]:
        """Return the scene vector of one waveform, encoded alone."""
        (vector,) = self.vectors([wav])
        return np.asarray(vector)

    def frames(
        self, wavs: Sequence[Float32[np.ndarray, " S"]]
    ) -> tuple[Float[np.ndarray, "n t D"], Float[np.ndarray, "n t"]]:
        """Return the vectors over time of waveforms of one length, and their times in seconds.

        Raises
        ------
        DataError
            When the encoder returns wrong shapes.
        """
        found, times = self.encoder.timestamps(torch.from_numpy(np.stack(wavs)))
        what = f"vectors over time of {self.name}"
        check_shape(found, len(wavs), True, what)
        check_shape(times[..., None].double(), len(wavs), True, f"times of the {what}")
        return found.float().cpu().numpy(), times.double().cpu().numpy() / 1000

    def together(self, sounds: Sequence[Sound]) -> list[Float[np.ndarray, " D"]] | None:
        """Return the scene vectors of clips of different lengths from one call; None if the encoder has no such
        call.
        """
        if self.model is None:
            return None
        return [embedding.scene for embedding in self.model.embed(list(sounds))]

    def file_vector(self, path: Path) -> Float[np.ndarray, " D"]:
        """Return the scene vector of a sound file."""
        if self.model is not None:
            return self.model.embed(path).scene
        return self.vector(read(path, self.rate)[0])


def open_subject(model: EmbeddingModel | str | Path, device: str = "auto") -> Subject:
    """Open an encoder of any kind.

    Parameters
    ----------
    model : model, path or str
        What `unheard.load` accepts, or ``xares:MODULE``.
    device : str

    Raises
    ------
    ConfigError
        When the encoder cannot be loaded, or the name is one of stored embeddings.
    """
    name = name_of(model)
    if isinstance(model, str) and model.startswith("embeddings:"):
        raise ConfigError(
            f"{model} holds stored embeddings and no encoder; give a model, hf:DIR, hear: or xares:MODULE"
        )
    if isinstance(model, str) and model.startswith(("hear:", "xares:")):
        return Subject(name, encoder(model, torch_device(device)))
    opened = loaded(model, device)
    return Subject(name, encoder(opened, finest=False), opened)
