"""Row b1: log-mel spectrograms of 10 s clips at 16 kHz, one core. Baseline: nnAudio, one clip at a time, as MSM-MAE and
M2D use it.

Needs the packages nnAudio and librosa.
"""

from __future__ import annotations

from collections.abc import Callable

import librosa
import numpy as np
import torch
from nnAudio.features import MelSpectrogram
from torch import Tensor

from benchmarks.timing import arguments, interleave, show
from unheard.audio.frontend import MSM_MAE_16K, LogMel

CLIPS = 20


def clips() -> list[np.ndarray]:
    """White noise, and noise whose amplitude falls with 1/f above 50 Hz, in turns."""
    rng = np.random.default_rng(0)
    frequencies = np.maximum(np.fft.rfftfreq(160000, 1 / 16000), 50)
    noise = [rng.normal(0, 0.1, 160000) for _ in range(CLIPS)]
    return [
        (wav if i % 2 else np.fft.irfft(500 * np.fft.rfft(wav) / frequencies)).astype(np.float32)
        for i, wav in enumerate(noise)
    ]


def transforms() -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """Each takes a clip (S,) and gives its log-mel (F, T)."""
    config, ours = MSM_MAE_16K, LogMel(MSM_MAE_16K)
    peer = MelSpectrogram(
        sr=config.sample_rate,
        n_fft=config.n_fft,
        win_length=config.n_fft,
        hop_length=config.hop_size,
        n_mels=config.n_mels,
        fmin=config.f_min,
        fmax=config.f_max,
        center=True,
        power=2,
        verbose=False,
    )
    options = {"sr": config.sample_rate, "n_fft": config.n_fft, "hop_length": config.hop_size, "n_mels": config.n_mels}

    def nnaudio(wav: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            log_mel: Tensor = (peer(torch.from_numpy(wav)[None]) + config.log_offset).log()
            return log_mel[0].numpy()

    def by_librosa(wav: np.ndarray) -> np.ndarray:
        mel = librosa.feature.melspectrogram(y=wav, fmin=config.f_min, fmax=config.f_max, pad_mode="reflect", **options)
        return np.asarray(np.log(mel + wav.dtype.type(config.log_offset)))

    def forward(wav: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            spec: Tensor = ours(torch.from_numpy(wav)[None])
            return spec[0].numpy()

    def fast(wav: np.ndarray) -> np.ndarray:
        return ours.spectrogram_cpu(wav).T

    return {
        "nnAudio": nnaudio,
        "librosa": by_librosa,
        "unheard LogMel.forward": forward,
        "unheard LogMel.spectrogram_cpu": fast,
    }


def differences(wavs: list[np.ndarray], run: Callable[[np.ndarray], np.ndarray], reference: list[np.ndarray]) -> float:
    """Largest log-mel difference."""
    return max(float(np.abs(run(wav) - wanted).max()) for wav, wanted in zip(wavs, reference, strict=True))


def main() -> None:
    chosen = arguments(__doc__ or "")
    torch.set_num_threads(1)
    wavs, candidates = clips(), transforms()
    nnaudio = [candidates["nnAudio"](wav) for wav in wavs]
    exact = [candidates["librosa"](wav.astype(np.float64)) for wav in wavs]
    to_peer = {name: differences(wavs, run, nnaudio) for name, run in candidates.items()}
    to_exact = {name: differences(wavs, run, exact) for name, run in candidates.items()}
    if to_peer["unheard LogMel.spectrogram_cpu"] > 5e-4:
        raise SystemExit(f"outputs differ from nnAudio's by {to_peer}, from float64 by {to_exact}")

    def work(run: Callable[[np.ndarray], np.ndarray]) -> Callable[[], int]:
        return lambda: sum(1 for wav in wavs if run(wav).shape == (80, 1001))

    table = interleave({name: work(run) for name, run in candidates.items()}, chosen.rounds)
    listed = "; ".join(f"{name} {to_peer[name]:.1e} and {to_exact[name]:.1e}" for name in candidates)
    show(
        "b1",
        table,
        "10 s clips",
        f"Largest log-mel difference to nnAudio, and to librosa in float64: {listed}.",
        chosen.json,
    )


if __name__ == "__main__":
    main()
