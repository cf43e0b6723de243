"""Mixtures of two windows: regions, values, and the targets that retain both sources."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from unheard.config import override
from unheard.errors import ConfigError
from unheard.model.encoder import take
from unheard.model.masking import noise_size
from unheard.model.mixtures import mixture, outside_tokens, region_columns
from unheard.model.patches import Grid
from unheard.objectives.base import Batch
from unheard.objectives.mixing import with_mixtures
from unheard.recipes import find_recipe
from unheard.recipes.learner import PretrainModule, build

TINY = [
    *(f"model.{size}" for size in ("frames=128", "embed_dim=24", "depth=2", "num_heads=2")),
    *(f"model.{size}" for size in ("decoder_embed_dim=24", "decoder_depth=1", "decoder_num_heads=2")),
    *("mask.views=2", "mask.block=2"),
]


def learner_and_batch(frames: list[int]) -> tuple[PretrainModule, Batch]:
    learner = build(override(find_recipe("sslam"), TINY))
    generator, grid, count = torch.Generator().manual_seed(1), learner.grid, torch.tensor(frames)
    spec = torch.randn(len(frames), grid.n_mels, grid.frames, generator=generator)
    spec = spec * (torch.arange(grid.frames) < count[:, None])[:, None]
    numbers = noise_size(learner.recipe.model, learner.recipe.mask, grid)
    batch = Batch(
        spec=spec,
        valid=grid.valid(count),
        clips=torch.arange(len(frames)),
        frames=count,
        start_seconds=torch.zeros(len(frames)),
        noise=torch.rand(len(frames), numbers, generator=generator),
        previous=spec.roll(1, 0),
        previous_frames=count.roll(1),
        regions=torch.tensor([[0.4, 0.7]]).expand(len(frames), 2),
    )
    return learner, batch


def test_regions_of_a_published_window_begin_where_the_reference_draws_them() -> None:
    fine = torch.arange(0, 1, 1 / 512)
    numbers = torch.cartesian_prod(fine, fine)
    found = region_columns(numbers, 64)
    assert (found.sum(dim=1) == 30).all()  # two regions of 15 columns that never overlap
    first = found.int().argmax(dim=1)
    last = 63 - found.flip(1).int().argmax(dim=1)
    assert set(first.tolist()) == set(range(32))
    assert set(last.tolist()) == set(range(15 + 14, 48 + 15)) and bool((last - first >= 29).all())


@pytest.mark.parametrize("columns", [4, 5, 7, 13, 64, 100])
def test_regions_have_the_same_size_for_all_numbers(columns: int) -> None:
    found = region_columns(torch.rand(500, 2, generator=torch.Generator().manual_seed(0)), columns)
    width = max(1, columns * 15 // 64)
    assert (found.sum(dim=1) == 2 * width).all()
    grid = Grid(8, columns, (16, 16), "time")
    outside = outside_tokens(found, grid)
    assert outside.shape[1] == (columns - 2 * width) * 8
    assert not torch.gather(found[:, grid.columns()], 1, outside).any()


def test_the_mixture_is_the_larger_value_outside_of_regions_and_padding() -> None:
    one = torch.tensor([[[1.0, -2.0, -3.0, 0.0, 0.0]]])
    other = torch.tensor([[[5.0, -5.0, 3.0, -4.0, 0.0]]])
    inside = torch.tensor([[True, False, False, False, False]])
    found = mixture(one, other, (torch.tensor([3]), torch.tensor([4])), inside)
    assert found.tolist() == [[[1.0, -2.0, 3.0, -4.0, 0.0]]]


def test_targets_and_losses_equal_the_definition() -> None:
    learner, batch = learner_and_batch([128, 128, 128])
    mask = learner.training_mask(batch)
    losses = learner.losses(batch, mask)
    both, masks, sources = with_mixtures(batch, mask, learner.grid)
    assert sources is not None and learner.model.teacher is not None
    assert torch.equal(masks.keep[:6], masks.keep[6:]) and both.spec.shape[0] == 6
    out = learner.model(learner.grid.patchify(both.spec), masks, both.valid, sources)
    teacher, encoder = learner.model.teacher, learner.model.encoder
    expected = []
    for number in range(3):
        own = teacher(encoder, learner.grid.patchify(batch.spec[number : number + 1]))[0]
        kept = sources.outside[number : number + 1]
        other = teacher(encoder, learner.grid.patchify(batch.spec[number - 1].unsqueeze(0)), kept)[0]
        target = own.clone()
        target[kept[0]] = (own[kept[0]] + other) / 2
        expected.append(target)
    target = take(torch.stack(expected), mask.hide)
    predicted = out.best_prediction()
    retention = (predicted[6:] - target).square().mean()
    torch.testing.assert_close(losses["loss/retention"], retention)
    one_layer = replace(teacher.config, layers=1)
    teacher.config = one_layer
    last = teacher(encoder, learner.grid.patchify(both.spec)).mean(dim=1).repeat_interleave(2, dim=0)
    torch.testing.assert_close(losses["loss/utterance"], (out.cls - last).square().mean())
    frame = (predicted - out.target).square().mean()
    total = 768**0.5 * (frame + retention + 192 * losses["loss/utterance"])
    torch.testing.assert_close(losses["loss"], total)


def test_padding_of_one_source_leaves_the_other_alone() -> None:
    learner, batch = learner_and_batch([128, 32])
    mask = learner.training_mask(batch)
    both, _, sources = with_mixtures(batch, mask, learner.grid)
    assert sources is not None
    inside = region_columns(batch.regions[1:], learner.grid.time).repeat_interleave(16, dim=1)[0]  # type: ignore[index]
    padding = torch.arange(128) >= 32
    assert torch.equal(both.spec[2][:, padding], batch.spec[0][:, padding])  # the other source is padding there
    assert torch.equal(both.spec[3][:, padding & ~inside], batch.spec[0][:, padding & ~inside])
    assert (both.spec[3][:, padding & inside] == 0).all()
    assert torch.equal(both.valid[3], batch.valid[1] | ~inside[learner.grid.columns() * 16])
    assert torch.isfinite(learner.losses(batch, mask)["loss"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["data.mixtures=false"], "data.mixtures=true"),
        (["model.frames=48"], "model.frames to at least 64"),
        (["objectives.supervise.weight=1", 'objectives.supervise.classes=["a","b"]'], "objectives.supervise"),
    ],
)
def test_settings_that_contradict_mixtures_are_refused(settings: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(override(find_recipe("sslam"), [*TINY, *settings]))
