"""Reconstruction error on masked patches, compared with interpolation baselines.

Errors are mean squared errors over masked values, in units of the variance of the spectrograms. An error of 1 is that
of predicting the mean.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from unheard.data.store import Store
from unheard.data.windows.crops import CropSampler, WindowSegments
from unheard.errors import CheckpointError, DataError
from unheard.model import masking
from unheard.model.masking import Mask
from unheard.model.patches import Grid
from unheard.objectives.reconstruct import Reconstruct
from unheard.recipes.learner import PretrainModule
from unheard.weights.checkpoint import SavedModel

CROPS = 512  # gives two significant digits in seconds on a CPU; our choice
SEED = 20_000  # seed of crops and masks, different from training seeds

BASELINES = {
    "band mean": "the mean of each mel band",
    "nearest": "the nearest visible frame",
    "linear": "interpolation in time",
    "oracle_patch_mean": "the true mean of each patch",
}
"""What each baseline predicts."""


@dataclass(frozen=True)
class ReconstructionError:
    """Errors on masked patches, in units of the variance.

    Parameters
    ----------
    model : float
        Error of the model.
    baselines : dict of str to float
        Error of each interpolation baseline and of `oracle_patch_mean`.
    crops : int
        Number of windows measured.
    """

    model: float
    baselines: dict[str, float]
    crops: int

    @property
    def best(self) -> tuple[str, float]:
        """Best baseline and its error."""
        return min(self.baselines.items(), key=lambda item: item[1])

    def sentences(self, advice: str = "") -> str:
        """Return what the errors mean; with ``advice`` at the end, if a baseline is as good as the model."""
        name, error = self.best
        if not np.isfinite([self.model, error]).all():
            return "The spectrograms have no variance, so the error has no unit."
        found = f"The error on masked patches is {self.model:.3f} of the variance."
        relation, more = ("better", "") if self.model < error else ("not better", advice and f" {advice}")
        return f"{found} The best baseline, {BASELINES[name]}, has {error:.3f}: the reconstruction is {relation}.{more}"

    def line(self) -> str:
        """Return the result as one line."""
        name, error = self.best
        others = ", ".join(f"{key} {value:.3f}" for key, value in self.baselines.items())
        verdict = f"{self.model / error:.0%} of the best baseline ({name})"
        return f"error on masked patches {self.model:.3f} of the variance, {verdict}; baselines: {others}"


def interpolation_baselines(
    spec: Float[Tensor, "B F T"], hidden: Bool[Tensor, "B F T"]
) -> dict[str, Float[Tensor, "B F T"]]:
    """Interpolate masked values from visible ones of the same mel band: mean, nearest in time, linear in time.

    A band without visible values gets the mean of all visible values of the crop.
    """
    visible = ~hidden
    count = visible.sum(dim=2, keepdim=True)
    everything = (spec * visible).sum(dim=(1, 2), keepdim=True) / visible.sum(dim=(1, 2), keepdim=True).clamp(min=1)
    mean = torch.where(count > 0, (spec * visible).sum(dim=2, keepdim=True) / count.clamp(min=1), everything)
    time = torch.arange(spec.shape[2], device=spec.device).expand_as(spec)
    before = torch.where(visible, time, -1).cummax(dim=2).values
    after = torch.where(visible, time, spec.shape[2]).flip(2).cummin(dim=2).values.flip(2)
    left, right = spec.gather(2, before.clamp(min=0)), spec.gather(2, after.clamp(max=spec.shape[2] - 1))
    has_left, has_right = before >= 0, after < spec.shape[2]
    left, right = torch.where(has_left, left, right), torch.where(has_right, right, left)
    nearer_left = (has_left & (time - before <= after - time)) | ~has_right
    share = ((time - before) / (after - before).clamp(min=1)).clamp(0, 1)
    line = torch.where(has_left & has_right, left + (right - left) * share, left)
    seen = count > 0
    filled = {"band mean": mean.expand_as(spec), "nearest": torch.where(nearer_left, left, right), "linear": line}
    return {name: torch.where(seen, value, everything) for name, value in filled.items()}


def hidden_values(grid: Grid, mask: Mask) -> Bool[Tensor, "B F T"]:
    """Return True on the spectrogram values of masked patches."""
    flags = mask.hidden()[..., None].expand(-1, -1, grid.patch_dim)
    return grid.unpatchify(flags.float()).bool()


@torch.inference_mode()
def predict(learner: PretrainModule, spec: Float[Tensor, "B F T"], mask: Mask) -> Float[Tensor, "B F T"]:
    """Return the spectrogram with masked patches replaced by predictions; visible patches are unchanged.

    Raises
    ------
    CheckpointError
        When the model has no reconstruction objective.
    """
    head, patches = _head(learner), learner.grid.patchify(spec)
    out = learner.model(patches, mask)
    drawn = head.spectrogram(out.decoded, patches)
    return learner.grid.unpatchify(torch.where(mask.hidden()[..., None], drawn, patches))


def oracle_patch_mean(learner: PretrainModule, spec: Float[Tensor, "B F T"]) -> dict[str, Float[Tensor, "B F T"]]:
    """Return the true mean of each patch, for models with ``norm_pix``.

    Such a model predicts the normalised patch, and its reconstruction uses the true mean and variance. It must
    therefore be compared with this baseline.
    """
    if not _head(learner).norm_pix:
        return {}
    patches = learner.grid.patchify(spec)
    return {"true patch mean": learner.grid.unpatchify(patches.mean(dim=-1, keepdim=True).expand_as(patches))}


def _head(learner: PretrainModule) -> Reconstruct:
    if "reconstruct" in learner.objectives and isinstance(head := learner.objectives["reconstruct"], Reconstruct):
        return head
    raise CheckpointError(
        "this model was trained without a reconstruction objective, so it cannot predict spectrograms"
    )


def reconstruction_error(
    learner: PretrainModule, spec: Float[Tensor, "B F T"], mask: Mask, frames: int | None = None
) -> ReconstructionError:
    """Return the errors of the model and of the baselines on crops, over the first ``frames`` frames or all."""
    spec, real = spec[..., : learner.grid.frames], slice(0, frames)
    hidden = hidden_values(learner.grid, mask)[..., real]
    variance = spec[..., real].var(unbiased=False)

    def error(filled: Tensor) -> float:
        return float((filled - spec[..., real])[hidden].square().mean() / variance)

    at = [slice(first, first + 64) for first in range(0, len(spec), 64)]
    simple = {
        name: value[..., real] for name, value in oracle_patch_mean(learner, spec).items()
    } | interpolation_baselines(spec[..., real], hidden)
    drawn = torch.cat([predict(learner, spec[part], Mask(mask.keep[part], mask.hide[part])) for part in at])
    return ReconstructionError(
        error(drawn[..., real]), {name: error(value) for name, value in simple.items()}, len(spec)
    )


def corpus_reconstruction_error(saved: SavedModel, store: Store, crops: int = CROPS) -> ReconstructionError:
    """Measure the error on full-length crops of a corpus, with the mask ratio of the training.

    Crops and masks are the same in every call.

    Raises
    ------
    DataError
        When no clip is as long as the window.
    """
    learner, width = saved.learner, saved.recipe.model.frames
    long = np.flatnonzero(store.frames >= width)
    if not len(long):
        raise DataError(
            f"no clip is as long as the window of {width} frames, so the reconstruction error cannot be measured"
        )
    sampler = CropSampler(store.frames[long], width, SEED)
    number = min(crops, sampler.size)
    epochs, positions = sampler.positions(0, number)
    ids, starts = sampler.draw(epochs, positions)
    windows = WindowSegments.single(long[ids], starts, store.frames, width)
    spec = saved.statistics.normalise(store.windows(windows, number, width))
    model, single = saved.recipe.model, replace(saved.recipe.mask, views=1)
    count = masking.noise_size(model, single, learner.grid)
    noise = torch.from_numpy(sampler.noise(epochs, positions, count))
    mask = masking.training_mask(model, learner.grid, noise, blocks=single)
    return reconstruction_error(learner, spec, mask)
