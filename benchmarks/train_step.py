"""Rows a1, a2, a3: one training step of a masked autoencoder on a CPU core.

Baseline: the step of the MAE family, written here from its description: every patch embedded by a strided convolution,
hidden tokens dropped by a gather, attention as separate products, head and loss on all patches, one AdamW kernel a
tensor, float32. Ours: the step the training loop runs. All have the same weights, batch, masks and sizes; losses are
compared first.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.steps import RATE, Step, candidates, compare_and_time, msm_mae_case
from benchmarks.timing import arguments
from unheard.model import masking
from unheard.objectives.base import Batch
from unheard.recipes.learner import PretrainModule, build
from unheard.training.optim import parameter_groups

# row: size, frames, batch
CASES = {
    "a1 tiny 80x208 batch 32": ("tiny", 208, 32),
    "a2 small 80x208 batch 16": ("small", 208, 16),
    "a2 small 80x512 batch 16": ("small", 512, 16),
}


class Baseline(nn.Module):
    """A masked autoencoder as the reference programs compute it, with a learner's weights."""

    def __init__(self, learner: PretrainModule) -> None:
        super().__init__()
        self.encoder, self.decoder = learner.model.encoder, learner.model.decoder
        self.head = learner.objectives["reconstruct"].head
        self.grid = learner.grid
        embed = self.encoder.patch_embed
        self.conv = nn.Conv2d(1, self.encoder.embed_dim, self.grid.patch_size, stride=self.grid.patch_size)
        self.conv.weight.data.copy_(embed.weight.data.reshape(self.conv.weight.shape))
        self.conv.bias.data.copy_(embed.bias.data)
        del self.encoder.patch_embed

    def forward(self, spec: Tensor, noise: Tensor, kept: int) -> Tensor:
        """The loss on hidden patches, computed on all."""
        x = self.conv(spec[:, None]).flatten(2).transpose(1, 2) + self.encoder.positions
        shuffle = noise.argsort(dim=1)
        restore = shuffle.argsort(dim=1)
        x = torch.gather(x, 1, shuffle[:, :kept, None].expand(-1, -1, x.shape[2]))
        x = torch.cat([self.encoder.cls_token.expand(len(x), 1, -1), x], dim=1)
        x = self.decoder.embed(stack(self.encoder.transformer, x))
        tokens = self.decoder.mask_token.expand(len(x), restore.shape[1] - kept, -1)
        full = torch.gather(torch.cat([x[:, 1:], tokens], dim=1), 1, restore[:, :, None].expand(-1, -1, x.shape[2]))
        x = torch.cat([x[:, :1], full + self.decoder.positions], dim=1)
        predicted = self.head(stack(self.decoder.transformer, x))[:, 1:]
        error = (predicted - self.grid.patchify(spec)).square().mean(dim=-1)
        hidden = restore >= kept
        return (error * hidden).sum() / hidden.sum()


def stack(transformer: nn.Module, x: Tensor) -> Tensor:
    """Blocks with attention written out."""
    for block in transformer.blocks:
        normed = block.norm1(x)
        batch, tokens, dim = normed.shape
        heads = block.attn.num_heads
        q, k, v = block.attn.qkv(normed).reshape(batch, tokens, 3, heads, dim // heads).permute(2, 0, 3, 1, 4)
        weights = (q @ k.transpose(-2, -1) * (dim // heads) ** -0.5).softmax(dim=-1)
        x = x + block.attn.proj((weights @ v).transpose(1, 2).reshape(batch, tokens, dim))
        x = x + block.fc2(F.gelu(block.fc1(block.norm2(x))))
    return transformer.norm(x)


def baseline_step(learner: PretrainModule, batch: Batch, device: str = "cpu", half: bool = False) -> Step:
    """The reference's step; on a GPU with the default kernels of AdamW, and with ``half`` in float16."""
    foreach = False if device == "cpu" else None
    model = Baseline(learner).to(device)
    groups = parameter_groups(model, 0.05)
    optimiser = torch.optim.AdamW(groups, lr=RATE, betas=(0.9, 0.95), foreach=foreach, fused=False)
    kept = masking.num_keep(batch.noise.shape[1], 0.75)

    def run() -> tuple[float, ...]:
        with torch.autocast(device, torch.float16, enabled=half):
            loss = model(batch.spec, batch.noise, kept)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        return (loss.item(),)

    return Step(run, len(batch.spec))


def main() -> None:
    """Compare and time every case; ``--rounds`` and ``--json`` as everywhere."""
    given = arguments(__doc__.splitlines()[0], rounds=7)
    torch.set_num_threads(1)
    for title, case in CASES.items():
        recipe, batch = msm_mae_case(*case)
        baseline = {"MAE-style step, float32": baseline_step(build(recipe, 0), batch)}
        compare_and_time(title, candidates(baseline, recipe, batch), "samples", given)


if __name__ == "__main__":
    main()
