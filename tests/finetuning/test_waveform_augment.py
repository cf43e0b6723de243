"""What noise, filters and speed must change in a clip, and what they must not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import signal

from unheard.finetuning.augment import AugmentBatch
from unheard.finetuning.recipe import WaveformAugmentConfig
from unheard.finetuning.waveform_augment import add_white_noise, augment_waveform, biquad_filter, change_speed

RATE = 32000
EVERY = WaveformAugmentConfig(probability=1.0)


def waves(*lengths: int, size: int = 4000, seed: int = 0) -> AugmentBatch:
    generator = torch.Generator().manual_seed(seed)
    made = AugmentBatch(
        torch.randn(len(lengths), size, generator=generator),
        torch.tensor(lengths),
        torch.eye(len(lengths)),
        torch.ones(len(lengths), len(lengths)),
    )
    made.values *= made.valid_mask
    return made


def tones(hertz: float, seconds: float = 0.2) -> AugmentBatch:
    size = round(seconds * RATE)
    wave = torch.sin(2 * torch.pi * hertz * torch.arange(size) / RATE)[None]
    return AugmentBatch(wave, torch.tensor([size]), torch.ones(1, 1), torch.ones(1, 1))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@given(st.lists(st.integers(1, 500), min_size=1, max_size=4), st.integers(0, 1000))
def test_labels_shape_and_padding_stay(lengths: list[int], seed: int) -> None:
    clips = waves(*lengths, size=500, seed=seed)
    before = clips.values.clone()
    changed = augment_waveform(clips, EVERY, RATE, generator(seed))
    assert torch.equal(changed.target, clips.target) and torch.equal(changed.known, clips.known)
    assert changed.values.shape == clips.values.shape and changed.values.dtype == torch.float32
    assert not changed.values[~changed.valid_mask].any() and bool((changed.lengths >= 1).all())
    assert bool((changed.lengths - clips.lengths / 1.2 >= -2).all()) and bool(
        (changed.lengths - clips.lengths / 0.8 <= 2).all()
    )
    assert torch.equal(clips.values, before)


def test_same_seed_same_clips() -> None:
    clips, half = waves(4000, 3000, 2000), WaveformAugmentConfig(probability=0.5)
    ours, theirs, other = (augment_waveform(clips, half, RATE, generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(ours.values, theirs.values) and torch.equal(ours.lengths, theirs.lengths)
    assert not torch.equal(ours.values, other.values)


def test_with_no_chance_nothing_changes_and_with_half_some_clips_stay() -> None:
    clips = waves(*[400] * 200, size=400)
    assert torch.equal(augment_waveform(clips, replace(EVERY, probability=0.0), RATE, generator()).values, clips.values)
    same = (augment_waveform(clips, replace(EVERY, probability=0.5), RATE, generator()).values == clips.values).all(
        dim=1
    )
    assert 0 < int(same.sum()) < 25  # about one in 2^5 has none of the five


def test_a_clip_depends_on_no_other() -> None:
    clips = waves(4000, 3000)
    louder = replace(clips, values=clips.values * torch.tensor([[1.0], [100.0]]))
    ours, theirs = (augment_waveform(each, EVERY, RATE, generator(5)) for each in (clips, louder))
    assert torch.equal(ours.values[0], theirs.values[0])


@pytest.mark.parametrize("decibels", [0.0, 15.0])
def test_noise_is_so_many_decibels_below_the_clip(decibels: float) -> None:
    clips = waves(4000, 2000)
    noisy = add_white_noise(clips, torch.full((2,), decibels), generator())
    added = noisy.values - clips.values
    ratio = clips.values.square().sum(dim=1) / added.square().sum(dim=1)
    assert torch.allclose(10 * ratio.log10(), torch.full((2,), decibels), atol=0.4)
    silent = replace(clips, values=torch.zeros_like(clips.values))
    assert not add_white_noise(silent, torch.zeros(2), generator()).values.any()


@pytest.mark.parametrize("kind", ["low", "high"])
def test_filters_are_those_of_the_cookbook(kind: str) -> None:
    clips = waves(4000, 2500)
    cutoff = torch.tensor([1500.0, 6000.0])
    found = biquad_filter(clips, kind, cutoff, RATE)
    for row, hertz in enumerate(cutoff.tolist()):
        turn = 2 * np.pi * hertz / RATE
        alpha, sign = np.sin(turn) / np.sqrt(2), 1 if kind == "low" else -1
        edge = (1 - sign * np.cos(turn)) / 2
        top, bottom = np.array([edge, 2 * sign * edge, edge]), np.array([1 + alpha, -2 * np.cos(turn), 1 - alpha])
        wanted = signal.lfilter(top, bottom, clips.values[row].double().numpy())
        length = int(clips.lengths[row])
        assert np.allclose(found.values[row, :length], wanted[:length], atol=1e-5)


def test_a_filter_passes_one_side_and_not_the_other() -> None:
    for kind, hertz, share in (
        ("low", 300.0, 1.0),
        ("low", 8000.0, 0.02),
        ("high", 300.0, 0.02),
        ("high", 12000.0, 1.0),
        ("low", 2000.0, 0.5),
    ):
        clips = tones(hertz)
        power = biquad_filter(clips, kind, torch.tensor([2000.0]), RATE).values[:, 1000:].square().mean() / 0.5
        assert float(power) == pytest.approx(share, abs=0.03)


def test_a_cutoff_above_what_the_rate_holds_leaves_something() -> None:
    clips = waves(4000)
    power = biquad_filter(clips, "high", torch.tensor([12000.0]), 16000).values.square().mean()
    assert torch.isfinite(power) and float(power) > 1e-3


@pytest.mark.parametrize("factor", [0.8, 1.0, 1.2])
def test_speed_moves_pitch_and_length_together(factor: float) -> None:
    clips = tones(1000.0, 0.5)
    room = replace(clips, values=torch.nn.functional.pad(clips.values, (0, 8000)))
    played = change_speed(room, torch.tensor([factor]))
    length = int(played.lengths[0])
    assert length == pytest.approx(16000 / factor, abs=2)
    spectrum = torch.fft.rfft(played.values[0, :length]).abs()
    assert float(spectrum.argmax()) * RATE / length == pytest.approx(1000 * factor, abs=4)
    cut = change_speed(clips, torch.tensor([0.5]))
    assert int(cut.lengths[0]) == 16000 and cut.values.shape == clips.values.shape
