"""A batch size that is traced stays a symbol: ``len`` of a tensor would turn it into the number of the example."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import torch
from torch import nn
from unheard.config import override
from unheard.model.masking import Mask
from unheard.recipes import find_recipe
from unheard.recipes.learner import build

class Pass(nn.Module):
    def __init__(self, learner):
        super().__init__()
        self.model, self.grid = learner.model, learner.grid
    def forward(self, spec, keep, hide):
        patches = self.grid.patchify(spec)
        out = self.model(patches, Mask(keep, hide))
        return out.decoded, out.predicted, self.grid.unpatchify(patches), out.mask.hidden()

SIZES = ["frames=64", "embed_dim=24", "depth=1", "num_heads=2"]
SIZES += ["decoder_embed_dim=16", "decoder_depth=2", "decoder_num_heads=2"]
CROSS = ["model.decoder=cross", "objectives.distill.teachers.0.dim=4"]
for name, extra in (("m2d", []), ("audiomae", []), ("mam-clap", CROSS)):
    learner = build(override(find_recipe(name), [*(f"model.{size}" for size in SIZES), *extra])).eval()
    grid = learner.grid
    batch = torch.export.Dim("batch", min=2, max=1024)
    tokens = torch.arange(grid.num_patches)
    inputs = lambda n: (torch.randn(n, grid.n_mels, grid.frames), tokens[:5].expand(n, -1), tokens[5:].expand(n, -1))
    program = torch.export.export(Pass(learner), inputs(3), dynamic_shapes=({0: batch},) * 3)
    for got, expected in zip(program.module()(*inputs(7)), Pass(learner)(*inputs(7))):
        assert got is None or got.shape == expected.shape == (7, *expected.shape[1:]), (name, got.shape)
print("symbolic")
"""


def test_the_batch_of_a_masked_pass_stays_symbolic() -> None:
    """In a process of its own: the type checks of the tests look at shapes, and would fix them."""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", PROGRAM], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "symbolic", done.stderr[-2000:]
