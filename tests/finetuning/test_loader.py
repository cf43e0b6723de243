"""Batches of labelled clips: the same for the same step, drawn as the recipe says, equal to what inference hears."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from unheard.audio.frontend import MATPAC, MSM_MAE_16K, Statistics
from unheard.audio.frontend_kinds import AnyFrontendConfig
from unheard.config import override
from unheard.data.class_sets import ClassSets
from unheard.data.label_table import read_labels
from unheard.data.open_store import Cache
from unheard.data.prefetch import BatchPlan, RankSlice
from unheard.errors import DataError
from unheard.finetuning.clips import PackedLabelledClips, open_sounds
from unheard.finetuning.loader import LabelledBatch, LabelledLoader, clip_weights
from unheard.finetuning.recipe import AugmentConfig, FinetuneRecipe

STATISTICS = Statistics((-7.0,), (4.0,))
PLAIN = replace(FinetuneRecipe(), training=replace(FinetuneRecipe().training, batch_size=4, seed=3))
LOUD = override(
    PLAIN,
    [
        "augment.gain_db=[-6,6]",
        "augment.waveform.probability=0.5",
        "augment.spec_mixup_prob=1",
        "augment.wave_mixup_prob=0.5",
        "augment.mask_time=0.3",
        "augment.noise=0.1",
    ],
)
WIDTH = 64


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place, rng = tmp_path_factory.mktemp("labelled"), np.random.default_rng(0)
    rows = []
    for number in range(10):
        samples = [5000, 10240, 20000][number % 3]
        soundfile.write(place / f"{number}.wav", rng.normal(0, 0.1, samples), 16000)
        rows.append(f"{number}.wav,{'ab'[number % 2] if number < 9 else 'c'}")
    (place / "labels.csv").write_text("path,label\n" + "\n".join(rows) + "\n")
    return place


def sounds_of(folder: Path, frontend: AnyFrontendConfig = MSM_MAE_16K, file: str = "labels.csv") -> PackedLabelledClips:
    labels = read_labels(folder / file)
    return open_sounds(labels, frontend, "mix", Cache(folder / "cache"))


def loader(
    sounds: PackedLabelledClips,
    recipe: FinetuneRecipe = PLAIN,
    share: tuple[int, int] = (0, 1),
    steps: range = range(4),
) -> LabelledLoader:
    clips = np.arange(len(sounds.rows))
    plan = BatchPlan(steps, RankSlice(recipe.training.batch_size, *share))
    return LabelledLoader(sounds, clips, recipe, STATISTICS, WIDTH, plan)


def batches(made: LabelledLoader) -> list[LabelledBatch]:
    with made:
        return list(made)


@pytest.mark.parametrize("recipe", [PLAIN, LOUD], ids=["plain", "augmented"])
def test_a_batch_is_a_function_of_seed_and_step(folder: Path, recipe: FinetuneRecipe) -> None:
    sounds = sounds_of(folder)
    whole, later = batches(loader(sounds, recipe)), batches(loader(sounds, recipe, steps=range(2, 4)))
    for ours, theirs in zip(whole[2:], later, strict=True):
        assert torch.equal(ours.clips.values, theirs.clips.values) and torch.equal(
            ours.clips.target, theirs.clips.target
        )
    other = replace(recipe, training=replace(recipe.training, seed=4))
    assert not torch.equal(loader(sounds, other).batch(0).clips.values, whole[0].clips.values)


def test_an_epoch_has_every_clip_once(folder: Path) -> None:
    sounds = sounds_of(folder)
    rows = torch.cat([batch.rows for batch in batches(loader(sounds, steps=range(5)))])
    assert sorted(rows[:10].tolist()) == list(range(10)) and sorted(rows[10:].tolist()) == list(range(10))
    assert rows[:10].tolist() != rows[10:].tolist()


def test_two_processes_share_the_batch_of_one(folder: Path) -> None:
    sounds = sounds_of(folder)
    alone = loader(sounds).batch(1)
    halves = [loader(sounds, share=(rank, 2)).batch(1) for rank in range(2)]
    assert torch.equal(torch.cat([half.rows for half in halves]), alone.rows)
    assert torch.equal(torch.cat([half.clips.values for half in halves]), alone.clips.values)


def test_targets_belong_to_their_clips_and_padding_is_silent(folder: Path) -> None:
    sounds = sounds_of(folder)
    for batch in batches(loader(sounds)):
        assert torch.equal(batch.clips.target, torch.from_numpy(sounds.target[batch.rows.numpy()]).float())
        for spec, length, row in zip(
            batch.clips.values, batch.clips.lengths.tolist(), batch.rows.tolist(), strict=True
        ):
            assert length == min(WIDTH, int(sounds.store.frames[row])) and not spec[:, length:].any()


@pytest.mark.parametrize("frontend", [MSM_MAE_16K, MATPAC], ids=["centred", "not centred"])
def test_sound_that_augmentation_leaves_alone_gives_the_packed_windows(
    folder: Path, frontend: AnyFrontendConfig
) -> None:
    sounds = sounds_of(folder, frontend)
    waves = replace(PLAIN, augment=AugmentConfig(max_time_shift_seconds=1e-9))
    plain, through = loader(sounds).batch(0), loader(sounds, waves).batch(0)
    assert torch.equal(plain.rows, through.rows) and torch.equal(plain.clips.lengths, through.clips.lengths)
    inner = (
        plain.clips.values[:, :, 2:-4],
        through.clips.values[:, :, 2:-4],
    )  # a crop's edges are reflected, a clip's are followed by zeros
    for ours, theirs, length in zip(*inner, plain.clips.lengths.tolist(), strict=True):
        assert torch.allclose(ours[:, : length - 4], theirs[:, : length - 4], atol=2e-3)


def test_every_augmentation_reaches_the_batch(folder: Path) -> None:
    sounds = sounds_of(folder)
    plain = loader(sounds).batch(0)
    for setting in (
        "gain_db=[3,3]",
        "waveform.probability=1",
        "max_time_shift_seconds=0.1",
        "wave_mixup_prob=1",
        "noise=0.5",
        "mask_freq=0.9",
        "mask_time=0.9",
        "spec_mixup_prob=1",
    ):
        changed = loader(sounds, override(PLAIN, [f"augment.{setting}"])).batch(0)
        assert torch.equal(changed.rows, plain.rows)
        assert not torch.allclose(changed.clips.values, plain.clips.values), setting
        assert torch.equal(changed.clips.target, plain.clips.target) == ("mix" not in setting)


def test_a_faster_clip_still_fills_its_window_where_the_file_continues(folder: Path) -> None:
    sounds = sounds_of(folder)
    fast = loader(sounds, override(PLAIN, ["augment.waveform.probability=1", "augment.waveform.speed=[2,2]"])).batch(0)
    for length, row in zip(fast.clips.lengths.tolist(), fast.rows.tolist(), strict=True):
        frames = int(sounds.store.frames[row])
        assert length == WIDTH if frames > 2.1 * WIDTH else abs(length - min(frames, 2 * WIDTH) / 2) <= WIDTH / 2 + 2
    assert fast.clips.values.shape[-1] == WIDTH


def test_balanced_epochs_draw_rare_classes_more_often_and_no_clip_twice(folder: Path) -> None:
    sounds = sounds_of(folder)
    recipe = override(PLAIN, ["task.balance=class", "task.class_weight_offset=0", "task.epoch_clips=3"])
    draws = loader(sounds, recipe)
    assert draws.epoch_size == 3
    epochs = [draws.order(epoch) for epoch in range(300)]
    assert all(len(set(epoch.tolist())) == 3 for epoch in epochs)
    counts = np.bincount(np.concatenate(epochs), minlength=10)
    assert counts[9] > 2 * counts[:9].max()  # the only clip of its class


def test_balanced_epochs_of_all_clips_repeat_the_rare_ones(folder: Path) -> None:
    draws = loader(sounds_of(folder), override(PLAIN, ["task.balance=class", "task.class_weight_offset=0"]))
    assert draws.epoch_size == 10
    counts = np.bincount(np.concatenate([draws.order(epoch) for epoch in range(300)]), minlength=10)
    assert counts[9] > 2 * counts[:9].max() and np.array_equal(draws.order(3), draws.order(3))


def test_weights_are_summed_over_classes() -> None:
    target = ClassSets.from_lists([(0,), (0,), (0, 1), ()], 3)
    weights = clip_weights(target, np.arange(4), 100.0)
    assert np.allclose(weights, [1000 / 103, 1000 / 103, 1000 / 103 + 1000 / 101, 1000 / 103])


def test_a_column_says_what_is_known(folder: Path) -> None:
    (folder / "known.csv").write_text("path,label,known\n0.wav,a,a|b\n1.wav,b,\n2.wav,c,a\n")
    labels = read_labels(folder / "known.csv")
    assert labels.annotated().tolist() == [[1, 1, 0], [1, 1, 1], [1, 0, 1]]
    (folder / "part.csv").write_text("path,label,known\n0.wav,a,a|x\n1.wav,b,\n")
    assert read_labels(folder / "part.csv").annotated().tolist() == [[1, 0], [1, 1]]


def test_clips_that_cannot_be_read_are_left_out_and_named(folder: Path, tmp_path: Path) -> None:
    (folder / "broken.wav").write_bytes(b"no sound")
    (folder / "broken.csv").write_text("path,label\n0.wav,a\nbroken.wav,a\n1.wav,b\n")
    sounds = sounds_of(folder, file="broken.csv")
    assert sounds.rows.tolist() == [0, 2] and "broken.wav" in sounds.store.skipped[0].path
    assert sounds.target[:].tolist() == [[1, 0], [0, 1]] and sounds.at(np.array([1, 2])).tolist() == [1]
    (folder / "none.csv").write_text("path,label,start\nbroken.wav,a,0\nbroken.wav,b,0.1\n")
    with pytest.raises(DataError, match="none of the 2 clips"):
        sounds_of(folder, file="none.csv")
