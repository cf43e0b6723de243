"""Rows d1, d2: frame embeddings of 10 s clips from their log-mel, on a CPU core.

d1 baseline: transformers' ASTModel of the same width and depth, fused attention, patches of 16x16 without overlap, so
that a clip has 315 tokens in both. d2 baseline: the loop of the MSM-MAE family over windows of 208 frames, one clip and
window at a time, each padded to its full length, attention written out. Ours encodes the windows of all clips as
batches; the row "one pass" attends over the whole clip, as the AST does. Weights are random: d2 outputs are compared,
d1 models differ in architecture by their tokens only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from transformers import ASTConfig, ASTModel

from benchmarks.timing import arguments, interleave, show
from unheard.devices import bf16_on_cpu
from unheard.embedding.embedder import Model
from unheard.embedding.loading import load
from unheard.embedding.windows import Window, cut
from unheard.model.sizes import ModelConfig, resolve_sizes
from unheard.model.transformer import use_attention
from unheard.recipes import find_recipe
from unheard.recipes.learner import build
from unheard.weights.built_in import RANDOM_STATISTICS
from unheard.weights.checkpoint import Provenance, SavedModel

FRAMES, WINDOW = 1001, 208
SIZES, COUNTS = ("tiny", "small", "base"), (1, 16)  # clips at once


def ast_model(size: str, bands: int = 80, frames: int = 1008) -> ASTModel:
    """The peer: ViT of the same width and depth, for spectrograms of one length."""
    chosen = resolve_sizes(ModelConfig(size=size))
    config = ASTConfig(
        hidden_size=chosen.embed_dim,
        num_hidden_layers=chosen.depth,
        num_attention_heads=chosen.num_heads,
        intermediate_size=4 * chosen.embed_dim,
        patch_size=16,
        frequency_stride=16,
        time_stride=16,
        max_length=frames,
        num_mel_bins=bands,
        attn_implementation="sdpa",
    )
    return ASTModel(config).eval()


def whole_clip(size: str) -> Model:
    """Our model with a window as long as the clip."""
    recipe = replace(find_recipe("msm-mae"), model=ModelConfig(size=size, frames=1008))
    return Model(SavedModel(build(recipe, 0).eval(), recipe, RANDOM_STATISTICS, Provenance()))


def batched(model: Model, specs: list[np.ndarray], bf16: bool) -> Callable[[], int]:
    """Ours: windows of all clips, those of equal length together."""

    def work() -> int:
        windows = [window for spec in specs for window in cut([spec], model.grid.frames)]
        groups: dict[int, list[Window]] = {}
        for window in windows:
            groups.setdefault(model.grid.real_columns(window.frames), []).append(window)
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            for columns, members in groups.items():
                for first in range(0, len(members), 16):
                    model.encode_windows(members[first : first + 16], columns)
        return len(specs)

    return work


def looped(model: Model, specs: list[np.ndarray]) -> Callable[[], int]:
    """The d2 baseline."""

    def work() -> int:
        for spec in specs:
            for window in cut([spec], WINDOW):
                with torch.inference_mode():
                    model.encode_windows([window], model.grid.real_columns(window.frames))
        return len(specs)

    return work


def peer(model: ASTModel, specs: list[np.ndarray], bf16: bool) -> Callable[[], int]:
    """The d1 baseline on one batch."""
    batch = torch.zeros(len(specs), 1008, 80)
    batch[:, :FRAMES] = torch.from_numpy(np.stack(specs))

    def work() -> int:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            model(batch)
        return len(specs)

    return work


def main() -> None:
    """Time one clip and sixteen at once."""
    given = arguments(__doc__.splitlines()[0], rounds=5)
    torch.set_num_threads(1)
    generator = np.random.default_rng(0)
    for size in SIZES:
        model, loop = load(f"random-{size}"), load(f"random-{size}")
        loop.pad_window = True
        use_attention(loop.learner, "explicit")
        for count in COUNTS:
            specs = [(generator.standard_normal((FRAMES, 80)) * 4 - 7).astype(np.float32) for _ in range(count)]
            difference = compare(model, loop, specs[0])
            ast = ast_model(size)
            works = {
                "ASTModel, float32": peer(ast, specs, False),
                "ours, windows batched, float32": batched(model, specs, False),
            }
            works["ours, one pass, float32"] = batched(whole_clip(size), specs, False)
            if bf16_on_cpu():
                works |= {
                    "ASTModel, bf16": peer(ast, specs, True),
                    "ours, windows batched, bf16": batched(model, specs, True),
                }
                works["ours, one pass, bf16"] = batched(whole_clip(size), specs, True)
            title = f"{size}, {count} clip{'s' * (count > 1)}"
            show(
                f"d1 {title}",
                interleave(works, given.rounds),
                "clips",
                "315 tokens a clip in both (AST has two more)",
                given.json,
            )
            print()
            works = {
                "loop over windows, float32": looped(loop, specs),
                "ours, windows batched, float32": batched(model, specs, False),
            }
            if bf16_on_cpu():
                works["ours, windows batched, bf16"] = batched(model, specs, True)
            checked = f"outputs of full windows differ by at most {difference:.1e} in float32"
            show(f"d2 {title}", interleave(works, given.rounds), "clips", checked, given.json)
            print()


def compare(ours: Model, loop: Model, spec: np.ndarray) -> float:
    """Largest difference between ours and the loop on the full windows of a clip."""
    windows = [window for window in cut([spec], WINDOW) if window.frames == WINDOW]
    with torch.inference_mode():
        together = ours.encode_windows(windows, ours.grid.time)
        alone = np.concatenate([loop.encode_windows([window], loop.grid.time) for window in windows])
    return float(np.abs(together - alone).max())


if __name__ == "__main__":
    main()
