"""The audio encoders of transformers whose frames have known times and frequencies: wav2vec 2.0 and its relatives, AST,
Whisper.

| kind | input | column | one window |
|---|---|---|---|
| convolutional | waveform, scaled by its extractor | one step of all convolutions, 20 ms | 30 s, our choice |
| AST | Kaldi's log-mel spectrogram | one patch in time; rows are its patches in frequency | ``max_length`` frames |
| Whisper | log10 of a Slaney-mel spectrogram | two spectrogram frames, 20 ms | 30 s: ``max_source_positions`` columns |
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from unheard.errors import CheckpointError
from unheard.teachers.hf_folder import CONFIG, PREPROCESSOR, HfFolder, mel_centres
from unheard.teachers.teacher import Windows

CONVOLUTIONAL = (
    *("wav2vec2", "hubert", "wavlm", "data2vec-audio", "unispeech", "unispeech-sat"),
    *("sew", "wav2vec2-conformer"),
)
WINDOW_SECONDS = 30.0  # convolutional models take any length; attention over longer windows needs too much memory
AST_RATE, AST_FRAME, AST_HOP = 16_000, 400, 160  # fixed in ASTFeatureExtractor: 25 ms every 10 ms
AST_LOWEST = 20.0  # Hz, fixed there
WHISPER_STRIDE = 2  # of the second convolution of Whisper's encoder


@dataclass(frozen=True)
class Columns:
    """Where the columns of a map are, in samples of the model's input.

    Parameters
    ----------
    hop : int
        From the centre of one column to that of the next.
    first : float
        Centre of the first column.
    field : int
        Samples that a clip must have; a shorter one is extended with zeros.
    window : int
        Columns of one window.
    reach : int
        Samples that they read.
    padded : bool
        Whether the model extends every input to a whole window. Columns whose centres are beyond the end are cut off.
    """

    hop: int
    first: float
    field: int
    window: int
    reach: int
    padded: bool

    @property
    def windows(self) -> Windows:
        """Return how a long clip is cut, so that the hop stays the same from window to window."""
        return Windows(self.window * self.hop, self.reach, math.floor(self.first) + 1 if self.padded else self.field)

    def count(self, samples: int) -> int:
        """Return the number of columns of a clip, at least one; windows follow each other at the hop."""
        if self.padded:
            return max(1, math.ceil((samples - self.first) / self.hop))
        return max(1, (samples - self.field) // self.hop + 1)


@dataclass(frozen=True)
class Kind:
    """A model of transformers with what `HfTeacher` must know of it.

    Parameters
    ----------
    model, extractor : object
        Of transformers.
    columns : Columns
    edges : tuple of float
        As in `FeatureMapAxes`.
    leading : int
        Tokens before those of the map.
    """

    model: Any
    extractor: Any
    columns: Columns
    edges: tuple[float, ...] = ()
    leading: int = 0


def read_kind(source: HfFolder) -> Kind:
    """Build the encoder of a folder.

    Raises
    ------
    CheckpointError
        When it is of a type that is not known here, or cannot be used.
    """
    readers: dict[str, Callable[[HfFolder], Kind]] = {
        **dict.fromkeys(CONVOLUTIONAL, _convolutional),
        "audio-spectrogram-transformer": _ast,
        "whisper": _whisper,
    }
    if source.model_type not in readers:
        raise CheckpointError(
            f"{source.folder / CONFIG} has the model_type {source.model_type[:80]!r}, whose frames are not known;"
            f" accepted: {', '.join(readers)}, clap"
        )
    return readers[source.model_type](source)


def _convolutional(source: HfFolder) -> Kind:
    from transformers import Wav2Vec2FeatureExtractor
    from transformers.models.auto.modeling_auto import MODEL_MAPPING_NAMES

    extractor = source.extractor(Wav2Vec2FeatureExtractor)
    model = source.model(_class(MODEL_MAPPING_NAMES[source.model_type]), optional=("masked_spec_embed",))
    strides, kernels = ([int(each) for each in getattr(model.config, f"conv_{name}")] for name in ("stride", "kernel"))
    if min(strides + kernels, default=0) < 1:
        raise CheckpointError(f"{source.folder / CONFIG} has conv_stride or conv_kernel below 1; copy the folder again")
    hop, field = 1, 1
    for stride, kernel in zip(strides, kernels, strict=True):
        field += (kernel - 1) * hop
        hop *= stride
    window = max(1, int(WINDOW_SECONDS * extractor.sampling_rate) // hop)
    return Kind(model, extractor, Columns(hop, field / 2, field, window, (window - 1) * hop + field, padded=False))


def _ast(source: HfFolder) -> Kind:
    from transformers import ASTFeatureExtractor, ASTModel

    extractor, model = source.extractor(ASTFeatureExtractor), source.model(ASTModel)
    sizes = model.config
    _refuse_other(source, extractor, sampling_rate=AST_RATE, num_mel_bins=sizes.num_mel_bins)
    _refuse_other(source, extractor, max_length=sizes.max_length)
    centres = mel_centres(AST_LOWEST, AST_RATE // 2, sizes.num_mel_bins, "kaldi")
    rows = (sizes.num_mel_bins - sizes.patch_size) // sizes.frequency_stride + 1
    window = (sizes.max_length - sizes.patch_size) // sizes.time_stride + 1
    half = (sizes.patch_size - 1) / 2
    between = (np.arange(rows - 1) + 0.5) * sizes.frequency_stride + half  # halfway between the centres of two rows
    columns = Columns(
        sizes.time_stride * AST_HOP,
        half * AST_HOP + AST_FRAME / 2,
        AST_FRAME,
        window,
        ((window - 1) * sizes.time_stride + sizes.patch_size - 1) * AST_HOP + AST_FRAME,
        padded=True,
    )
    return Kind(model, extractor, columns, tuple(np.interp(between, np.arange(len(centres)), centres)), leading=2)


def _whisper(source: HfFolder) -> Kind:
    from transformers import WhisperFeatureExtractor
    from transformers.models.whisper.modeling_whisper import WhisperEncoder

    extractor, model = source.extractor(WhisperFeatureExtractor), source.model(WhisperEncoder, prefix="encoder.")
    window, hop = int(model.config.max_source_positions), WHISPER_STRIDE * int(extractor.hop_length)
    _refuse_other(source, extractor, feature_size=model.config.num_mel_bins, nb_max_frames=WHISPER_STRIDE * window)
    return Kind(model, extractor, Columns(hop, 0.0, 1, window, window * hop, padded=True))


def _refuse_other(source: HfFolder, extractor: Any, **wanted: int) -> None:
    """Refuse a preprocessor file whose values differ from those that the model needs."""
    for name, value in wanted.items():
        if (given := getattr(extractor, name)) != value:
            raise CheckpointError(
                f"{source.folder / PREPROCESSOR} gives {name} {given}, and the model needs {value}; copy the file that"
                " belongs to the weights"
            )


def _class(name: Any) -> Any:
    import transformers

    return getattr(transformers, name)
