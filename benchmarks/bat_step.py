"""Row a5: one training step of BAT on a CPU core, with one view of each window and with sixteen.

Baseline: the step written out from the paper's description in float32: every patch embedded by a strided convolution,
the tokens copied for each view before any is dropped, attention and gate as separate products, one kernel a tensor in
the averages and in AdamW. Ours: the step the training loop runs, its diagnostics included. All have the same weights,
batch, masks and sizes; both losses are compared first. An item is one view.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.loader import FRAMES, loader_of, packed
from benchmarks.steps import RATE, Step, candidates, compare_and_time, made_batch, our_step
from benchmarks.timing import arguments
from unheard.model.masking import Mask
from unheard.objectives.base import Batch
from unheard.recipes import find_recipe
from unheard.recipes.learner import PretrainModule, build

CASES = {
    "a5 tiny 128x208 16 windows, 1 view": ("tiny", 208, 16, 1),
    "a5 tiny 128x208 4 windows, 16 views": ("tiny", 208, 4, 16),
}  # row: size, frames, windows, views
EPS = 1e-6


class Baseline(nn.Module):
    """BAT's pass with a learner's weights, step by step."""

    def __init__(self, learner: PretrainModule) -> None:
        super().__init__()
        self.encoder, self.decoder = learner.model.encoder, learner.model.decoder
        self.teacher, self.project = learner.model.teacher.encoder, learner.model.predictor.project
        for encoder in (self.encoder, self.teacher):
            embed, size = encoder.patch_embed, learner.grid.patch_size
            encoder.conv = nn.Conv2d(1, encoder.embed_dim, size, stride=size)
            encoder.conv.weight.data.copy_(embed.weight.data.reshape(encoder.conv.weight.shape))
            encoder.conv.bias.data.copy_(embed.bias.data)
            del encoder.patch_embed
        self.teacher.requires_grad_(False)

    def forward(self, spec: Tensor, mask: Mask) -> tuple[Tensor, Tensor]:
        """Both losses."""
        views, count = len(mask.keep) // len(spec), mask.keep.shape[1] + mask.hide.shape[1]
        x = embedded(self.encoder, spec).repeat_interleave(views, dim=0)
        keep = mask.keep[:, :, None].expand(-1, -1, x.shape[2])
        seen = with_cls(self.encoder, torch.gather(x, 1, keep))
        for block in self.encoder.transformer.blocks:
            seen = post_norm(block, seen)
        with torch.no_grad():
            target = self.target(spec).repeat_interleave(views, dim=0)
        full = self.decoder.mask_token.expand(len(seen), count, -1).scatter(1, keep, seen[:, 1:])
        full = full + self.decoder.positions
        for block in self.decoder.transformer.blocks:
            full = post_norm(block, full)
        hide = mask.hide[:, :, None].expand(-1, -1, full.shape[2])
        error = self.project(torch.gather(full, 1, hide)) - torch.gather(target, 1, hide)
        return error.square().mean(), (seen[:, 0] - target.mean(dim=1)).square().mean()

    def target(self, spec: Tensor) -> Tensor:
        """Mean over the blocks of the standardised outputs, standardised again over channels."""
        x = with_cls(self.teacher, embedded(self.teacher, spec))
        layers = []
        for block in self.teacher.transformer.blocks:
            x = post_norm(block, x)
            patches = x[:, 1:]
            mean, variance = patches.mean(dim=1, keepdim=True), patches.var(dim=1, correction=0, keepdim=True)
            layers.append((patches - mean) / (variance + EPS).sqrt())
        return F.layer_norm(torch.stack(layers).mean(dim=0), x.shape[-1:], eps=EPS)

    @torch.no_grad()
    def ema_update(self, momentum: float) -> None:
        """Move the teacher, tensor by tensor."""
        for slow, fast in zip(self.teacher.parameters(), self.encoder.parameters(), strict=True):
            slow.mul_(momentum).add_(fast, alpha=1 - momentum)


def embedded(encoder: nn.Module, spec: Tensor) -> Tensor:
    """Every patch, column by column, with its position."""
    return encoder.conv(spec[:, None]).permute(0, 3, 2, 1).flatten(1, 2) + encoder.positions


def with_cls(encoder: nn.Module, x: Tensor) -> Tensor:
    """Tokens after the CLS token and the input norm."""
    return encoder.input_norm(torch.cat([encoder.cls_token.expand(len(x), 1, -1), x], dim=1))


def post_norm(block: nn.Module, x: Tensor) -> Tensor:
    """A gated block with attention written out."""
    batch, tokens, dim = x.shape
    heads = block.attn.num_heads
    q, k, v = block.attn.qkv(x).reshape(batch, tokens, 3, heads, dim // heads).permute(2, 0, 3, 1, 4)
    weights = (q @ k.transpose(-2, -1) * (dim // heads) ** -0.5).softmax(dim=-1)
    joined = (weights @ v).transpose(1, 2).reshape(batch, tokens, dim)
    x = block.norm1(x + block.attn.proj(joined * block.attn.gate(x).sigmoid()))
    return block.norm2(x + block.fc2(F.gelu(block.fc1(x))))


def baseline_step(learner: PretrainModule, batch: Batch) -> Step:
    """The step of the description."""
    mask, model = learner.training_mask(batch), Baseline(learner)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=RATE, betas=(0.9, 0.95), weight_decay=0.05, foreach=False, fused=False)

    def run() -> tuple[float, ...]:
        latents, utterance = model(batch.spec, mask)
        optimiser.zero_grad()
        (latents + utterance).backward()
        optimiser.step()
        model.ema_update(0.9999)
        return latents.item(), utterance.item()

    return Step(run, len(mask.keep))


def shares(learner: PretrainModule, batch: Batch) -> str:
    """Text with the fractions of our step in float32 that the teacher takes, and that a loader adds to it.

    The loader cuts windows from a packed corpus of noise in a mapped shard.
    """
    step, patches, turn = our_step(learner, batch, False, False), learner.grid.patchify(batch.spec), iter(range(10**9))
    rng, shape = np.random.default_rng(0), (learner.recipe.frontend.n_mels, FRAMES)
    with tempfile.TemporaryDirectory() as folder:
        specs = [rng.uniform(0, 1, shape).astype(np.float32) for _ in range(100)]
        store = packed(Path(folder), specs, "float16", learner.recipe.frontend)
        loader = loader_of(store, learner.grid, len(batch.spec))
        whole = seconds(step)
        teacher = seconds(lambda: learner.model.teacher(learner.model.encoder, patches)) / whole
        loading = seconds(lambda: loader.batch(next(turn))) / whole
    return f"; the teacher takes {teacher:.0%} of our step in float32, a loader takes {loading:.2%} of its time"


def seconds(run: Callable[[], object]) -> float:
    """CPU seconds of three runs, after one."""
    run()
    begin = time.process_time()
    for _ in range(3):
        run()
    return time.process_time() - begin


def main() -> None:
    """Compare and time every case; ``--rounds`` and ``--json`` as everywhere."""
    given = arguments(__doc__.splitlines()[0], rounds=7)
    torch.set_num_threads(1)
    for title, (size, frames, count, views) in CASES.items():
        published = find_recipe("bat")
        model, mask = replace(published.model, size=size, frames=frames), replace(published.mask, views=views)
        recipe = replace(published, model=model, mask=mask)
        batch = made_batch(recipe, frames, count)
        baseline = {"BAT-style step, float32": baseline_step(build(recipe, 0), batch)}
        compare_and_time(title, candidates(baseline, recipe, batch), "views", given, shares(build(recipe, 0), batch))


if __name__ == "__main__":
    main()
