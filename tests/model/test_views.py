"""Several masks of one window in one pass, and teachers that encode the whole window."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from unheard.errors import ConfigError
from unheard.model import masking
from unheard.model.conv_decoder import ConvDecoder, normal_numbers
from unheard.model.masking import Mask
from unheard.model.patches import Grid
from unheard.model.sizes import MaskConfig
from unheard.objectives.base import Batch
from unheard.objectives.teacher_schedules import TeacherConfig, TrainingProgress, momentum
from unheard.recipes import find_recipe
from unheard.recipes.learner import PretrainModule, build
from unheard.recipes.recipe import Recipe

SIZES = {"frames": 64, "embed_dim": 24, "depth": 2, "num_heads": 2, "decoder_embed_dim": 24, "decoder_depth": 2}


def small(name: str, views: int = 3) -> Recipe:
    recipe = find_recipe(name)
    model = replace(recipe.model, **SIZES, decoder_num_heads=2)  # type: ignore[arg-type]
    return replace(recipe, model=model, mask=replace(recipe.mask, block=2, views=views))


def batch_of(learner: PretrainModule, windows: int = 2, padded: int = 0) -> Batch:
    grid, generator = learner.grid, torch.Generator().manual_seed(1)
    count = masking.noise_size(learner.recipe.model, learner.recipe.mask, grid)
    frames = torch.full((windows,), grid.frames)
    frames[0] -= padded
    real = torch.arange(grid.frames) < frames[:, None]
    spec = torch.randn(windows, grid.n_mels, grid.frames, generator=generator) * real[:, None]
    index, noise = torch.arange(windows), torch.rand(windows, count, generator=generator)
    return Batch(spec, grid.valid(frames), index, frames, index.float(), noise)


@pytest.mark.parametrize("name", ["eat", "bat"])
def test_views_of_a_window_equal_single_passes(name: str) -> None:
    learner = build(small(name)).eval()
    batch = batch_of(learner)
    mask, patches = learner.training_mask(batch), learner.grid.patchify(batch.spec)
    with torch.no_grad():
        together = learner.model(patches, mask, batch.valid)
        for row in range(6):
            seed = None if mask.seed is None else mask.seed[row : row + 1]
            window = slice(row // 3, row // 3 + 1)
            one = Mask(mask.keep[row : row + 1], mask.hide[row : row + 1], seed)
            alone = learner.model(patches[window], one, batch.valid[window])
            for part in ("visible", "cls", "predicted", "target"):
                torch.testing.assert_close(getattr(alone, part)[0], getattr(together, part)[row], atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(alone.whole, together.whole[window], atol=1e-5, rtol=1e-5)


def test_one_view_of_a_random_mask_is_that_of_the_same_numbers() -> None:
    grid, noise = Grid(5, 4, (16, 16)), torch.rand(3, 20)
    config = find_recipe("m2d").model
    mask = masking.training_mask(config, grid, noise)
    expected = masking.random(noise, config.mask_ratio)
    assert torch.equal(mask.keep, expected.keep) and torch.equal(mask.hide, expected.hide)
    assert masking.noise_size(config, MaskConfig(), grid) == 20


def test_blocks_keep_squares_and_an_exact_number() -> None:
    grid, blocks = Grid(8, 64, (16, 16), "time"), MaskConfig("inverse_block", views=2)
    config = replace(find_recipe("eat").model)
    noise = torch.rand(50, masking.noise_size(config, blocks, grid), generator=torch.Generator().manual_seed(0))
    mask = masking.training_mask(config, grid, noise, None, blocks)
    assert mask.keep.shape == (100, 102) and mask.hide.shape == (100, 410)
    assert torch.equal(mask.keep, mask.keep.sort(dim=1).values)
    image = (~mask.hidden()).reshape(100, 1, 64, 8).float()
    squares = torch.nn.functional.avg_pool2d(image, 5, 1).amax(dim=(1, 2, 3))
    assert (squares > 0.9).float().mean() > 0.8
    scattered = masking.random(torch.rand(100, 512), 0.8)
    others = (~scattered.hidden()).reshape(100, 1, 64, 8).float()
    assert torch.nn.functional.avg_pool2d(others, 5, 1).amax() < 0.7


def test_blocks_hide_padding_first() -> None:
    grid, blocks = Grid(8, 8, (16, 16), "time"), MaskConfig("inverse_block", 3)
    valid = grid.valid(torch.tensor([48]))  # 24 of 64 patches
    config = replace(find_recipe("eat").model)
    noise = torch.rand(1, masking.noise_size(config, blocks, grid))
    mask = masking.training_mask(config, grid, noise, valid, blocks)
    assert mask.keep.shape[1] == 12 and bool(valid.gather(1, mask.keep).all())


def test_the_teacher_gets_no_gradient_and_starts_as_the_student() -> None:
    learner = build(small("eat"))
    batch = batch_of(learner, padded=40)
    teacher, encoder = learner.model.teacher, learner.model.encoder
    assert teacher is not None and teacher.encoder is not None
    for own, students in zip(teacher.encoder.parameters(), encoder.parameters(), strict=True):
        assert torch.equal(own, students) and own is not students
    learner.losses(batch, learner.training_mask(batch))["loss"].backward()
    assert all(parameter.grad is None for parameter in teacher.parameters())
    missing = {name for name, value in learner.named_parameters() if value.requires_grad and value.grad is None}
    assert not missing
    before = teacher.encoder.cls_token.clone()
    with torch.no_grad():
        encoder.cls_token += 1
    teacher.ema_update(encoder, 0.75)
    torch.testing.assert_close(teacher.encoder.cls_token, before + 0.25)


def test_padding_does_not_change_the_targets_statistics() -> None:
    learner = build(small("bat", views=1)).eval()
    batch = batch_of(learner, windows=1, padded=32)
    whole = learner.model(learner.grid.patchify(batch.spec), learner.training_mask(batch), batch.valid).whole
    assert whole is not None
    kept = whole[0][batch.valid[0]]
    assert kept.mean(dim=0).abs().max() < 0.2 and whole.isfinite().all()


def test_noise_tokens_depend_on_seed_and_patch_alone() -> None:
    seed, index = torch.tensor([5, 2**40 + 3, 5]), torch.tensor([[0, 7], [0, 7], [7, 1]])
    found = normal_numbers(seed, index, 9)
    assert found.shape == (3, 2, 9) and torch.equal(found[0, 1], found[2, 0]) and not torch.equal(found[0], found[1])
    many = normal_numbers(torch.arange(64), torch.arange(100).expand(64, -1), 64)
    assert abs(float(many.mean())) < 5e-3 and abs(float(many.std()) - 1) < 5e-3
    near = torch.corrcoef(torch.stack([many[:-1].flatten(), many[1:].flatten()]))[0, 1]
    assert abs(float(near)) < 5e-3


def test_the_convolutional_decoder_depends_on_the_noise_of_the_batch_only() -> None:
    learner = build(small("eat")).eval()
    batch, decoder = batch_of(learner), learner.model.decoder
    assert isinstance(decoder, ConvDecoder)
    mask, patches = learner.training_mask(batch), learner.grid.patchify(batch.spec)
    torch.manual_seed(1)
    first = learner.model(patches, mask).decoded
    torch.manual_seed(2)
    assert torch.equal(first, learner.model(patches, mask).decoded)
    silent = learner.model(patches, Mask(mask.keep, mask.hide)).decoded
    assert not torch.equal(first, silent)


def test_the_momentum_reaches_its_end_early() -> None:
    teacher = TeacherConfig(momentum_start=0.9, momentum_end=0.99, anneal=0.25, max_initial_weight=1.0)
    ends = teacher.momentum_start, teacher.momentum_end
    found = [momentum(*ends, 1.0, TrainingProgress(step, 100), teacher.anneal) for step in (0, 10, 25, 100)]
    assert found == pytest.approx([0.9, 0.936, 0.99, 0.99])
    assert momentum(0.9, 0.99, 1e-9, TrainingProgress(100, 100), 0.25) < 0.99


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layers": 3}, "the encoder has 2 blocks"),
        ({"layers": 2, "taps": "last"}, "teacher.taps=block or mlp"),
        ({"sees": "hidden"}, "set teacher.sees=all"),
    ],
)
def test_contradicting_teachers_are_refused(changes: dict[str, object], message: str) -> None:
    recipe = small("eat")
    with pytest.raises(ConfigError, match=message):
        build(replace(recipe, teacher=replace(recipe.teacher, **changes)))  # type: ignore[arg-type]


def test_the_utterance_objective_names_what_it_needs() -> None:
    recipe = small("eat")
    learner = build(replace(recipe, teacher=replace(recipe.teacher, sees="hidden", norm="none")))
    batch = batch_of(learner)
    with pytest.raises(ConfigError, match="set teacher.sees=all"):
        learner.losses(batch, learner.training_mask(batch))
