"""The predictor head: decoder outputs of hidden patches become predictions of the teacher's latents."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn


class Predictor(nn.Module):
    """``hypotheses`` parallel linear projections from the decoder's width to the encoder's.

    One projection is M2D and MATPAC; MATPAC++ uses five.
    """

    def __init__(self, decoder_dim: int, embed_dim: int, hypotheses: int, bias: bool = True) -> None:
        super().__init__()
        self.num_hypotheses = hypotheses
        self.project = nn.Linear(decoder_dim, hypotheses * embed_dim, bias=bias)
        # Each projection is initialised as a layer of its own.
        for rows in self.project.weight.data.view(hypotheses, embed_dim, decoder_dim):
            nn.init.xavier_uniform_(rows)
        if bias:
            nn.init.zeros_(self.project.bias)

    def forward(self, decoded: Float[Tensor, "B M E"]) -> Float[Tensor, "B M R D"]:
        """Project each hidden patch's decoder output."""
        predicted: Tensor = self.project(decoded)
        return predicted.reshape(*predicted.shape[:2], self.num_hypotheses, -1)
