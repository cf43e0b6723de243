"""The speaker encoder of resemblyzer (GE2E, Wan et al. 2018): HEAR API over its 256 values.

Its own volume normalisation comes first; its trimming of silence, made for speech, does not, because a clip's length
must stay.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from benchmarks.peers.windows import HOP, centred, encode, without

WINDOW = 25600  # samples: 1.6 s, of the published network
LOUDNESS = -30.0  # dB of full scale, likewise


class Speaker(nn.Module):
    """The encoder with the attributes the HEAR API asks for."""

    def __init__(self, encoder: Any, package: Any, hop: float) -> None:
        super().__init__()
        self.encoder, self.package, self.hop = encoder, package, hop
        self.sample_rate = 16000
        self.timestamp_embedding_size = self.scene_embedding_size = 256

    def forward(self, wav: Float[Tensor, "m W"]) -> Float[Tensor, "m 256"]:
        """Embed windows."""
        mels = [self.package.wav_to_mel_spectrogram(each)[: WINDOW // 160] for each in wav.cpu().numpy()]
        embedded = self.encoder(torch.from_numpy(np.stack(mels)).to(self.encoder.device))
        return torch.nan_to_num(embedded)  # the encoder divides by a norm that is 0 where no unit responds

    def loud(self, audio: Float[Tensor, "n S"]) -> Float[Tensor, "n S"]:
        """Quiet sounds brought to `LOUDNESS`; silence stays silent."""
        power = audio.cpu().square().mean(dim=1, keepdim=True).sqrt().clamp(min=1e-10)
        return audio.cpu() * (10 ** (LOUDNESS / 20) / power).clamp(min=1.0, max=1e5)


def load_model(model_file_path: str = "", *, hop: float = HOP) -> Speaker:
    """Load the encoder that resemblyzer brings, or a file of its weights."""
    with without("webrtcvad"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it imports from a place that scipy is about to remove
        import resemblyzer
    device = "cuda" if torch.cuda.is_available() else "cpu"
    encoder = resemblyzer.VoiceEncoder(device, verbose=False, weights_fpath=model_file_path or None)
    return Speaker(encoder, resemblyzer, hop).eval()


def get_timestamp_embeddings(
    audio: Float[Tensor, "n S"], model: Speaker
) -> tuple[Float[Tensor, "n t D"], Float[Tensor, "n t"]]:
    """Embeddings of windows and their centres in milliseconds."""
    windows, times = centred(model.loud(audio), WINDOW, model.hop, model.sample_rate)
    return encode(windows, model).to(audio.device), times


def get_scene_embeddings(audio: Float[Tensor, "n S"], model: Speaker) -> Float[Tensor, "n D"]:
    """The encoder's own embedding of an utterance."""
    with torch.inference_mode():
        vectors = [np.nan_to_num(model.encoder.embed_utterance(wav)) for wav in model.loud(audio).numpy()]
    return torch.from_numpy(np.stack(vectors)).float().to(audio.device)
