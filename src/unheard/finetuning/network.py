"""The fine-tuned network: an encoder with a classifier, its start, loss, parameter groups and weight averaging.

Padding is not encoded, as in inference: clips of a batch with the same number of patch columns are encoded together.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from unheard.audio.waveform import Channel
from unheard.devices import to_device
from unheard.finetuning.augment import AugmentBatch
from unheard.finetuning.learning_rates import decays, layer_scale
from unheard.finetuning.recipe import AugmentConfig, FinetuneRecipe
from unheard.model import masking
from unheard.model.classification import asymmetric_losses, clip_losses, smoothed
from unheard.model.classifier import Classifier, ClassifierConfig
from unheard.model.encoder import Encoder
from unheard.model.patches import Grid
from unheard.model.transformer import use_drop_path
from unheard.recipes.learner import build
from unheard.version import __version__
from unheard.weights.checkpoint import Provenance, SavedModel, build_classifier


def patchout(grid: Grid, columns: int, config: AugmentConfig, noise: Float[Tensor, "B N"]) -> Int[Tensor, "B K"]:
    """Return the patches of the first ``columns`` time columns that are kept, as token indices of ``grid``.

    Parameters
    ----------
    grid : Grid
    columns : int
    config : AugmentConfig
    noise : Float[Tensor, "B f*columns"]
        Uniform noise for each of these patches; the patches with the smallest values are kept.
    """
    narrow = replace(grid, time=columns)
    mask = masking.random(noise, config.patchout)
    if any(config.patchout_2d):
        mask = masking.structured(narrow, noise[:, -grid.freq :], noise[:, :columns], config.patchout_2d)
    return grid.crop_time(columns, noise.device)[mask.keep]


class Network(nn.Module):
    """Compute logits of normalised spectrograms with an encoder and a classifier.

    Parameters
    ----------
    encoder : Encoder
    classifier : Classifier
    augment : AugmentConfig
        Its patchout is applied in training only.
    """

    def __init__(self, encoder: Encoder, classifier: Classifier, augment: AugmentConfig) -> None:
        super().__init__()
        self.encoder, self.classifier, self.augment = encoder, classifier, augment

    def forward(self, spec: Float[Tensor, "B F T"], frames: Int[Tensor, " B"]) -> Float[Tensor, "B C"]:
        """Return the logits of clips with ``frames[b]`` valid frames; windows may be shorter than the encoder's.

        ``frames`` are on the CPU, so that grouping clips by length does not wait for the device.
        """
        logits: Tensor = self.classifier(self.pooled(spec, frames))
        return logits

    def pooled(self, spec: Float[Tensor, "B F T"], frames: Int[Tensor, " B"]) -> Float[Tensor, "B W"]:
        """Return the input of the classifier: one vector per window. Parameters as in `forward`."""
        grid = self.encoder.grid
        patches = grid.patchify(F.pad(spec, (0, max(0, grid.frames - spec.shape[-1]))))
        filled = (-(-frames // grid.patch_size[1])).clamp(1, grid.time)
        columns, sizes = (each.tolist() for each in np.unique(filled.numpy(), return_counts=True))
        order = filled.argsort(stable=True)
        rows, real = to_device(order, spec.device), to_device(frames[order], spec.device)
        groups = zip(patches[rows].split_with_sizes(sizes), real.split_with_sizes(sizes), columns, strict=True)
        return torch.cat([self._pooled(*group) for group in groups])[rows.argsort()]

    def _pooled(self, patches: Float[Tensor, "b N P"], frames: Int[Tensor, " b"], columns: int) -> Float[Tensor, "b D"]:
        """Return one vector per clip; partly padded columns are weighted by their valid part, as in inference."""
        grid = self.encoder.grid
        if self.training:
            keep = patchout(
                grid, columns, self.augment, torch.rand(patches.shape[0], grid.freq * columns, device=patches.device)
            )
        else:
            keep = grid.crop_time(columns, patches.device).expand(patches.shape[0], -1)
        tokens, cls = self.encoder(patches, keep)
        if self.classifier.config.pool == "cls":
            return self.classifier.pool(tokens, cls)
        width = grid.patch_size[1]
        real = (
            (frames.clamp(min=1)[:, None] - grid.columns(keep.device)[keep] * width)
            .clamp(0, width)
            .to(tokens.dtype)[..., None]
        )
        if self.classifier.config.pool == "bands":
            # (b, K, f); 0 for a band without any kept patch
            share = real * F.one_hot(grid.rows(keep.device)[keep], grid.freq)
            return self.classifier.pool(share.transpose(1, 2) @ tokens / share.sum(dim=1).clamp(min=1)[..., None])
        return self.classifier.pool((tokens * real) * (real.shape[1] / real.sum(dim=1, keepdim=True)))


class FinetuneModule(nn.Module):
    """A network in training and, if the recipe enables it, an average of its weights.

    Parameters
    ----------
    network : Network
    recipe : FinetuneRecipe
    """

    num_averaged: Tensor

    def __init__(self, network: Network, recipe: FinetuneRecipe) -> None:
        super().__init__()
        self.network, self.recipe = network.requires_grad_(True), recipe
        if not recipe.adapt.trainable_positions:
            network.encoder.positions.requires_grad_(False)
        use_drop_path(network.encoder.transformer, recipe.adapt.drop_path)
        network.classifier.dropout = recipe.adapt.head_dropout
        self.average = copy.deepcopy(network).requires_grad_(False) if recipe.adapt.weight_averaging != "none" else None
        self.register_buffer("num_averaged", torch.zeros((), dtype=torch.long))

    def forward(self, clips: AugmentBatch) -> Float[Tensor, ""]:
        """Return the loss of a batch."""
        logits, task = self.network(clips.values, clips.lengths).float(), self.recipe.task
        if self.network.classifier.config.activation != "sigmoid":
            return clip_losses(logits, smoothed(clips.target, task.label_smoothing), False, clips.known).mean()
        if task.asymmetric:
            return asymmetric_losses(logits, clips.target, clips.known).mean()
        return clip_losses(logits, clips.target, True, clips.known).mean()

    @property
    def eval_network(self) -> Network:
        """Network that is evaluated and saved: the average, once it exists."""
        return self.average if self.average is not None and int(self.num_averaged) else self.network

    def after_step(self, progress: float, ended: int | None) -> None:
        """Update the weight average, if it is due.

        Parameters
        ----------
        progress : float
            Fraction of the run that is done.
        ended : int, optional
            Number of the epoch, from 1, that ends with this step.
        """
        adapt = self.recipe.adapt
        late = ended is not None and progress > adapt.average_from and ended % adapt.average_every == 0
        if self.average is None or (adapt.weight_averaging == "swa" and not late):
            return
        count = self.num_averaged  # it stays on the device: reading it would wait
        newest = 1 / (count + 1)
        if adapt.weight_averaging == "ema":
            # larger in the first steps, so that the initial weights are forgotten quickly
            later = (torch.full_like(newest, 9.0) / (count + 10)).clamp(min=1 - adapt.average_decay)
            newest = torch.where(count > 0, later, 1.0)
        with torch.no_grad():
            for mean, value in zip(self.average.parameters(), self.network.parameters(), strict=True):
                mean.lerp_(value, newest)
            for averaged_buffer, buffer in zip(self.average.buffers(), self.network.buffers(), strict=True):
                averaged_buffer.copy_(buffer)
        self.num_averaged += 1


def build_optimiser(tuned: FinetuneModule) -> torch.optim.AdamW:
    """Return AdamW with a group for each layer scale, with and without weight decay; rates are set before each step."""
    training, adapt = tuned.recipe.training, tuned.recipe.adapt
    depth = len(tuned.network.encoder.transformer.blocks)
    scale_of = partial(layer_scale, depth=depth, decay=adapt.layer_decay, embedding=adapt.decay_embedding)
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, parameter in tuned.network.named_parameters():
        if parameter.requires_grad:
            decayed = training.weight_decay_on == "all" or decays(name, parameter.ndim)
            groups.setdefault((scale_of(name), decayed), []).append(parameter)
    param_groups = [
        {"params": parameters, "scale": scale, "weight_decay": training.weight_decay if decayed else 0.0}
        for (scale, decayed), parameters in groups.items()
    ]
    return torch.optim.AdamW(param_groups, lr=0.0, betas=training.betas, eps=training.adam_eps, fused=True)


@dataclass(frozen=True)
class FinetuneSetup:
    """Settings that all models of a run share.

    Parameters
    ----------
    recipe : FinetuneRecipe
    classes : tuple of str
    activation : {"softmax", "sigmoid"}
    source : str
        Name or path of the model that is fine-tuned.
    """

    recipe: FinetuneRecipe
    classes: tuple[str, ...]
    activation: str
    source: str


def begin(saved: SavedModel, start: FinetuneSetup, channel: Channel = "mix") -> SavedModel:
    """Return a copy of a trained encoder with a new classifier of one channel of a file.

    If patch tokens are pooled, the final norm of the encoder is replaced by that of the classifier, as in MaskSpec and
    AudioMAE. The CLS token keeps the final norm of the encoder, or gets one of the classifier if there is none.
    """
    task, adapt, training = start.recipe.task, start.recipe.adapt, start.recipe.training
    keeps = saved.recipe.model.final_norm if task.pool == "cls" else False
    model = replace(saved.recipe.model, final_norm=keeps, trainable_positions=adapt.trainable_positions)
    recipe = replace(saved.recipe, model=model, training=replace(saved.recipe.training, seed=training.seed))
    learner = build(recipe)
    own = learner.state_dict()
    learner.load_state_dict(
        {name: value for name, value in saved.learner.state_dict().items() if name in own}, strict=False
    )
    norm = "none" if keeps else task.norm
    head = ClassifierConfig(start.classes, start.activation, task.pool, norm, channel=channel)  # type: ignore[arg-type]
    notes: tuple[str, ...] = (
        "Fine-tuned: the encoder is adapted to these classes, and no decoder matches it any more.",
    )
    if channel != "mix":
        notes += (f"The input of the classifier is the channel {channel!r} of a sound, not the mean of all channels.",)
    origin = Provenance(
        f"{start.source}, fine-tuned with unheard {__version__}", saved.provenance.licence, {}, notes, encoder_only=True
    )
    return SavedModel(learner, recipe, saved.statistics, origin, build_classifier(head, recipe))
