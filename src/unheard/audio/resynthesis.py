"""Convert a log-mel spectrogram back to sound: non-negative inversion of the mel matrix, then Griffin and Lim's phase
reconstruction.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile
import torch
from jaxtyping import Float32

from unheard.audio.frontend import LogMelConfig, mel_matrix
from unheard.audio.frontend_kinds import AnyFrontendConfig
from unheard.errors import AudioError, ConfigError
from unheard.files import atomic_write

N_ITER = 64  # of the phase reconstruction; our choice, later iterations make no audible difference
MOMENTUM = 0.99  # fast Griffin-Lim: Perraudin, Balazs and Sondergaard 2013


def griffin_lim(
    log_mel: Float32[np.ndarray, "F T"], config: AnyFrontendConfig, seed: int = 0
) -> Float32[np.ndarray, " S"]:
    """Return a waveform whose log-mel is close to ``log_mel``; the phase is estimated.

    Raises
    ------
    ConfigError
        For any front end but log-mel: Kaldi's emphasis and floor remove what the inversion needs.
    """
    if not isinstance(config, LogMelConfig):
        raise ConfigError(
            f"the front end {config.kind} cannot be converted back to sound, only log-mel can; leave out --wav"
        )
    weights = torch.from_numpy(mel_matrix(config).copy())
    energy = (torch.from_numpy(log_mel).exp() - config.log_offset).clamp(min=0)
    power = weights.T @ energy / (weights.T @ weights.sum(dim=1, keepdim=True)).clamp(min=1e-8)
    for _ in range(N_ITER):  # multiplicative updates keep the spectrum non-negative
        power = power * (weights.T @ energy) / (weights.T @ (weights @ power)).clamp(min=1e-12)
    magnitude, window = power.sqrt(), torch.hann_window(config.n_fft)

    def wave(spectrum: torch.Tensor) -> torch.Tensor:
        return torch.istft(spectrum, config.n_fft, config.hop_size, window=window, center=True)

    phase = torch.rand(magnitude.shape, generator=torch.Generator().manual_seed(seed))
    phase, before = torch.polar(torch.ones_like(phase), 2 * torch.pi * phase), torch.zeros(())
    for _ in range(N_ITER):
        again = torch.stft(
            wave(magnitude * phase), config.n_fft, config.hop_size, window=window, center=True, return_complex=True
        )
        moved = again - MOMENTUM / (1 + MOMENTUM) * before
        phase, before = moved / moved.abs().clamp(min=1e-12), again
    return wave(magnitude * phase).numpy()


def write_wave(wav: Float32[np.ndarray, " S"], sample_rate: int, out: str | Path) -> None:
    """Write 16-bit audio under a temporary name, then rename it; louder signals are scaled to full scale.

    Raises
    ------
    AudioError
        When the file cannot be written.
    """
    path = Path(out)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as unfinished:
            soundfile.write(
                unfinished, wav / max(1.0, float(np.abs(wav).max())), sample_rate, subtype="PCM_16", format="WAV"
            )
    except (OSError, soundfile.LibsndfileError) as error:
        raise AudioError(f"could not write {path}: {error}") from error
