"""CLAP as a teacher: a Hugging Face ``ClapModel`` from a folder of the user.

Its ``preprocessor_config.json`` describes the front end, which runs on the device: dB of a Slaney-mel power spectrogram
(HTK filters if the checkpoint was trained with fusion). Clips shorter than the ten seconds of the model are extended as
that file states.

HTS-AT stretches the spectrogram to ``spec_size * ratio`` frames, cuts it into ``ratio`` pieces of time and stacks them
on the frequency axis (ratio = spec_size / n_mels, 4 for LAION's). Its final map is returned unstacked; maps of earlier
stages are unstacked here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from unheard.teachers.align import FeatureMapAxes, row_edges
from unheard.teachers.hf_folder import fingerprint, mel_centres, read_hf_folder
from unheard.teachers.teacher import FrozenTeacher, Windows

Stage = Literal["final", "middle"]
MIDDLE_STAGE = 2  # hidden_states[2]: a quarter of the final map's downsampling, 4 x 64 for LAION's HTS-AT
DB_FLOOR = 1e-10  # power below this is raised to it (transformers' power_to_db)


class ClapTeacher(FrozenTeacher):
    """The audio branch of CLAP, frozen.

    Parameters
    ----------
    folder : Path
        ``config.json``, weights and ``preprocessor_config.json`` as ``save_pretrained`` writes them.
    stage : {"final", "middle"}
        "final" is the map before pooling (2 x 32 for LAION's; each position depends on the whole input), "middle" the
        map of an earlier stage (4 x 64).
    projected : bool
        Project each position of the final map into the space shared with text. The projection was trained on pooled
        vectors only.

    Raises
    ------
    CheckpointError
        When the folder is not a CLAP checkpoint.
    UnheardError
        When transformers is not installed.
    """

    window: Tensor
    mel: Tensor

    def __init__(self, folder: Path, stage: Stage = "final", projected: bool = False) -> None:
        super().__init__()
        source = read_hf_folder(folder)
        from transformers import ClapFeatureExtractor, ClapModel

        extractor, model = source.extractor(ClapFeatureExtractor), source.model(ClapModel, optional=("text_",))
        self.audio, self.projection = model.audio_model.audio_encoder, model.audio_projection if projected else None
        self.stage, self.fused = stage, bool(self.audio.enable_fusion)
        self.sample_rate, self.hop_size, self.n_fft = (
            extractor.sampling_rate,
            extractor.hop_length,
            extractor.fft_window_size,
        )
        self.samples, self.padding = int(extractor.nb_max_samples), str(extractor.padding)
        fused_filters = extractor.truncation == "fusion"
        filters = extractor.mel_filters if fused_filters else extractor.mel_filters_slaney
        self.register_buffer("window", torch.hann_window(self.n_fft), persistent=False)
        self.register_buffer("mel", torch.from_numpy(np.ascontiguousarray(filters.T, np.float32)), persistent=False)
        limits = extractor.frequency_min, extractor.frequency_max
        self.centres = mel_centres(*limits, int(extractor.feature_size), "htk" if fused_filters else "slaney")
        sizes = model.config.audio_config
        self.spec_size, self.ratio = int(sizes.spec_size), int(sizes.spec_size // sizes.num_mel_bins)
        self.rows, self.columns = self._shape(sizes)
        self.dim = self._width(sizes, int(model.config.projection_dim))
        self.name = f"CLAP from {folder}"
        self.windows = Windows(self.samples, self.samples)
        self.fingerprint = fingerprint(["clap", stage, projected, source.preprocessor], model)
        self.freeze()

    def axes(self, samples: int) -> FeatureMapAxes:
        """Return the axes: rows divide the mel bands evenly, columns divide the ten seconds of the model's input."""
        frames = self.samples // self.hop_size + 1
        stretched = self.spec_size * self.ratio
        size = stretched // self.columns
        middle = (np.arange(self.columns) * size + (size - 1) / 2) * (frames - 1) / (stretched - 1)
        return FeatureMapAxes(
            row_edges(self.centres, len(self.centres) // self.rows), tuple(middle * self.hop_size / self.sample_rate)
        )

    def extract(self, wav: Float[Tensor, "B S"]) -> Float[Tensor, "B C f t"]:
        """Return the map of each waveform; what lies beyond the model's ten seconds is cut off."""
        features = self.features(wav)[:, None].transpose(2, 3)  # (B, 1, T, F)
        extra: dict[str, Any] = {}
        if self.fused:
            features, extra = (
                features.expand(-1, 4, -1, -1),
                {"is_longer": torch.zeros(len(wav), 1, dtype=torch.bool, device=wav.device)},
            )
        out = self.audio(features, output_hidden_states=self.stage == "middle", return_dict=True, **extra)
        if self.stage == "middle":
            return unstack(out.hidden_states[MIDDLE_STAGE], self.ratio)
        found: Tensor = out.last_hidden_state
        return found if self.projection is None else self.projection(found.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)

    def features(self, wav: Float[Tensor, "B S"]) -> Float[Tensor, "B F T"]:
        """Return the mel spectrogram in dB of the model's whole duration."""
        wav = self._fill(wav)
        spectrum = torch.stft(
            wav, self.n_fft, self.hop_size, window=self.window, center=True, pad_mode="reflect", return_complex=True
        )
        return 10 * (self.mel @ torch.view_as_real(spectrum).square().sum(dim=-1)).clamp(min=DB_FLOOR).log10()

    def _fill(self, wav: Float[Tensor, "B S"]) -> Float[Tensor, "B S2"]:
        """Cut or extend to the model's duration as its preprocessor file states: repeat, repeatpad or pad."""
        times = max(1, self.samples // wav.shape[1])
        repeats = {"pad": 1, "repeatpad": times, "repeat": times + 1}.get(self.padding, times)
        wav = wav.repeat(1, repeats)[:, : self.samples]
        return F.pad(wav, (0, self.samples - wav.shape[1]))

    def _shape(self, sizes: Any) -> tuple[int, int]:
        """Return the rows and columns of the map."""
        halvings = MIDDLE_STAGE if self.stage == "middle" else len(sizes.depths) - 1
        side = self.spec_size // int(sizes.patch_stride[0]) >> halvings
        return side // self.ratio, side * self.ratio

    def _width(self, sizes: Any, projection_dim: int) -> int:
        if self.stage == "middle":
            return int(sizes.patch_embeds_hidden_size) << MIDDLE_STAGE
        return int(sizes.hidden_size) if self.projection is None else projection_dim


def unstack(stacked: Float[Tensor, "B C f4 t4"], ratio: int) -> Float[Tensor, "B C f t"]:
    """Undo HTS-AT's folding: put the ``ratio`` pieces of time, stacked on the frequency axis, back in order."""
    batch, channels, rows, columns = stacked.shape
    pieces = stacked.reshape(batch, channels, ratio, rows // ratio, columns).transpose(2, 3)
    return pieces.reshape(batch, channels, rows // ratio, ratio * columns)
