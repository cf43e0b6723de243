"""Kaldi's filter bank against kaldi-native-fbank, MaskSpec's front end against its formula in float64."""

from __future__ import annotations

import kaldi_native_fbank
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from unheard.audio.framing import Frontend
from unheard.audio.frontend import FLOAT32_EPS, LogMel, LogMelConfig
from unheard.audio.frontend_kinds import AnyFrontendConfig, build_frontend
from unheard.audio.kaldi import AUDIOMAE, MASKSPEC, KaldiFbank, KaldiFbankConfig, MaskSpecConfig, MaskSpecMel
from unheard.errors import AudioError, ConfigError

FRONTENDS: dict[str, Frontend] = {
    "log-mel": LogMel(LogMelConfig(n_mels=20)),
    "matpac": LogMel(LogMelConfig(n_mels=20, center=False)),
    "kaldi-fbank": KaldiFbank(),
    "maskspec": MaskSpecMel(),
}
BANDS = 80  # kaldi-native-fbank 1.23 refuses 128 bands, of which the lowest hold no bin of the FFT
EITHER = st.sampled_from(sorted(FRONTENDS))


def sound(samples: int, seed: int = 0) -> np.ndarray:
    """Noise that steps in loudness, with a stretch of silence."""
    rng = np.random.default_rng(seed)
    wav = rng.normal(0, 0.1, samples) * np.repeat(rng.uniform(0.01, 1, samples // 500 + 1), 500)[:samples]
    wav[samples // 2 : samples // 2 + samples // 10] = 0
    return wav.astype(np.float32)


def by_kaldi(wav: np.ndarray) -> np.ndarray:
    options = kaldi_native_fbank.FbankOptions()
    options.frame_opts.dither, options.frame_opts.window_type, options.frame_opts.samp_freq = 0.0, "hanning", 16000.0
    options.frame_opts.snip_edges, options.use_energy, options.energy_floor = True, False, 0.0
    options.mel_opts.num_bins, options.mel_opts.low_freq, options.mel_opts.high_freq = BANDS, 20.0, 8000.0
    made = kaldi_native_fbank.OnlineFbank(options)
    made.accept_waveform(16000.0, wav.tolist())
    made.input_finished()
    return np.stack([made.get_frame(i) for i in range(made.num_frames_ready)])


def maskspec_formula(wav: np.ndarray) -> np.ndarray:
    """Section by section of the published method, in float64: emphasis, reflection by half of 1024, frames of 1024,
    window of 800.
    """
    x = wav.astype(np.float64)
    y = np.pad(x[1:] - 0.97 * x[:-1], 512, mode="reflect")
    window = np.pad(np.hanning(800), 112)
    frames = np.stack([y[t * 320 : t * 320 + 1024] * window for t in range(1 + (len(x) - 1) // 320)])
    power = np.abs(np.fft.rfft(frames)) ** 2
    mels = 1127 * np.log(1 + np.arange(513) * 31.25 / 700)
    edges = np.linspace(0, 1127 * np.log(1 + 15000 / 700), 130)
    rise = (mels - edges[:-2, None]) / np.diff(edges)[:-1, None]
    fall = (edges[2:, None] - mels) / np.diff(edges)[1:, None]
    weights = np.maximum(0, np.minimum(rise, fall))
    return (np.log(power @ weights.T + 1e-5) + 4.5) / 5


def test_the_filter_bank_is_kaldis() -> None:
    wav = sound(32123)
    wanted, frontend = by_kaldi(wav), KaldiFbank(KaldiFbankConfig(n_mels=BANDS))
    for spec in (frontend.spectrogram_cpu(wav), frontend(torch.from_numpy(wav)[None])[0].T.numpy()):
        assert spec.shape == wanted.shape
        assert np.abs(spec - wanted).max() < 2e-2  # float32 rounding where a band is nearly silent next to loud ones
        assert np.abs(spec - wanted).mean() < 5e-4


def test_a_constant_offset_of_the_sound_changes_nothing() -> None:
    wav = sound(16000)
    assert (
        np.abs(KaldiFbank().spectrogram_cpu(wav + np.float32(0.25)) - KaldiFbank().spectrogram_cpu(wav)).mean() < 1e-3
    )


def test_silence_is_the_floor() -> None:
    assert np.allclose(KaldiFbank().spectrogram_cpu(np.zeros(3000, np.float32)), np.log(FLOAT32_EPS))
    assert np.allclose(MaskSpecMel().spectrogram_cpu(np.zeros(3000, np.float32)), (np.log(1e-5) + 4.5) / 5)


def test_maskspec_is_its_formula() -> None:
    wav, frontend = sound(40000), MaskSpecMel()
    wanted = maskspec_formula(wav)
    assert np.abs(frontend.spectrogram_cpu(wav) - wanted).max() < 2e-4
    assert np.abs(frontend(torch.from_numpy(wav)[None])[0].T.numpy() - wanted).max() < 2e-4


def test_published_frame_counts() -> None:
    assert KaldiFbank().num_frames(160000) == 998
    assert MaskSpecMel().num_frames(320000) == 1000
    assert MaskSpecMel().frame_centre(10) == pytest.approx(0.1)
    assert KaldiFbank().frame_centre(0) == pytest.approx(0.0125)


@given(samples=st.integers(1, 9000), block=st.integers(1, 4000), name=EITHER)
def test_forward_fast_and_stream_agree_at_every_length(samples: int, block: int, name: str) -> None:
    frontend, wav = FRONTENDS[name], sound(samples, samples)
    fast = frontend.spectrogram_cpu(wav)
    assert fast.shape == (frontend.num_frames(samples), frontend.n_mels)
    close(frontend(torch.from_numpy(wav)[None])[0].T.numpy(), fast)
    close(np.concatenate(list(frontend.stream(wav[i : i + block] for i in range(0, samples, block)))), fast)


@given(samples=st.integers(1, 9000), seed=st.integers(0, 2**31), name=EITHER)
def test_windows_cut_from_the_wave_are_those_of_the_whole_clip(samples: int, seed: int, name: str) -> None:
    frontend, wav, rng = FRONTENDS[name], sound(samples, samples), np.random.default_rng(seed)
    whole = frontend.spectrogram_cpu(wav)
    firsts = rng.integers(0, len(whole), 3)
    counts = [int(rng.integers(1, len(whole) - first + 1)) for first in firsts]
    segments = [frontend.segment(wav, int(first), count) for first, count in zip(firsts, counts, strict=True)]
    begins = np.cumsum([0, *(len(segment) // frontend.hop_size for segment in segments)])
    assert all(len(segment) % frontend.hop_size == 0 for segment in segments)
    tape = torch.from_numpy(np.concatenate(segments))
    for begin, first, count in zip(begins, firsts, counts, strict=False):
        spec = frontend.spectrograms_from_segments(tape, torch.arange(begin, begin + count)[None])[0].T.numpy()
        close(spec, whole[first : first + count])


def close(spec: np.ndarray, wanted: np.ndarray) -> None:
    """Equal up to float32 rounding, which is larger where a band is nearly silent next to loud ones."""
    assert spec.shape == wanted.shape
    assert np.abs(spec - wanted).max() < 3e-2
    assert np.abs(spec - wanted).mean() < 3e-4


def test_int16_samples_are_scaled() -> None:
    wav, frontend = (sound(8000) * 2**15).astype(np.int16), MaskSpecMel()
    assert np.array_equal(frontend.segment(wav, 3, 4), frontend.segment(wav.astype(np.float32) / 2**15, 3, 4))


@given(frames=st.integers(1, 500), name=EITHER)
def test_num_samples_is_the_fewest_that_give_the_frames(frames: int, name: str) -> None:
    frontend = FRONTENDS[name]
    samples = frontend.num_samples(frames)
    assert frontend.num_frames(samples) == frames
    assert frames == 1 or frontend.num_frames(samples - 1) == frames - 1


@pytest.mark.parametrize("name", sorted(FRONTENDS))
def test_a_tone_peaks_in_the_band_whose_centre_is_nearest(name: str) -> None:
    frontend = FRONTENDS[name]
    centres = frontend.mel_centres()
    assert centres.shape == (frontend.n_mels,)
    band = int(frontend.n_mels * 0.7)
    tone = np.sin(2 * np.pi * centres[band] * np.arange(16000) / frontend.sample_rate).astype(np.float32)
    assert frontend.spectrogram_cpu(tone)[20:40].mean(axis=0).argmax() == band


@pytest.mark.parametrize("name", ["kaldi-fbank", "maskspec"])
def test_stays_float32_and_differentiable_and_refuses_nothing(name: str) -> None:
    frontend, wav = FRONTENDS[name], torch.from_numpy(sound(8000))[None].requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        spec = frontend(wav)
    assert spec.dtype == torch.float32
    spec.mean().backward()
    assert wav.grad is not None and wav.grad.isfinite().all() and wav.grad.abs().sum() > 0
    with pytest.raises(AudioError, match="without samples"):
        frontend(torch.empty(1, 0))


def test_jitter_moves_the_bands_within_their_range() -> None:
    frontend = MaskSpecMel()
    low, high = frontend.edges(torch.tensor([[0.0, 0.0], [0.9999, 0.9999], [0.75, 0.5]]))
    assert low.tolist() == [0, 9, 7]
    assert high.tolist() == [16000, 14001, 15000]


def test_jittered_windows_differ_and_the_middle_draw_is_the_plain_one() -> None:
    frontend = MaskSpecMel()
    segment = frontend.segment(sound(32000), 0, 50)
    rows = torch.arange(50).expand(3, -1)
    draws = torch.tensor([[0.0, 0.5], [0.9, 0.1], [0.9, 0.9]])  # f_min 0 and f_max 15000: the plain bands
    spec = frontend.spectrograms_from_segments(torch.from_numpy(segment), rows, draws)
    assert torch.allclose(spec[0], frontend.spectrograms_from_segments(torch.from_numpy(segment), rows)[0], atol=1e-4)
    assert (spec[1] - spec[2]).abs().mean() > 1e-3
    assert MaskSpecMel(MaskSpecConfig(f_min_jitter=0, f_max_jitter=0)).jitter is None


@pytest.mark.parametrize("config", [LogMelConfig(), AUDIOMAE, MASKSPEC], ids=lambda config: config.kind)
def test_every_kind_is_built(config: AnyFrontendConfig) -> None:
    frontend = build_frontend(config)
    assert (frontend.sample_rate, frontend.hop_size, frontend.n_mels) == (
        config.sample_rate,
        config.hop_size,
        config.n_mels,
    )
    assert frontend.config == config


@pytest.mark.parametrize(
    "wrong", [{"frame_size": 600}, {"frame_size": 1}, {"n_fft": 511}, {"f_max": 9000.0}, {"log_floor": 0.0}]
)
def test_impossible_filter_banks_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong)).removesuffix("_floor")):
        KaldiFbankConfig(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", [{"frame_size": 801}, {"f_max_jitter": 2000}, {"f_min": 16000.0}])
def test_impossible_jitters_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        MaskSpecConfig(**wrong)  # type: ignore[arg-type]
