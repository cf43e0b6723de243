"""Row a4: one training step of MATPAC on a CPU core: two encoders, a predictor, two prototype heads, and their
averages.

Baseline: the step written out from the paper's description in float32, as programs of this family compute it: every
patch embedded by a strided convolution before any is dropped, attention as separate products, the predictor's output
put back in grid order and shuffled again, softmax and logarithm apart, one kernel a tensor in the averages and in
AdamW. Ours: the step the training loop runs, its diagnostics included. All have the same weights, batch, masks and
sizes; both losses are compared first.
"""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.steps import NOW, RATE, Step, candidates, compare_and_time, made_batch
from benchmarks.timing import arguments
from benchmarks.train_step import stack
from unheard.model import masking
from unheard.objectives.base import Batch
from unheard.recipes import find_recipe
from unheard.recipes.learner import PretrainModule, build

CASES = {
    "a4 tiny 80x208 batch 32": ("tiny", 208, 32),
    "a4 small 80x208 batch 16": ("small", 208, 16),
}  # row: size, frames, batch
CLIP = 3.0


class Baseline(nn.Module):
    """MATPAC's pass with a learner's weights, step by step."""

    def __init__(self, learner: PretrainModule) -> None:
        super().__init__()
        self.encoder, self.decoder, self.teacher = learner.model.encoder, learner.model.decoder, learner.model.teacher
        self.project, self.prototypes, self.grid = (
            learner.model.predictor.project,
            learner.objectives["prototypes"],
            learner.grid,
        )
        embed = self.encoder.patch_embed
        self.conv = nn.Conv2d(1, self.encoder.embed_dim, self.grid.patch_size, stride=self.grid.patch_size)
        self.conv.weight.data.copy_(embed.weight.data.reshape(self.conv.weight.shape))
        self.conv.bias.data.copy_(embed.bias.data)
        del self.encoder.patch_embed

    def forward(self, spec: Tensor, noise: Tensor, kept: int) -> tuple[Tensor, Tensor]:
        """Both losses."""
        x = self.conv(spec[:, None]).flatten(2).transpose(1, 2) + self.encoder.positions
        shuffle = noise.argsort(dim=1)
        restore = shuffle.argsort(dim=1)
        ordered = torch.gather(x, 1, shuffle[:, :, None].expand(-1, -1, x.shape[2]))
        cls = self.encoder.cls_token.expand(len(x), 1, -1)
        seen = stack(self.encoder.transformer, torch.cat([cls, ordered[:, :kept]], dim=1))
        with torch.no_grad():
            target = stack(self.teacher.transformer, torch.cat([cls, ordered[:, kept:]], dim=1))[:, 1:]
        tokens = self.decoder.embed(seen)
        full = torch.cat([tokens[:, 1:], self.decoder.mask_token.expand(len(x), x.shape[1] - kept, -1)], dim=1)
        full = torch.gather(full, 1, restore[:, :, None].expand(-1, -1, full.shape[2])) + self.decoder.positions
        decoded = stack(self.decoder.transformer, torch.cat([tokens[:, :1], full], dim=1))[:, 1:]
        shuffled = torch.gather(decoded, 1, shuffle[:, :, None].expand(-1, -1, decoded.shape[2]))
        predicted = self.project(shuffled[:, kept:])
        latents = (2 - 2 * (F.normalize(predicted, dim=-1) * F.normalize(target, dim=-1)).sum(dim=-1)).mean()
        return latents, self.classify(predicted, target)

    def classify(self, predicted: Tensor, target: Tensor) -> Tensor:
        """Cross-entropy of the heads' distributions."""
        heads = self.prototypes
        student = logits_of(heads.student, predicted) / heads.config.student_temp
        with torch.no_grad():
            temperature = heads.temperature(torch.tensor(NOW.progress))
            teacher = F.softmax((logits_of(heads.teacher, target) - heads.center) / temperature, dim=-1)
            heads.center.lerp_(teacher.mean(dim=(0, 1)), 0.1)
        return -(teacher * torch.log(F.softmax(student, dim=-1))).sum(dim=-1).mean()

    @torch.no_grad()
    def ema_update(self, momentum: float) -> None:
        """Move both teachers, tensor by tensor."""
        pairs = (
            (self.teacher.transformer, self.encoder.transformer),
            (self.prototypes.teacher, self.prototypes.student),
        )
        for mine, theirs in pairs:
            for slow, fast in zip(mine.parameters(), theirs.parameters(), strict=True):
                slow.mul_(momentum).add_(fast, alpha=1 - momentum)


def logits_of(head: nn.Module, latents: Tensor) -> Tensor:
    """A prototype head, its direction normalised as weight normalisation does."""
    bottleneck = F.normalize(head.mlp(latents), dim=-1)
    return F.linear(bottleneck, head.weight_g * head.weight_v / head.weight_v.norm(dim=1, keepdim=True))


def baseline_step(learner: PretrainModule, batch: Batch, device: str = "cpu", half: bool = False) -> Step:
    """The reference's step; on a GPU with the default kernels of AdamW, and with ``half`` in float16."""
    foreach = False if device == "cpu" else None
    kept = masking.num_keep(learner.grid.num_patches, learner.recipe.model.mask_ratio)
    model = Baseline(learner).to(device)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=RATE, betas=(0.9, 0.95), weight_decay=0.05, foreach=foreach, fused=False)

    def run() -> tuple[float, ...]:
        with torch.autocast(device, torch.float16, enabled=half):
            latents, prototypes = model(batch.spec, batch.noise, kept)
        model.ema_update(0.9999)
        optimiser.zero_grad()
        (0.5 * latents + 0.5 * prototypes).backward()
        torch.nn.utils.clip_grad_norm_(trained, CLIP, foreach=foreach)
        optimiser.step()
        return latents.item(), prototypes.item()

    return Step(run, len(batch.spec))


def main() -> None:
    """Compare and time every case; ``--rounds`` and ``--json`` as everywhere."""
    given = arguments(__doc__.splitlines()[0], rounds=7)
    torch.set_num_threads(1)
    for title, (size, frames, count) in CASES.items():
        published = find_recipe("matpac")
        model, training = (
            replace(published.model, size=size, frames=frames),
            replace(published.training, clip_norm=CLIP),
        )
        recipe = replace(published, model=model, training=training)
        batch = made_batch(recipe, frames, count)
        baseline = {"MATPAC-style step, float32": baseline_step(build(recipe, 0), batch)}
        compare_and_time(title, candidates(baseline, recipe, batch), "samples", given)


if __name__ == "__main__":
    main()
