"""Resampling on the device, against soxr and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import soxr
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unheard.audio.resample import resample


@pytest.mark.parametrize(
    ("old", "new"), [(16000, 48000), (48000, 16000), (32000, 48000), (44100, 48000), (44100, 16000)]
)
def test_it_agrees_with_soxr_in_the_pass_band(old: int, new: int) -> None:
    rng = np.random.default_rng(0)
    times = np.arange(old) / old
    tones = [
        0.1 * np.sin(2 * np.pi * hertz * times + rng.uniform(0, 6))
        for hertz in (60.0, 440.0, 1900.0, 0.4 * min(old, new))
    ]
    wav = np.sum(tones, axis=0).astype(np.float32)
    ours = resample(torch.from_numpy(wav)[None], old, new)[0].numpy()
    theirs = soxr.resample(wav, old, new, quality="VHQ")
    assert ours.shape == theirs.shape
    middle = slice(new // 10, -new // 10)
    assert np.abs(ours - theirs)[middle].max() < 2e-4


def test_what_the_new_rate_cannot_hold_is_removed() -> None:
    wav = torch.sin(2 * torch.pi * 15000 * torch.arange(48000).double() / 48000).float()[None]
    assert resample(wav, 48000, 16000)[0, 1000:-1000].abs().max() < 1e-3


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 2000), st.sampled_from([(16000, 48000), (44100, 16000), (8012, 16000)]))
def test_every_length_works(samples: int, rates: tuple[int, int]) -> None:
    out = resample(torch.ones(2, samples), *rates)
    assert out.shape == (2, -(-samples * rates[1] // rates[0])) and out.isfinite().all()


def test_the_same_rate_is_the_same_sound() -> None:
    wav = torch.randn(2, 100)
    assert resample(wav, 16000, 16000) is wav
