"""What is fine-tuned: the same numbers as prediction, gradients where they belong, averages and rates as the recipe
says.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from unheard.audio.frontend import Statistics
from unheard.config import override
from unheard.embedding.classify import logits_many
from unheard.embedding.embedder import Model
from unheard.finetuning.augment import AugmentBatch
from unheard.finetuning.network import FinetuneModule, FinetuneSetup, Network, begin, build_optimiser, patchout
from unheard.finetuning.recipe import AugmentConfig, FinetuneRecipe
from unheard.model.classification import clip_losses
from unheard.model.classifier import Classifier
from unheard.model.masking import num_keep
from unheard.model.patches import Grid
from unheard.model.transformer import Transformer, use_drop_path
from unheard.recipes import find_recipe
from unheard.recipes.learner import build
from unheard.weights.checkpoint import Provenance, SavedModel

SIZES = (
    "frames=64",
    "embed_dim=24",
    "depth=3",
    "num_heads=3",
    "decoder_embed_dim=16",
    "decoder_depth=1",
    "decoder_num_heads=2",
)
BASE = override(find_recipe("msm-mae"), [f"model.{size}" for size in SIZES])
STATISTICS = Statistics((-7.0,), (4.0,))


def tuned(*settings: str, order: str = "freq") -> tuple[FinetuneModule, SavedModel]:
    recipe = override(FinetuneRecipe(), ["adapt.drop_path=0", *settings])
    base = override(BASE, [f"model.token_order={order}"])
    saved = begin(
        SavedModel(build(base), base, STATISTICS, Provenance()),
        FinetuneSetup(recipe, ("a", "b", "c"), "softmax", "here"),
    )
    assert isinstance(saved.classifier, Classifier)
    with torch.no_grad():
        saved.classifier.head.weight.normal_(generator=torch.Generator().manual_seed(0))
    return FinetuneModule(Network(saved.learner.model.encoder, saved.classifier, recipe.augment), recipe), saved


def clips(*lengths: int, width: int = 64, seed: int = 0) -> AugmentBatch:
    generator = torch.Generator().manual_seed(seed)
    made = AugmentBatch(
        torch.randn(len(lengths), 80, width, generator=generator),
        torch.tensor(lengths),
        torch.eye(3)[: len(lengths)],
        torch.ones(len(lengths), 3),
    )
    made.values = made.values * made.valid_mask[:, None]
    return made


@pytest.mark.parametrize("order", ["freq", "time"])
@pytest.mark.parametrize(
    ("pool", "norm"), [("mean", "layer"), ("bands", "layer"), ("bands", "batch"), ("cls", "layer")]
)
def test_training_scores_a_clip_as_prediction_does(pool: str, norm: str, order: str) -> None:
    network, saved = tuned(f"task.pool={pool}", f"task.norm={norm}", order=order)
    network.train()
    network(clips(64, 64, 40))  # a norm over the batch has seen something
    model, rng = Model(saved), np.random.default_rng(0)
    sounds = [(rng.normal(0, 0.1, samples).astype(np.float32), 16000) for samples in (10160, 4000, 7321, 200)]
    specs = [STATISTICS.normalise_frames(model.frontend.spectrogram_cpu(wav)) for wav, _ in sounds]
    batch = torch.zeros(len(specs), 80, 64)
    for row, spec in zip(batch, specs, strict=True):
        row[:, : len(spec)] = torch.from_numpy(spec).T
    network.eval()
    ours = network.network(batch, torch.tensor([len(spec) for spec in specs]))
    theirs = np.stack([logits for _, logits in logits_many(model, sounds)])
    assert np.allclose(ours.detach().numpy(), theirs, atol=1e-4)


def test_a_clip_scores_the_same_whatever_else_is_in_the_batch() -> None:
    network, _ = tuned()
    network.eval()
    many = clips(64, 20, 40)
    together = network.network(many.values, many.lengths)
    alone = torch.cat(
        [
            network.network(many.values[i : i + 1, :, :48] if i else many.values[:1], many.lengths[i : i + 1])
            for i in range(3)
        ]
    )
    assert torch.allclose(together, alone, atol=1e-5)


def test_padding_is_never_used() -> None:
    network, _ = tuned()
    network.eval()
    quiet, loud = clips(20, 40), clips(20, 40)
    loud.values[0, :, 32:] = 100.0
    assert torch.equal(network.network(quiet.values, quiet.lengths), network.network(loud.values, loud.lengths))


@given(st.integers(1, 4), st.integers(1, 9), st.sampled_from(["freq", "time"]), st.floats(0, 0.95), st.integers(0, 99))
def test_patchout_keeps_a_share_of_the_real_patches(
    freq: int, columns: int, order: str, share: float, seed: int
) -> None:
    grid = Grid(freq, 9, (4, 2), order)  # type: ignore[arg-type]
    noise = torch.rand(3, freq * columns, generator=torch.Generator().manual_seed(seed))
    keep = patchout(grid, columns, AugmentConfig(patchout=share), noise)
    assert keep.shape == (3, num_keep(freq * columns, share))
    assert bool((grid.columns()[keep] < columns).all()) and all(len(set(row.tolist())) == keep.shape[1] for row in keep)


def test_structured_patchout_leaves_whole_rows_and_columns_out() -> None:
    grid = Grid(8, 64, (16, 16), "time")
    keep = patchout(grid, 64, AugmentConfig(patchout_2d=(0.2, 0.2)), torch.rand(5, 512))
    for row in keep:
        rows, columns = set(grid.rows()[row].tolist()), set(grid.columns()[row].tolist())
        assert (len(rows), len(columns)) == (6, 51) and len(row) == 6 * 51


def test_patchout_and_drop_path_act_in_training_only() -> None:
    network, _ = tuned("augment.patchout=0.5", "adapt.drop_path=0.5")
    batch = clips(64, 64)
    network.eval()
    torch.manual_seed(0)
    first, second = (network.network(batch.values, batch.lengths) for _ in range(2))
    assert torch.equal(first, second)
    network.train()
    torch.manual_seed(0)
    third, fourth = (network.network(batch.values, batch.lengths) for _ in range(2))
    assert not torch.equal(third, fourth) and not torch.equal(first, third)


def test_drop_path_leaves_branches_out_at_the_rate_of_the_block() -> None:
    transformer = Transformer(8, 3, 2)
    use_drop_path(transformer, 0.4)
    assert [block.drop_path for block in transformer.blocks] == [0.0, 0.2, 0.4]
    block = transformer.blocks[2].train()
    x = torch.randn(4000, 2, 8)
    torch.manual_seed(0)
    branch = block._drop_path(x)  # type: ignore[operator]
    gone = (branch == 0).all(dim=(1, 2))
    assert abs(float(gone.float().mean()) - 0.4) < 0.03
    assert torch.allclose(branch[~gone], x[~gone] / 0.6)


def test_gradients_reach_encoder_and_classifier_and_nothing_else() -> None:
    network, saved = tuned()
    network.train()
    network(clips(64, 20, 40)).backward()
    without = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert without == []
    others = [p for name, p in saved.learner.named_parameters() if not name.startswith("model.encoder.")]
    assert others and all(p.grad is None for p in others)


def test_positions_are_trained_when_asked() -> None:
    fixed, _ = tuned()
    moved, saved = tuned("adapt.trainable_positions=true")
    assert not fixed.network.encoder.positions.requires_grad and moved.network.encoder.positions.requires_grad
    assert saved.recipe.model.trainable_positions and torch.equal(
        fixed.network.encoder.positions, moved.network.encoder.positions
    )


def test_weights_of_the_encoder_are_taken_over_and_the_norm_begins_afresh() -> None:
    learner = build(BASE)
    with torch.no_grad():
        for parameter in learner.parameters():
            parameter.add_(0.5)
    recipe = FinetuneRecipe()
    saved = begin(
        SavedModel(learner, BASE, STATISTICS, Provenance(licence="theirs")),
        FinetuneSetup(recipe, ("a", "b"), "sigmoid", "here"),
    )
    theirs = learner.model.encoder.state_dict()
    ours = saved.learner.model.encoder.state_dict()
    assert {name for name in theirs if name not in ours} == {"transformer.norm.weight", "transformer.norm.bias"}
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())
    assert saved.classifier is not None and torch.equal(saved.classifier.norm.weight, torch.ones(24))
    assert saved.provenance.licence == "theirs" and saved.provenance.encoder_only
    kept = begin(
        SavedModel(learner, BASE, STATISTICS, Provenance()),
        FinetuneSetup(override(recipe, ["task.pool=cls"]), ("a", "b"), "sigmoid", ""),
    )
    assert "transformer.norm.weight" in kept.learner.model.encoder.state_dict()


def mean_loss(logits: torch.Tensor, target: torch.Tensor, annotated: torch.Tensor, activation: str) -> torch.Tensor:
    return clip_losses(logits, target, activation == "sigmoid", annotated).mean()


def test_losses_are_those_of_pytorch() -> None:
    generator = torch.Generator().manual_seed(0)
    logits, target = torch.randn(6, 4, generator=generator), torch.rand(6, 4, generator=generator)
    shares = target / target.sum(dim=1, keepdim=True)
    assert torch.allclose(mean_loss(logits, target, torch.ones(6, 4), "softmax"), F.cross_entropy(logits, shares))
    assert torch.allclose(
        mean_loss(logits, target, torch.ones(6, 4), "sigmoid"), F.binary_cross_entropy_with_logits(logits, target)
    )
    known = (torch.rand(6, 4, generator=generator) < 0.5).float()
    each = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    assert torch.allclose(mean_loss(logits, target, known, "sigmoid"), each[known > 0].sum() / 24)


def test_classes_without_annotation_get_no_gradient() -> None:
    logits = torch.randn(3, 4, requires_grad=True)
    known = torch.ones(3, 4)
    known[:, 2] = 0
    mean_loss(logits, torch.ones(3, 4), known, "sigmoid").backward()
    assert logits.grad is not None and not logits.grad[:, 2].any() and bool(logits.grad[:, 0].all())


def test_rates_fall_from_the_head_to_the_input() -> None:
    network, _ = tuned("adapt.layer_decay=0.5", "adapt.trainable_positions=true", "training.weight_decay=0.1")
    names = {parameter: name for name, parameter in network.network.named_parameters()}
    groups = [
        (names[p], group["scale"], group["weight_decay"])
        for group in build_optimiser(network).param_groups
        for p in group["params"]
    ]
    rates = {name: (scale, decay) for name, scale, decay in groups}
    assert len(groups) == len(rates) == len(names)
    assert rates["classifier.head.weight"] == (1.0, 0.1) and rates["classifier.norm.weight"] == (1.0, 0.0)
    assert rates["encoder.transformer.blocks.2.fc1.weight"] == (0.5, 0.1)
    assert rates["encoder.transformer.blocks.0.fc1.bias"] == (0.125, 0.0)
    assert rates["encoder.patch_embed.weight"] == (0.0625, 0.1)
    assert rates["encoder.cls_token"] == (0.0625, 0.0) and rates["encoder.positions"] == (0.0625, 0.0)


def moved(network: FinetuneModule, value: float) -> None:
    with torch.no_grad():
        for parameter in network.network.parameters():
            parameter.fill_(value)


def test_the_plain_average_is_the_mean_of_the_ends_of_late_epochs() -> None:
    network, _ = tuned("adapt.weight_averaging=swa", "adapt.average_from=0.4")
    for progress, ended, value in ((0.2, 1, 9.0), (0.5, None, 9.0), (0.6, 3, 1.0), (0.8, 4, 2.0), (1.0, 5, 6.0)):
        moved(network, value)
        network.after_step(progress, ended)
        if progress < 0.6:
            assert network.eval_network is network.network
    assert network.eval_network is network.average
    assert torch.allclose(network.eval_network.classifier.head.weight, torch.full((3, 24), 3.0))
    assert not any(parameter.requires_grad for parameter in network.eval_network.parameters())


def test_the_plain_average_may_take_every_second_epoch_only() -> None:
    network, _ = tuned("adapt.weight_averaging=swa", "adapt.average_from=0.1", "adapt.average_every=2")
    for epoch in range(1, 7):
        moved(network, float(epoch))
        network.after_step(epoch / 6, epoch)
    assert torch.allclose(network.eval_network.classifier.head.weight, torch.full((3, 24), 4.0))


def test_the_moving_average_follows_and_settles_at_its_decay() -> None:
    network, _ = tuned("adapt.weight_averaging=ema", "adapt.average_decay=0.9")
    moved(network, 1.0)
    for _ in range(200):
        network.after_step(0.5, None)
    moved(network, 2.0)
    network.after_step(0.5, None)
    assert torch.allclose(network.eval_network.classifier.head.weight, torch.full((3, 24), 1.1), atol=1e-5)


def test_without_an_average_the_weights_themselves_are_kept() -> None:
    network, _ = tuned()
    network.after_step(1.0, 3)
    assert network.eval_network is network.network and network.average is None


def test_a_few_clips_are_learned_by_heart() -> None:
    network, _ = tuned()
    batch, optimiser = clips(64, 20, 40), torch.optim.AdamW(network.network.parameters(), lr=2e-3)
    first = float(network(batch).detach())
    for _ in range(60):
        optimiser.zero_grad()
        value = network(batch)
        value.backward()
        optimiser.step()
    assert float(value.detach()) < 0.05 < first
