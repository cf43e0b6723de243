"""Base class of frozen teachers: a waveform in, a map over frequency and time out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from unheard.errors import DataError
from unheard.teachers.align import FeatureMapAxes


@dataclass(frozen=True)
class Windows:
    """How a teacher cuts a long clip, in samples.

    Parameters
    ----------
    step : int
        From one window to the next.
    reach : int
        Samples that one window reads; at least ``step`` less one column.
    least : int
        A last window of fewer samples has no column of its own.
    """

    step: int
    reach: int
    least: int = 1


class FrozenTeacher(nn.Module, ABC):
    """A frozen model: evaluation mode, no gradients, never part of a checkpoint.

    Attributes
    ----------
    name : str
        Description for the user.
    fingerprint : str
        Hash of its weights and of the settings of its output; caches are stored under it.
    sample_rate : int
        Sample rate of its input, in Hz.
    dim : int
        C, channels of its output.
    windows : Windows or None
        How a long clip is cut when it is embedded window by window; None: whole clips only.
    """

    name: str
    fingerprint: str
    sample_rate: int
    dim: int
    windows: Windows | None = None

    def train(self, mode: bool = True) -> FrozenTeacher:
        """Stay in evaluation mode, whatever the argument."""
        super().train(False)
        return self

    def freeze(self) -> FrozenTeacher:
        """Switch off dropout and gradients; constructors call it last."""
        self.eval().requires_grad_(False)
        return self

    @abstractmethod
    def axes(self, samples: int) -> FeatureMapAxes:
        """Return the positions of rows and columns of the map for a waveform of ``samples`` samples."""

    @abstractmethod
    def extract(self, wav: Float[Tensor, "B S"]) -> Float[Tensor, "B C f t"]:
        """Return the map of a batch of waveforms at `sample_rate`; row 0 has the lowest frequencies, columns are in
        time order.
        """

    @torch.no_grad()
    def run(self, wav: Float[Tensor, "B S"]) -> Float[Tensor, "B C f t"]:
        """Run `extract` in float32, without gradients, and compare the shape of its map with `dim` and `axes`.

        Raises
        ------
        DataError
            When the map has another width, or other rows or columns.
        """
        with torch.autocast(wav.device.type, enabled=False):
            found = self.extract(wav.float()).float()
        axes = self.axes(wav.shape[1])
        wanted = (len(wav), self.dim, len(axes.edges) + 1, len(axes.columns))
        names = ("clips", "channels", "rows", "columns")
        if found.shape != wanted:
            wrong = [
                f"{came} {name} instead of {due}"
                for came, due, name in zip(found.shape, wanted, names, strict=True)
                if came != due
            ]
            raise DataError(
                f"{self.name} returned {', '.join(wrong)} for {wav.shape[1]} samples; its frames must follow its hop,"
                " with one width; use another teacher or another version of its package"
            )
        return found

    def forward(self, wav: Float[Tensor, "B S"]) -> Float[Tensor, "B C f t"]:
        """Return the map of `run`.

        Raises
        ------
        DataError
            As `run`, and when the map holds NaN or infinity.
        """
        found: Float[Tensor, "B C f t"] = self.run(wav)
        if not bool(found.isfinite().all()):
            raise DataError(
                f"{self.name} returned NaN or infinity; check the sounds with unheard data check, and the weights of"
                " the teacher"
            )
        return found


def disable_hf_progress() -> None:
    """Keep transformers from showing a progress bar of its own while it reads weights."""
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
