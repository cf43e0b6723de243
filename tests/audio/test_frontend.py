"""The log-mel spectrogram against librosa and closed forms; its three implementations against each other."""

from __future__ import annotations

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import librosa
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from unheard.audio.frontend import (
    FLOAT32_EPS,
    MATPAC,
    MIN_STD,
    MSM_MAE_16K,
    MSM_MAE_32K,
    LogMel,
    LogMelConfig,
    Statistics,
    mel_matrix,
)
from unheard.errors import AudioError, ConfigError

PRESETS = {"msm-mae 16k": MSM_MAE_16K, "msm-mae 32k": MSM_MAE_32K, "matpac": MATPAC}
TOLERANCE = 3e-4


def sound(samples: int, seed: int = 0) -> np.ndarray:
    """A steep spectrum, where float32 transforms differ most, and a stretch of silence."""
    wav = np.cumsum(np.random.default_rng(seed).normal(0, 1e-3, samples))
    wav[samples // 2 : samples // 2 + samples // 10] = 0
    return wav.astype(np.float32)


def by_librosa(wav: np.ndarray, config: LogMelConfig) -> np.ndarray:
    mel = librosa.feature.melspectrogram(
        y=wav.astype(np.float64),
        sr=config.sample_rate,
        n_fft=config.n_fft,
        hop_length=config.hop_size,
        center=config.center,
        pad_mode="reflect",
        power=2.0,
        n_mels=config.n_mels,
        fmin=config.f_min,
        fmax=config.f_max,
    )
    return np.log(mel + config.log_offset)


@pytest.mark.parametrize("name", PRESETS)
def test_mel_matrix_is_librosas(name: str) -> None:
    config = PRESETS[name]
    wanted = librosa.filters.mel(
        sr=config.sample_rate, n_fft=config.n_fft, n_mels=config.n_mels, fmin=config.f_min, fmax=config.f_max
    )
    assert np.abs(mel_matrix(config) - wanted).max() < 1e-8


@pytest.mark.parametrize("name", PRESETS)
def test_log_mel_is_librosas(name: str) -> None:
    wav, frontend = sound(20123), LogMel(PRESETS[name])
    wanted = by_librosa(wav, PRESETS[name])
    spec = frontend(torch.from_numpy(wav)[None])[0].numpy()
    assert spec.shape == wanted.shape
    assert np.abs(spec - wanted).max() < TOLERANCE
    assert np.abs(frontend.spectrogram_cpu(wav).T - wanted).max() < TOLERANCE


@pytest.mark.parametrize("name", PRESETS)
def test_silence_is_the_logarithm_of_the_offset(name: str) -> None:
    frontend = LogMel(PRESETS[name])
    assert np.allclose(frontend.spectrogram_cpu(np.zeros(3000, np.float32)), -15.942385, atol=1e-6)
    assert torch.allclose(frontend(torch.zeros(2, 3000)), torch.tensor(FLOAT32_EPS).log())


@given(samples=st.integers(1, 6000), block=st.integers(1, 3000), name=st.sampled_from(sorted(PRESETS)))
def test_forward_fast_and_stream_agree_at_every_length(samples: int, block: int, name: str) -> None:
    frontend, wav = LogMel(PRESETS[name]), sound(samples, samples)
    fast = frontend.spectrogram_cpu(wav)
    assert fast.dtype == np.float32
    assert fast.shape == (frontend.num_frames(samples), 80)
    assert np.abs(frontend(torch.from_numpy(wav)[None])[0].numpy().T - fast).max() < TOLERANCE
    streamed = list(frontend.stream(wav[i : i + block] for i in range(0, samples, block)))
    assert np.abs(np.concatenate(streamed) - fast).max() < TOLERANCE


@given(frames=st.integers(1, 500), name=st.sampled_from(sorted(PRESETS)))
def test_num_samples_is_the_fewest_that_give_the_frames(frames: int, name: str) -> None:
    frontend = LogMel(PRESETS[name])
    samples = frontend.num_samples(frames)
    assert frontend.num_frames(samples) == frames
    assert frames == 1 or frontend.num_frames(samples - 1) == frames - 1


def test_published_frame_counts() -> None:
    assert LogMel(MSM_MAE_16K).num_frames(160000) == 1001
    assert LogMel(MATPAC).num_frames(160000) == 998
    assert LogMel(MATPAC).num_samples(608) == 97520


@pytest.mark.parametrize("name", PRESETS)
def test_frame_centre_is_where_a_click_shows(name: str) -> None:
    frontend, wav = LogMel(PRESETS[name]), np.zeros(16000, np.float32)
    wav[round(frontend.frame_centre(20) * frontend.sample_rate)] = 1.0
    assert frontend.spectrogram_cpu(wav).sum(axis=1).argmax() == 20


def test_no_samples_are_refused() -> None:
    for run in (
        LogMel().spectrogram_cpu,
        lambda wav: list(LogMel().stream([wav])),
        lambda wav: LogMel()(torch.from_numpy(wav)[None]),
    ):
        with pytest.raises(AudioError, match="without samples"):
            run(np.empty(0, np.float32))


def test_stays_float32_under_autocast_and_does_not_depend_on_batch_mates() -> None:
    frontend, wav = LogMel(), torch.from_numpy(np.stack([sound(8000, 1), 100 * sound(8000, 2)]))
    alone = frontend(wav[:1])
    with torch.autocast("cpu", torch.bfloat16):
        together = frontend(wav)
    assert together.dtype == torch.float32
    assert torch.allclose(together[:1], alone, atol=1e-5)


def test_gradients_reach_the_waveform() -> None:
    wav = torch.from_numpy(sound(4000))[None].requires_grad_()
    LogMel()(wav).mean().backward()
    assert wav.grad is not None
    assert wav.grad.isfinite().all()
    assert (wav.grad != 0).float().mean() > 0.8


def test_threads_do_not_disturb_each_other() -> None:
    frontend, wavs = LogMel(), [sound(30000, seed) for seed in range(16)]
    alone = [frontend.spectrogram_cpu(wav) for wav in wavs]
    with ThreadPoolExecutor(4) as pool:
        assert all(np.array_equal(a, b) for a, b in zip(alone, pool.map(frontend.spectrogram_cpu, wavs), strict=True))


@pytest.mark.parametrize("name", PRESETS)
def test_views_and_arrays_that_cannot_be_written_are_taken(name: str) -> None:
    frontend, wav = LogMel(PRESETS[name]), sound(8000)
    locked = wav.copy()
    locked.setflags(write=False)
    assert np.array_equal(frontend.spectrogram_cpu(locked), frontend.spectrogram_cpu(wav))
    assert np.array_equal(frontend.spectrogram_cpu(wav[::-2]), frontend.spectrogram_cpu(wav[::-2].copy()))


def test_copies_and_pickles_work_and_weights_stay_out_of_the_state() -> None:
    frontend, wav = LogMel(), sound(5000)
    spec = frontend.spectrogram_cpu(wav)
    for other in (copy.deepcopy(frontend), pickle.loads(pickle.dumps(frontend))):
        assert np.array_equal(other.spectrogram_cpu(wav), spec)
    assert not frontend.state_dict()


@pytest.mark.parametrize(
    "wrong",
    [
        {"n_fft": 401},
        {"n_fft": 0},
        {"n_fft": 2**20},
        {"hop_size": 0},
        {"n_mels": 0},
        {"n_mels": 10**8},
        {"sample_rate": 0},
        {"sample_rate": 10**12},
        {"f_max": 9000.0},
        {"f_max": float("nan")},
        {"f_min": 8000.0},
        {"log_offset": 0.0},
        {"log_offset": float("nan")},
    ],
)
def test_impossible_front_ends_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        LogMelConfig(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("bands", [1, 80])
def test_statistics_normalise_both_layouts(bands: int) -> None:
    spec = np.random.default_rng(0).normal(-7, 4, (3, 50, 80)).astype(np.float32)
    axes = (0, 1) if bands == 80 else None
    mean, std = np.atleast_1d(spec.mean(axis=axes)), np.atleast_1d(spec.std(axis=axes))
    statistics = Statistics(tuple(mean.tolist()), tuple(std.tolist()))
    frames = statistics.normalise_frames(spec)
    assert frames.mean() == pytest.approx(0, abs=1e-4)
    assert frames.std() == pytest.approx(1, abs=1e-4)
    assert np.allclose(statistics.normalise(torch.from_numpy(spec).transpose(1, 2)).transpose(1, 2), frames, atol=1e-5)


def test_statistics_of_silence_stay_finite() -> None:
    assert (
        Statistics((-16.0,), (0.0,))
        .normalise(torch.full((1, 80, 3), -16.0 + MIN_STD))
        .allclose(torch.ones(1), rtol=1e-2)
    )


def test_statistics_need_pairs() -> None:
    with pytest.raises(ConfigError, match="as many means"):
        Statistics((0.0, 1.0), (1.0,))
