"""Any model of this library as a teacher: feature distillation, which needs no text and is not CLAP."""

from __future__ import annotations

import hashlib

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from unheard.audio.frontend_kinds import build_frontend
from unheard.model.patches import Grid
from unheard.teachers.align import FeatureMapAxes, row_edges
from unheard.teachers.teacher import FrozenTeacher
from unheard.weights.checkpoint import SavedModel


class EncoderTeacher(FrozenTeacher):
    """Encode whole clips, window by window, without a mask; the map is the tokens in grid order.

    Parameters
    ----------
    saved : SavedModel
        The model; its own front end and statistics are used.
    """

    def __init__(self, saved: SavedModel) -> None:
        super().__init__()
        self.encoder, self.grid, self.statistics = saved.learner.model.encoder, saved.learner.grid, saved.statistics
        self.frontend = build_frontend(saved.recipe.frontend)
        self.sample_rate, self.dim = saved.recipe.frontend.sample_rate, self.encoder.embed_dim
        self.name = f"feature distillation from {saved.recipe.name} ({saved.provenance.source or 'unknown source'})"
        self.fingerprint = _fingerprint(saved)
        self.freeze()

    def axes(self, samples: int) -> FeatureMapAxes:
        """Return the rows and columns of its own patch grid; windows are concatenated."""
        pf, pt = self.grid.patch_size
        columns = -(-self.frontend.num_frames(samples) // pt)
        middle = (
            self.frontend.frame_centre(j * pt) + self.frontend.frame_centre(j * pt + pt - 1) for j in range(columns)
        )
        return FeatureMapAxes(row_edges(self.frontend.mel_centres(), pf), tuple(twice / 2 for twice in middle))

    def extract(self, wav: Float[Tensor, "B S"]) -> Float[Tensor, "B C f t"]:
        """Return the tokens of each waveform; the last patch is padded with the mean."""
        spec = self.statistics.normalise(self.frontend(wav))
        spec = F.pad(spec, (0, -spec.shape[2] % self.grid.patch_size[1]))
        starts = range(0, spec.shape[2], self.grid.frames)
        return torch.cat([self._window(spec[..., first : first + self.grid.frames]) for first in starts], dim=3)

    def _window(self, spec: Float[Tensor, "B F T"]) -> Float[Tensor, "B C f t"]:
        """Encode one window, or the remaining part of one."""
        columns = spec.shape[2] // self.grid.patch_size[1]
        patches = self.grid.patchify(F.pad(spec, (0, self.grid.frames - spec.shape[2])))
        tokens, _ = self.encoder(patches, self.grid.crop_time(columns, spec.device).expand(len(spec), -1))
        by_time = Grid(self.grid.freq, columns, self.grid.patch_size, self.grid.order).to_timesteps(tokens)
        return by_time.reshape(len(spec), columns, self.grid.freq, self.dim).permute(0, 3, 2, 1)


def _fingerprint(saved: SavedModel) -> str:
    digest = hashlib.sha256(repr((saved.recipe.frontend, saved.statistics)).encode())
    for name, value in saved.learner.model.encoder.state_dict().items():
        digest.update(name.encode() + value.detach().float().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]
