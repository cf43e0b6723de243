"""Models of this library as encoders of X-ARES: the base class of the files that ``unheard export -o NAME.py`` writes.

X-ARES imports such a file by its path relative to the working directory, and takes the one class whose name ends in
``Encoder``. The path of the weights inside it is absolute, because each worker of X-ARES imports the file itself.
"""

from __future__ import annotations

import re
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from unheard.embedding.job import Options
from unheard.embedding.loading import load_own
from unheard.errors import AudioError
from unheard.files import write_text
from unheard.weights.built_in import DEFAULT, origin_of


class XaresModule(nn.Module):
    """A frozen model with the attributes that X-ARES reads.

    Subclasses set ``weights``: a run, a model folder or a built-in name.

    Attributes
    ----------
    sampling_rate : int
        Hz.
    output_dim : int
        D', the width of a frame.
    hop_size_in_ms : float
        Duration of a patch in milliseconds.
    """

    weights: str = DEFAULT

    def __init__(self) -> None:
        super().__init__()
        self.model = load_own(self.weights, "cpu")
        self.encoder = self.model.learner  # a submodule, so that .to(device) moves it
        self.sampling_rate = self.model.sample_rate
        self.output_dim = self.model.embedding_size
        frames = self.model.config.model.patch_size[1] * self.model.config.frontend.hop_size
        self.hop_size_in_ms = 1000 * frames / self.sampling_rate
        self.eval()

    def forward(self, audio: Float[Tensor, "*B S"]) -> Float[Tensor, "B t D"]:
        """Return one frame for each patch, the last one for what is left; of any duration, in windows of the model.

        The frames of a waveform do not depend on the others of the batch.

        Parameters
        ----------
        audio : Tensor
            (S,) or (B, S), at ``sampling_rate``; of any type, converted to float32.

        Returns
        -------
        Tensor
            (B, t, D'), float32, on the device of ``audio``.

        Raises
        ------
        AudioError
            When a waveform has no samples, or some that are not finite.
        """
        if audio.ndim not in (1, 2):
            raise AudioError(f"audio must have the shape (samples,) or (batch, samples); got {tuple(audio.shape)}")
        rows = audio.detach().float().cpu().reshape(-1, audio.shape[-1])
        sounds = [(row.numpy(), self.sampling_rate) for row in rows]
        frames = [torch.from_numpy(embedding.frames) for _, embedding in self.model.embed_many(sounds, Options())]
        return torch.stack(frames).to(audio.device)


def write_encoder(weights: str, file: Path) -> str:
    """Write a file with an X-ARES encoder. Return the name of its class, which is made from that of the file.

    Parameters
    ----------
    weights : str
        A run, a model folder, or a built-in name.
    file : Path
    """
    words = re.sub(r"encoder$", "", file.stem, flags=re.IGNORECASE)
    name = "".join(word.capitalize() for word in re.findall(r"[A-Za-z0-9]+", words)) or "Unheard"
    name = f"{'Model' * name[0].isdigit()}{name}Encoder"
    text = f'''"""An encoder for X-ARES, written by unheard export."""

from unheard.xares import XaresModule


class {name}(XaresModule):
    weights = {origin_of(weights)!r}
'''
    write_text(file, text)
    return name
