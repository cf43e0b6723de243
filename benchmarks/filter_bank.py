"""Row b2: Kaldi's log filter bank of 10 s clips at 16 kHz, one core. Baseline: kaldi-native-fbank, one clip at a time.

80 bands, because kaldi-native-fbank refuses the 128 of AudioMAE, whose lowest bands hold no bin of the transform. The
last row has all 128. Needs the package kaldi-native-fbank.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import kaldi_native_fbank
import numpy as np
import torch

from benchmarks.frontend import clips
from benchmarks.timing import arguments, interleave, show
from unheard.audio.kaldi import AUDIOMAE, KaldiFbank

CONFIG = replace(AUDIOMAE, n_mels=80)


def by_kaldi(wav: np.ndarray) -> np.ndarray:
    """The baseline as its documentation shows it: options, one stream, then the frames one by one."""
    options = kaldi_native_fbank.FbankOptions()
    options.frame_opts.dither, options.frame_opts.window_type = 0.0, "hanning"
    options.frame_opts.samp_freq = float(CONFIG.sample_rate)
    options.use_energy, options.energy_floor = False, 0.0
    options.mel_opts.num_bins = CONFIG.n_mels
    options.mel_opts.low_freq, options.mel_opts.high_freq = CONFIG.f_min, CONFIG.f_max
    bank = kaldi_native_fbank.OnlineFbank(options)
    bank.accept_waveform(CONFIG.sample_rate, wav)
    bank.input_finished()
    return np.stack([bank.get_frame(i) for i in range(bank.num_frames_ready)])


def main() -> None:
    """Compare the values, then the time."""
    chosen = arguments(__doc__ or "")
    torch.set_num_threads(1)
    wavs, ours, wide = clips(), KaldiFbank(CONFIG), KaldiFbank(AUDIOMAE)
    candidates: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "kaldi-native-fbank, 80 bands": by_kaldi,
        "unheard KaldiFbank, 80 bands": ours.spectrogram_cpu,
        "unheard KaldiFbank, 128 bands": wide.spectrogram_cpu,
    }
    difference = max(float(np.abs(by_kaldi(wav) - ours.spectrogram_cpu(wav)).max()) for wav in wavs)
    if difference > 1e-2:
        raise SystemExit(f"outputs differ by {difference}")

    def work(run: Callable[[np.ndarray], np.ndarray]) -> Callable[[], int]:
        return lambda: sum(1 for wav in wavs if len(run(wav)) == 998)

    table = interleave({name: work(run) for name, run in candidates.items()}, chosen.rounds)
    show("b2", table, "10 s clips", f"Largest difference of the log filter banks: {difference:.1e}.", chosen.json)


if __name__ == "__main__":
    main()
