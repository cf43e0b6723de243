"""Classes for Hugging Face transformers. Importing this module registers them; it needs transformers.

``AutoModel``, ``AutoModelForAudioClassification`` and ``AutoFeatureExtractor`` then load the folders that
``unheard export`` and ``save_pretrained`` write.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import (
    AutoConfig,
    AutoFeatureExtractor,
    AutoModel,
    AutoModelForAudioClassification,
    BatchFeature,
    PreTrainedConfig,
    PreTrainedModel,
    SequenceFeatureExtractor,
)
from transformers.modeling_outputs import BaseModelOutputWithPooling, SequenceClassifierOutput

from unheard.audio.frontend_kinds import FRONTENDS
from unheard.audio.limits import checked_samples, full_scale
from unheard.errors import AudioError
from unheard.model.classification import clip_losses
from unheard.model.classifier import Classifier, ClassifierConfig
from unheard.model.encoder import Encoder
from unheard.model.patches import Grid
from unheard.model.sizes import ModelConfig
from unheard.weights.export.graph import FourierFrontend, WaveformModel


class UnheardConfig(PreTrainedConfig):  # type: ignore[misc]
    """Configuration of an exported model.

    Parameters
    ----------
    frontend, encoder, classifier : dict
        Fields of the front end, of `ModelConfig` and of `ClassifierConfig`; without a classifier the last is empty.
    mean, std : list of float
        Statistics of the normalisation, as they divide.
    """

    model_type = "unheard"

    def __init__(
        self, frontend: dict[str, Any] | None = None, encoder: dict[str, Any] | None = None,
        mean: list[float] | None = None, std: list[float] | None = None, classifier: dict[str, Any] | None = None,
        **others: Any,
    ) -> None:  # fmt: skip
        self.frontend, self.encoder, self.classifier = frontend or {}, encoder or {}, classifier or {}
        self.mean, self.std = mean or [0.0], std or [1.0]
        super().__init__(**others)


class UnheardFeatureExtractor(SequenceFeatureExtractor):  # type: ignore[misc]
    """Pads waveforms to one length, with a mask of the real samples."""

    model_input_names = ["input_values", "attention_mask"]  # noqa: RUF012 - the base class defines it so

    def __init__(self, sampling_rate: int = 16000, feature_size: int = 1, padding_value: float = 0.0, **others: Any):
        super().__init__(feature_size, sampling_rate, padding_value, **others)

    def __call__(
        self, raw_speech: Any, sampling_rate: int | None = None, padding: Any = True, return_tensors: Any = None,
        **others: Any,
    ) -> BatchFeature:  # fmt: skip
        """Return input_values (B, S) and attention_mask (B, S) of one waveform or a list of them.

        Raises
        ------
        ValueError
            When the sample rate is not that of the model, or a waveform is empty, has several channels, is not of
            floats, int16 or int32, or holds invalid samples.
        """
        if sampling_rate is not None and sampling_rate != self.sampling_rate:
            raise ValueError(f"the model takes {self.sampling_rate} Hz, not {sampling_rate} Hz; resample the waveform")
        single = isinstance(raw_speech, np.ndarray | Tensor) and raw_speech.ndim == 1
        single = single or (isinstance(raw_speech, list | tuple) and np.ndim(raw_speech[0]) == 0)
        waves = [self._wave(np.asarray(wave)) for wave in ([raw_speech] if single else raw_speech)]
        batch = BatchFeature({"input_values": waves})
        found = self.pad(batch, padding=padding, return_attention_mask=True, return_tensors=return_tensors, **others)
        return found

    def _wave(self, given: np.ndarray) -> np.ndarray:
        """Return a waveform as float32 in [-1, 1], as `from_array` does."""
        if given.ndim != 1 or not len(given):
            raise ValueError(f"a waveform must have one channel and a sample or more, not the shape {given.shape}")
        where = f"a waveform of {len(given)} samples"
        try:
            wave = given.astype(np.float32) / np.float32(full_scale(given, where))
            return checked_samples(wave, where, self.sampling_rate)
        except AudioError as error:
            raise ValueError(str(error)) from error


class UnheardPreTrainedModel(PreTrainedModel):  # type: ignore[misc]
    """Loading and saving of both models."""

    config_class = UnheardConfig
    base_model_prefix = "unheard"
    main_input_name = "input_values"

    def _init_weights(self, module: Any) -> None:
        """Initialise a classifier that the folder does not hold; everything else comes from the folder."""
        head = module.head if isinstance(module, Classifier) else None
        if head is not None and not getattr(head.weight, "_is_hf_initialized", False):
            torch.nn.init.normal_(head.weight, std=0.02)
            torch.nn.init.zeros_(head.bias)


class UnheardModel(UnheardPreTrainedModel):
    """Waveforms to frames (``last_hidden_state``) and scene vectors (``pooler_output``)."""

    def __init__(self, config: UnheardConfig) -> None:
        super().__init__(config)
        values: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in config.encoder.items()
        }
        model, (kind, module) = ModelConfig(**values), FRONTENDS[config.frontend["kind"]]
        self.spectrogram = kind(**config.frontend), module
        grid = Grid.of(config.frontend["n_mels"], model.frames, model.patch_size, model.token_order)
        self.encoder = Encoder(model, grid)
        self.built: dict[Any, FourierFrontend] = {}
        self.post_init()

    def whole(self, classifier: Classifier | None = None) -> WaveformModel:
        """Return front end and encoder as one module; the constants of the front end are no weights of the model."""
        device = self.encoder.positions.device
        if device not in self.built:
            (config, module), (mean, std) = self.spectrogram, (self.config.mean, self.config.std)
            with torch.inference_mode(False):
                self.built[device] = FourierFrontend(module(config), tuple(mean), tuple(std)).to(device)
        return WaveformModel(self.built[device], self.encoder, classifier).to(device)

    def forward(
        self, input_values: Tensor, attention_mask: Tensor | None = None, return_dict: bool | None = None, **_: Any
    ) -> Any:
        """Embed waveforms (B, S); each by its own length, so that the result does not depend on the batch."""
        frames, scenes, _cls = embed_rows(self.whole(), input_values, attention_mask)
        out = BaseModelOutputWithPooling(last_hidden_state=frames, pooler_output=scenes)
        return out.to_tuple() if return_dict is False else out


class UnheardForAudioClassification(UnheardPreTrainedModel):
    """Waveforms to class scores; with ``labels`` also the loss."""

    def __init__(self, config: UnheardConfig) -> None:
        super().__init__(config)
        self.unheard = UnheardModel(config)
        labels = tuple(config.id2label[index] for index in sorted(config.id2label))
        several = config.problem_type == "multi_label_classification"
        values: dict[str, Any] = {
            **config.classifier,
            "labels": labels,
            "activation": "sigmoid" if several else "softmax",
        }
        encoder = self.unheard.encoder
        self.classifier = Classifier(ClassifierConfig(**values), encoder.embed_dim, encoder.grid.freq)
        self.post_init()

    def forward(
        self, input_values: Tensor, attention_mask: Tensor | None = None, labels: Tensor | None = None,
        return_dict: bool | None = None, **_: Any,
    ) -> Any:  # fmt: skip
        """Classify waveforms (B, S); ``labels`` are class numbers (B,), or 0 and 1 (B, C) for several classes."""
        whole = self.unheard.whole(self.classifier)
        _frames, scenes, cls = embed_rows(whole, input_values, attention_mask)
        logits, loss = whole.logits(scenes, cls), None
        if labels is not None:
            several = self.classifier.config.activation == "sigmoid"
            if labels.shape != (logits.shape if several else logits.shape[:1]):
                wanted = "0 and 1 (B, C)" if several else "class numbers (B,)"
                raise ValueError(f"the labels of this model are {wanted}, not of the shape {tuple(labels.shape)}")
            target = labels if several else F.one_hot(labels, logits.shape[1])
            loss = clip_losses(logits.float(), target.float(), several).mean()
        out = SequenceClassifierOutput(loss=loss, logits=logits)
        return out.to_tuple() if return_dict is False else out


def embed_rows(whole: WaveformModel, wav: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return frames (B, T, D'), zero after the end of each waveform, scene vectors (B, D') and CLS outputs (B, D).

    The padding that the mask describes is before or after a waveform; frames begin with the waveform.
    """
    parts = [slice(0, wav.shape[1])] * len(wav) if mask is None else [_real(row) for row in mask]
    if all(part == parts[0] for part in parts):
        return whole.embed(wav[:, parts[0]].float())
    rows = [whole.embed(row[None, part].float()) for row, part in zip(wav, parts, strict=True)]
    steps = max(frames.shape[1] for frames, _, _ in rows)
    frames = torch.cat([F.pad(frames, (0, 0, 0, steps - frames.shape[1])) for frames, _, _ in rows])
    cls = [each for _, _, each in rows if each is not None]
    return frames, torch.cat([scene for _, scene, _ in rows]), torch.cat(cls) if cls else None


def _real(mask: Tensor) -> slice:
    """Return the samples of a waveform that are not padding, from its row of the mask; one at least."""
    first, count = int(mask.long().argmax()), max(1, int(mask.sum()))
    if not mask[first : first + count].all() and mask.any():
        raise ValueError("attention_mask has zeros within a waveform; only padding before or after it can be left out")
    return slice(first, first + count)


AutoConfig.register("unheard", UnheardConfig, exist_ok=True)
AutoModel.register(UnheardConfig, UnheardModel, exist_ok=True)
AutoModelForAudioClassification.register(UnheardConfig, UnheardForAudioClassification, exist_ok=True)
AutoFeatureExtractor.register(UnheardConfig, UnheardFeatureExtractor, exist_ok=True)
