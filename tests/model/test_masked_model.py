"""Encoder, decoder, teacher; equality with an independent implementation of MAE."""

from dataclasses import replace

import pytest
import torch
from transformers import ViTMAEConfig, ViTMAEForPreTraining

from unheard.audio.frontend import LogMelConfig
from unheard.config import override
from unheard.errors import ConfigError
from unheard.model import masking
from unheard.model.sizes import ModelConfig, resolve_sizes
from unheard.model.transformer import use_attention
from unheard.objectives.base import Batch
from unheard.objectives.latents import LatentsConfig
from unheard.objectives.reconstruct import ReconstructConfig
from unheard.recipes import find_recipe
from unheard.recipes.learner import build
from unheard.recipes.recipe import ObjectivesConfig, Recipe

MODEL = ModelConfig(
    frames=80,
    patch_size=(16, 16),
    embed_dim=48,
    depth=3,
    num_heads=4,
    decoder_embed_dim=32,
    decoder_depth=2,
    decoder_num_heads=2,
)


def batch_of(spec, grid, seed=0):
    noise = torch.rand(len(spec), grid.num_patches, generator=torch.Generator().manual_seed(seed))
    count = torch.arange(len(spec))
    return Batch(spec, torch.ones_like(noise, dtype=torch.bool), count, count, count.float(), noise)


def test_loss_and_predictions_equal_transformers_vitmae():
    pytest.importorskip("transformers", "5.12")  # earlier versions name the weights of ViTMAE otherwise
    torch.manual_seed(0)
    config = ViTMAEConfig(
        hidden_size=48,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=192,
        image_size=80,
        patch_size=16,
        num_channels=1,
        decoder_hidden_size=32,
        decoder_num_hidden_layers=2,
        decoder_num_attention_heads=2,
        decoder_intermediate_size=128,
        layer_norm_eps=1e-6,
        mask_ratio=0.75,
        norm_pix_loss=True,
        attn_implementation="eager",
    )
    theirs = ViTMAEForPreTraining(config).eval()
    for parameter in theirs.parameters():
        if parameter.requires_grad:  # the position tables stay
            parameter.data += 0.05 * torch.randn_like(parameter)
    ours = build(Recipe(model=MODEL, objectives=ObjectivesConfig(ReconstructConfig(norm_pix=True))))
    ours.load_state_dict(from_vitmae(theirs), strict=True)
    spec = torch.randn(3, 80, 80)
    batch = batch_of(spec, ours.grid)
    mask = masking.random(batch.noise, 0.75)
    expected = theirs(spec[:, None], noise=batch.noise)
    torch.testing.assert_close(ours.losses(batch, mask)["loss"], expected.loss, rtol=1e-5, atol=0)
    decoded = ours.model(ours.grid.patchify(spec), mask).decoded
    torch.testing.assert_close(ours.objectives["reconstruct"].head(decoded), expected.logits, rtol=1e-4, atol=1e-5)


def from_vitmae(theirs):
    """Copy an HF model's weights to our names."""
    keys = theirs.state_dict()
    named = {
        "model.encoder.cls_token": keys["vit.embeddings.cls_token"].flatten(),
        "model.encoder.positions": keys["vit.embeddings.position_embeddings"][0, 1:],
        "model.encoder.patch_embed.weight": keys["vit.embeddings.patch_embeddings.projection.weight"].flatten(1),
        "model.encoder.patch_embed.bias": keys["vit.embeddings.patch_embeddings.projection.bias"],
        "model.decoder.mask_token": keys["decoder.mask_token"].flatten(),
        "model.decoder.positions": keys["decoder.decoder_pos_embed"][0, 1:],
    }
    for part in ("weight", "bias"):
        named[f"model.encoder.transformer.norm.{part}"] = keys[f"vit.layernorm.{part}"]
        named[f"model.decoder.embed.{part}"] = keys[f"decoder.decoder_embed.{part}"]
        named[f"model.decoder.transformer.norm.{part}"] = keys[f"decoder.decoder_norm.{part}"]
        named[f"objectives.reconstruct.head.{part}"] = keys[f"decoder.decoder_pred.{part}"]
        for stem, ours, depth in (("vit.layers", "model.encoder", 3), ("decoder.decoder_layers", "model.decoder", 2)):
            for index in range(depth):
                block, target = f"{stem}.{index}", f"{ours}.transformer.blocks.{index}"
                named[f"{target}.attn.qkv.{part}"] = torch.cat(
                    [keys[f"{block}.attention.{name}_proj.{part}"] for name in "qkv"]
                )
                named[f"{target}.attn.proj.{part}"] = keys[f"{block}.attention.o_proj.{part}"]
                named[f"{target}.norm1.{part}"] = keys[f"{block}.layernorm_before.{part}"]
                named[f"{target}.norm2.{part}"] = keys[f"{block}.layernorm_after.{part}"]
                named[f"{target}.fc1.{part}"] = keys[f"{block}.mlp.fc1.{part}"]
                named[f"{target}.fc2.{part}"] = keys[f"{block}.mlp.fc2.{part}"]
    return named


def latent_recipe(**changes):
    objectives = ObjectivesConfig(ReconstructConfig(weight=0.0), LatentsConfig(weight=1.0))
    return replace(Recipe(model=MODEL, objectives=objectives), **changes)


def test_hidden_patches_do_not_reach_the_encoder():
    learner = build(Recipe(model=MODEL))
    spec = torch.randn(2, 80, 80)
    mask = masking.random(batch_of(spec, learner.grid).noise, 0.75)
    patches = learner.grid.patchify(spec)
    changed = patches.clone()
    changed.scatter_(1, mask.hide[:, :, None].expand(-1, -1, patches.shape[2]), 9.0)
    torch.testing.assert_close(
        learner.model.encoder(patches, mask.keep)[0], learner.model.encoder(changed, mask.keep)[0]
    )


def test_both_attention_kernels_give_the_same_numbers():
    learner = build(Recipe(model=MODEL))
    patches = torch.randn(2, 25, 256)
    fused = learner.model.encoder(patches)[0]
    use_attention(learner, "explicit")
    torch.testing.assert_close(learner.model.encoder(patches)[0], fused, rtol=1e-5, atol=1e-5)


def test_the_last_layer_is_the_output_and_attention_rows_sum_to_one_with_cls():
    encoder = build(Recipe(model=MODEL)).model.encoder
    patches = torch.randn(2, 25, 256)
    torch.testing.assert_close(encoder.layers(patches)[-1], encoder(patches)[0])
    weights = encoder.transformer.attention(encoder.with_cls(encoder.tokens(patches)))
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones(2, 4, 26))


def test_a_latent_loss_moves_the_encoder_and_never_the_teacher():
    learner = build(latent_recipe())
    spec = torch.randn(2, 80, 80)
    batch = batch_of(spec, learner.grid)
    learner.losses(batch, masking.random(batch.noise, 0.7))["loss"].backward()
    with_gradient = {name for name, p in learner.named_parameters() if p.grad is not None and bool((p.grad != 0).any())}
    assert "model.encoder.patch_embed.weight" in with_gradient
    assert "model.encoder.transformer.blocks.0.attn.qkv.weight" in with_gradient
    assert "model.predictor.project.weight" in with_gradient
    assert not any(name.startswith("model.teacher") for name in with_gradient)


def test_weight_zero_builds_neither_head_nor_teacher():
    learner = build(Recipe(model=MODEL))
    assert learner.model.teacher is None and learner.model.predictor is None
    assert set(learner.objectives) == {"reconstruct"}
    assert set(build(latent_recipe()).objectives) == {"latents"}
    with pytest.raises(ConfigError, match="nothing to learn"):
        build(Recipe(model=MODEL, objectives=ObjectivesConfig(ReconstructConfig(weight=0.0))))


def test_the_same_seed_builds_the_same_weights_and_leaves_the_global_generator_alone():
    state = torch.get_rng_state()
    first, second, other = (build(Recipe(model=MODEL), seed=seed) for seed in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert not torch.equal(first.model.encoder.patch_embed.weight, other.model.encoder.patch_embed.weight)


@pytest.mark.parametrize(
    ("size", "millions"), [("tiny", 5.4), ("small", 21.4), ("base", 85.3), ("large", 302.7), ("huge", 630.4)]
)
def test_named_sizes_are_the_usual_vits(size, millions):
    chosen = resolve_sizes(ModelConfig(size=size))
    count = 12 * chosen.embed_dim**2 * chosen.depth + 256 * chosen.embed_dim
    assert count / 1e6 == pytest.approx(millions, rel=0.02)


def test_a_width_its_heads_do_not_divide_is_refused():
    with pytest.raises(ConfigError, match="multiple of 4 and of model.num_heads"):
        resolve_sizes(ModelConfig(embed_dim=50, num_heads=4))


@pytest.mark.parametrize("name", ["msm-mae", "m2d", "audiomae", "eat"])
def test_the_encoder_of_size_huge_has_632_million_parameters(name):
    with torch.device("meta"):
        learner = build(override(find_recipe(name), ["model.size=huge"]))
    blocks = learner.model.encoder.transformer.blocks
    assert (learner.model.encoder.embed_dim, len(blocks), blocks[0].attn.num_heads) == (1280, 32, 16)
    count = sum(parameter.numel() for parameter in learner.model.encoder.parameters())
    assert count / 1e6 == pytest.approx(632, rel=0.005)


def test_the_paper_model_has_the_published_number_of_trainable_parameters():
    recipe = replace(Recipe(), model=ModelConfig(size="base"), frontend=LogMelConfig())
    count = sum(p.numel() for p in build(recipe).parameters())
    assert count == 92_747_008  # with a key bias; the paper's layout has none: 92,736,256
