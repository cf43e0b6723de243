"""What each augmentation must change, and what it must not."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from unheard.finetuning.augment import AugmentBatch, add_noise, gain, mixup, roll, spec_augment
from unheard.finetuning.augment import _beta as beta

SIZES = st.tuples(st.integers(1, 6), st.integers(1, 40), st.integers(0, 10_000))


def waves(count: int, size: int, seed: int) -> AugmentBatch:
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, size + 1, (count,), generator=generator)
    clips = AugmentBatch(
        torch.randn(count, size, generator=generator), lengths, torch.eye(count), torch.ones(count, count)
    )
    clips.values *= clips.valid_mask
    return clips


def specs(count: int, size: int, seed: int, bands: int = 8) -> AugmentBatch:
    flat = waves(count, size, seed)
    generator = torch.Generator().manual_seed(seed + 1)
    return AugmentBatch(
        torch.randn(count, bands, size, generator=generator) * flat.valid_mask[:, None],
        flat.lengths,
        flat.target,
        flat.known,
    )


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def silent_behind(clips: AugmentBatch) -> bool:
    inside = clips.valid_mask if clips.values.ndim == 2 else clips.valid_mask[:, None].expand_as(clips.values)
    return not clips.values[~inside].any()


EVERY: dict[str, tuple[Callable[..., AugmentBatch], Callable[..., AugmentBatch]]] = {
    "gain": (waves, partial(gain, decibels=(-7, 6))),
    "roll": (waves, partial(roll, max_shift=5)),
    "mixed sound": (waves, partial(mixup, probability=0.7, alpha=2.0, centred=True)),
    "mixed spectrograms": (specs, partial(mixup, probability=0.7, alpha=0.3)),
    "stretches": (specs, partial(spec_augment, freq=0.5, time=0.5)),
    "noise": (specs, partial(add_noise, max_level=0.1)),
}


@pytest.mark.parametrize("name", EVERY)
def test_same_seed_same_clips_and_the_input_stays(name: str) -> None:
    make, change = EVERY[name]
    clips = make(5, 33, 1)
    before = clips.values.clone()
    ours, theirs, other = (change(clips, generator=generator(seed)) for seed in (3, 3, 4))
    assert torch.equal(ours.values, theirs.values) and torch.equal(ours.target, theirs.target)
    assert not torch.equal(ours.values, other.values)
    assert torch.equal(clips.values, before)


@pytest.mark.parametrize("name", EVERY)
def test_padding_stays_silent_and_shapes_stay(name: str) -> None:
    make, change = EVERY[name]
    for seed in range(20):
        clips = make(4, 21, seed)
        changed = change(clips, generator=generator(seed))
        assert changed.values.shape == clips.values.shape and changed.values.dtype == torch.float32
        assert silent_behind(changed) and bool((changed.lengths >= clips.lengths).all())
        if "mixed" not in name:
            assert torch.equal(changed.target, clips.target) and torch.equal(changed.lengths, clips.lengths)


@given(SIZES)
def test_gain_is_a_whole_number_of_decibels_in_its_range(size: tuple[int, int, int]) -> None:
    clips = waves(*size)
    louder = gain(clips, (-7, 6), generator(size[2]))
    factor = louder.values.norm(dim=1) / clips.values.norm(dim=1)
    decibels = 20 * factor.log10()
    assert torch.allclose(decibels, decibels.round(), atol=1e-3) and bool(((decibels > -7.1) & (decibels < 6.1)).all())
    assert torch.allclose(louder.values, clips.values * factor[:, None], atol=1e-5)


def test_gain_reaches_both_ends() -> None:
    clips = AugmentBatch(torch.ones(400, 2), torch.full((400,), 2), torch.ones(400, 1), torch.ones(400, 1))
    decibels = (20 * gain(clips, (-7, 6), generator()).values[:, 0].log10()).round()
    assert set(decibels.int().tolist()) == set(range(-7, 7))


@given(SIZES, st.integers(0, 60))
def test_a_roll_turns_each_clip_within_its_own_length(size: tuple[int, int, int], reach: int) -> None:
    clips = waves(*size)
    turned = roll(clips, reach, generator(size[2]))
    for before, after, length in zip(clips.values, turned.values, clips.lengths.tolist(), strict=True):
        shifts = range(-reach, reach + 1)
        assert any(torch.equal(after[:length], before[:length].roll(shift)) for shift in shifts)
        assert not after[length:].any()


def test_a_roll_of_spectrograms_moves_whole_frames() -> None:
    clips = specs(3, 20, 2)
    turned = roll(clips, 4, generator(1))
    for before, after, length in zip(clips.values, turned.values, clips.lengths.tolist(), strict=True):
        assert torch.equal(after[:, :length].sort(dim=1).values, before[:, :length].sort(dim=1).values)


@given(SIZES, st.sampled_from([0.2, 2.0, 10.0]))
def test_a_mix_of_clips_is_that_of_their_targets(size: tuple[int, int, int], alpha: float) -> None:
    clips = specs(size[0], size[1], size[2])
    mixed = mixup(clips, 1.0, alpha, generator(size[2]))
    assert torch.allclose(mixed.values, torch.einsum("ab,bft->aft", mixed.target, clips.values), atol=1e-5)
    assert torch.allclose(mixed.target.sum(dim=1), torch.ones(size[0])) and bool(
        (mixed.target.diagonal() >= 0.5 - 1e-6).all()
    )
    for weights, length in zip(mixed.target, mixed.lengths, strict=True):
        assert length >= clips.lengths[weights > 1e-6].max()


def test_mixing_by_chance_leaves_some_clips_as_they_are() -> None:
    clips = waves(200, 8, 0)
    half = mixup(clips, 0.5, 2.0, generator(), centred=True)
    untouched = (half.target.diagonal() == 1) & (half.values == clips.values).all(dim=1)
    assert 60 < int(untouched.sum()) < 140
    assert torch.equal(mixup(clips, 0.0, 2.0, generator(), centred=True).values, clips.values)


def test_mixed_sound_has_no_offset_though_its_parts_had() -> None:
    clips = waves(6, 50, 0)
    clips.values += 3.0 * clips.valid_mask
    mixed = mixup(clips, 1.0, 10.0, generator(), centred=True)
    assert float((mixed.values.sum(dim=1) / mixed.lengths).abs().max()) < 1e-5


def test_in_a_mix_a_class_is_known_where_both_clips_know_it() -> None:
    clips = waves(8, 5, 0)
    clips.known = (torch.rand(8, 8, generator=generator(5)) < 0.5).float()
    mixed = mixup(clips, 1.0, 2.0, generator())
    partner = (mixed.target - torch.eye(8) * mixed.target.diagonal()).argmax(dim=1)
    alone = mixed.target.diagonal() > 1 - 1e-6
    assert torch.equal(mixed.known[~alone], (clips.known * clips.known[partner])[~alone])


@given(SIZES, st.floats(0, 1), st.floats(0, 1))
def test_stretches_are_as_wide_as_asked_and_nothing_else_changes(
    size: tuple[int, int, int], freq: float, time: float
) -> None:
    clips = specs(*size)
    clips.values = torch.where(
        clips.valid_mask[:, None], clips.values.abs() + 1, clips.values
    )  # so that a 0 inside was put there
    masked = spec_augment(clips, freq, time, generator(size[2]))
    for before, after, length in zip(clips.values, masked.values, clips.lengths.tolist(), strict=True):
        gone = after[:, :length] == 0
        rows, columns = gone.all(dim=1), gone.all(dim=0)
        assert torch.equal(gone, rows[:, None] | columns[None])
        assert torch.equal(after[:, :length][~gone], before[:, :length][~gone])
        if not rows.all():  # otherwise every column is gone, too
            assert int(columns.sum()) <= time * length + 1e-4 and connected(columns)
        if not columns.all():
            assert int(rows.sum()) <= freq * len(rows) + 1e-4 and connected(rows)


def connected(flags: torch.Tensor) -> bool:
    places = flags.nonzero()[:, 0]
    return len(places) == 0 or int(places[-1] - places[0]) + 1 == len(places)


def test_stretches_reach_every_width_and_place() -> None:
    clips = AugmentBatch(torch.ones(2000, 8, 10), torch.full((2000,), 10), torch.ones(2000, 1), torch.ones(2000, 1))
    masked = spec_augment(clips, 0.5, 0.0, generator())
    gone = (masked.values[:, :, 0] == 0).sum(dim=1)
    assert set(gone.tolist()) == {0, 1, 2, 3, 4}
    assert bool((masked.values == 0).any(dim=0).all())


def test_noise_is_positive_and_small() -> None:
    clips = specs(50, 12, 0)
    added = add_noise(clips, 0.1, generator()).values - clips.values
    assert float(added.min()) >= -1e-6 and 0.05 < float(added.max()) <= 0.1


@pytest.mark.parametrize("alpha", [0.3, 2.0, 10.0])
def test_shares_are_beta_distributed(alpha: float) -> None:
    draws = beta(alpha, 20_000, generator())
    assert abs(float(draws.mean()) - 0.5) < 0.01
    assert abs(float(draws.var()) - 1 / (4 * (2 * alpha + 1))) < 0.01
