"""The decoder with cross-attention: attention pattern, gradients, training, names of its weights."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from unheard.config import override
from unheard.model.masking import Mask, random
from unheard.model.transformer import use_attention
from unheard.objectives.base import Batch
from unheard.recipes import find_recipe
from unheard.recipes.learner import PretrainModule, build

SIZES = (
    "frames=48",
    "embed_dim=24",
    "depth=1",
    "num_heads=2",
    "decoder_embed_dim=16",
    "decoder_depth=2",
    "decoder_num_heads=2",
)
RECIPE = override(find_recipe("msm-mae"), [*(f"model.{size}" for size in SIZES), "model.decoder=cross"])


def learner_and_batch() -> tuple[PretrainModule, Batch, Mask]:
    learner = build(RECIPE, 0)
    patches = learner.grid.num_patches
    generator = torch.Generator().manual_seed(0)
    spec = torch.randn(2, learner.grid.n_mels, learner.grid.frames, generator=generator)
    none = torch.zeros(2, dtype=torch.int64)
    valid = torch.ones(2, patches, dtype=torch.bool)
    batch = Batch(spec, valid, none, none, torch.zeros(2), torch.rand(2, patches, generator=generator))
    return learner, batch, random(batch.noise, 0.6, valid)


def test_a_hidden_patch_does_not_depend_on_which_others_are_asked_for() -> None:
    learner, batch, mask = learner_and_batch()
    visible, _ = learner.model.encoder(learner.grid.patchify(batch.spec), mask.keep)
    whole = learner.model.decoder(visible, mask)
    few = learner.model.decoder(visible, Mask(mask.keep, mask.hide[:, :2]))
    for clip in range(2):
        torch.testing.assert_close(few[clip, mask.hide[clip, :2]], whole[clip, mask.hide[clip, :2]])
        assert (few[clip, mask.hide[clip, 2:]] == 0).all()


def test_it_is_the_equation() -> None:
    learner, batch, mask = learner_and_batch()
    decoder = learner.model.decoder
    with torch.no_grad():
        visible, _ = learner.model.encoder(learner.grid.patchify(batch.spec), mask.keep)
        memory_tokens = decoder.transformer.norm_memory(decoder.embed(visible) + decoder.positions[mask.keep])
        x = decoder.mask_token + decoder.positions[mask.hide]
        for block in decoder.transformer.blocks:
            q = block.attn.query(block.norm1(x)).unflatten(-1, (2, 8)).transpose(1, 2)
            k, v = (
                part.unflatten(-1, (2, 8)).transpose(1, 2) for part in block.attn.memory(memory_tokens).chunk(2, dim=-1)
            )
            x = x + block.attn.proj(((q @ k.transpose(2, 3) / 8**0.5).softmax(-1) @ v).transpose(1, 2).flatten(2))
            x = x + block.fc2(F.gelu(block.fc1(block.norm2(x))))
        expected = decoder.transformer.norm(x)
        for kernel in ("fused", "explicit"):
            use_attention(learner, kernel)
            decoded = decoder(visible, mask)
            for clip in range(2):
                torch.testing.assert_close(decoded[clip, mask.hide[clip]], expected[clip], atol=1e-5, rtol=1e-4)
                torch.testing.assert_close(decoded[clip, mask.keep[clip]], memory_tokens[clip], atol=1e-5, rtol=1e-4)


def test_every_weight_learns_and_a_window_is_learned_by_heart() -> None:
    learner, batch, mask = learner_and_batch()
    optimiser = torch.optim.AdamW(learner.parameters(), 3e-3)
    losses = []
    for _ in range(150):
        optimiser.zero_grad()
        loss = learner.losses(batch, mask)["loss"]
        loss.backward()
        assert [name for name, p in learner.named_parameters() if p.requires_grad and p.grad is None] == []
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.3 * losses[0]
