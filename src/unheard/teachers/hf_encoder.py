"""An audio encoder of transformers as a teacher, from a folder of the user."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from unheard.model.encoder import layer_numbers
from unheard.teachers.align import FeatureMapAxes
from unheard.teachers.hf_folder import HfFolder, fingerprint
from unheard.teachers.hf_kinds import read_kind
from unheard.teachers.teacher import FrozenTeacher


class HfTeacher(FrozenTeacher):
    """An audio encoder of transformers, frozen; see `hf_kinds` for those that are known.

    Its own feature extractor makes the input of each window. Windows follow each other so that columns keep the hop of
    the model across them; those after the end of a clip are cut off.

    Parameters
    ----------
    source : HfFolder

    Raises
    ------
    CheckpointError
        When the folder cannot be used.
    """

    def __init__(self, source: HfFolder) -> None:
        super().__init__()
        kind = read_kind(source)
        self.model, self.extractor, self.columns, self.edges = kind.model, kind.extractor, kind.columns, kind.edges
        self.leading, self.layers = kind.leading, None
        self.sample_rate, self.dim = int(kind.extractor.sampling_rate), int(kind.model.config.hidden_size)
        self.depth = int(kind.model.config.num_hidden_layers)
        self.windows = self.columns.windows
        self.name = f"{source.model_type} from {source.folder}"
        self.fingerprint = fingerprint([source.config, source.preprocessor], self.model)
        self.freeze()

    layers: tuple[int, ...] | None
    """Layers whose outputs are the map; None: the last hidden state."""

    def axes(self, samples: int) -> FeatureMapAxes:
        """Return the axes: the rows of AST's patches or one row, and columns at the hop of the model."""
        columns = self.columns
        count = columns.count(samples)
        return FeatureMapAxes(
            self.edges, tuple((columns.first + j * columns.hop) / self.sample_rate for j in range(count))
        )

    def at_layer(self, layer: int | Sequence[int]) -> HfTeacher:
        """Return the same teacher whose map is another layer's output, or those of several layers, concatenated.

        Parameters
        ----------
        layer : int or sequence of int
            1 to depth, or negative from the end. The last one is the model's last hidden state, normalised where it
            does so.

        Raises
        ------
        ConfigError
            When there is no such layer, or one is named twice.
        """
        other = copy.copy(self)
        other.layers = layer_numbers(layer, self.depth)
        other.dim = self.dim * len(other.layers)
        return other

    def extract(self, wav: Float[Tensor, "B S"]) -> Float[Tensor, "B C f t"]:
        """Return the map of each waveform, window by window."""
        columns = self.columns
        total = columns.count(wav.shape[1])
        starts = range(0, total, columns.window)
        pieces = [wav[:, first * columns.hop :][:, : columns.reach] for first in starts]
        counts = [min(columns.window, total - first) for first in starts]
        return torch.cat([self._window(*each) for each in zip(pieces, counts, strict=True)], dim=3)

    def _window(self, wav: Float[Tensor, "B S"], count: int) -> Float[Tensor, "B C f t"]:
        """Return the columns of one window; those of padding are cut off."""
        wav = F.pad(wav, (0, max(0, self.columns.field - wav.shape[1])))
        sounds: Any = [each.cpu().numpy() for each in wav]
        made = self.extractor(sounds, sampling_rate=self.sample_rate, return_tensors="pt")
        features = made[self.extractor.model_input_names[0]].to(wav.device, torch.float32)
        out = self.model(features, output_hidden_states=self.layers is not None, return_dict=True)
        every = [*out.hidden_states[1 : self.depth], out.last_hidden_state] if self.layers else [out.last_hidden_state]
        tokens = torch.cat([every[number - 1] for number in self.layers or (1,)], dim=-1)
        by_row: Tensor = tokens[:, self.leading :].reshape(len(wav), len(self.edges) + 1, -1, tokens.shape[-1])
        kept = count if self.columns.padded else by_row.shape[2]  # `run` compares the number of the others
        return by_row[:, :, :kept].permute(0, 3, 1, 2)
