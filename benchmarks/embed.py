"""Rows d1, d2: `Model.embed` of signals of 10 s, on a CPU core. All candidates use the same log-mel and return frames.

d1 baseline: transformers' ASTModel of the same width and depth, fused attention, patches of 16x16 without overlap, so
that a clip has 315 tokens in both. d2 baseline: the loop of the MSM-MAE family over windows of 208 frames, one clip and
window at a time, each padded to its full length, attention written out. The row "one pass" attends over the whole clip,
as the AST does. Weights are random: frames of d2 are compared, models of d1 differ in architecture by their tokens
only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import product

import numpy as np
import torch
from transformers import ASTConfig, ASTModel

from benchmarks.timing import arguments, interleave, show
from unheard.audio.framing import Frontend
from unheard.devices import bf16_on_cpu
from unheard.embedding.embedder import Model, Precision
from unheard.embedding.loading import load_own
from unheard.embedding.windows import cut
from unheard.model.sizes import ModelConfig, resolve_sizes
from unheard.model.transformer import use_attention
from unheard.recipes import find_recipe
from unheard.recipes.learner import build
from unheard.weights.built_in import RANDOM_STATISTICS
from unheard.weights.checkpoint import Provenance, SavedModel

SECONDS, RATE, WINDOW = 10, 16000, 208
SIZES, COUNTS = ("tiny", "small", "base"), (1, 16)  # clips at once

Signal = tuple[np.ndarray, int]
"""Samples and their rate in Hz."""


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


def whole_clip(size: str, precision: Precision) -> Model:
    """Our model with a window as long as the clip."""
    recipe = replace(find_recipe("msm-mae"), model=ModelConfig(size=size, frames=1008))
    saved = SavedModel(build(recipe, 0).eval(), recipe, RANDOM_STATISTICS, Provenance())
    return Model(saved, precision=precision)


def ours(model: Model, clips: list[Signal]) -> Callable[[], int]:
    """What a user calls."""
    return lambda: len(model.embed(clips))


def looped(model: Model, clips: list[Signal]) -> Callable[[], int]:
    """The d2 baseline."""
    return lambda: sum(len(frames_by_loop(model, clip)) > 0 for clip in clips)


def frames_by_loop(model: Model, clip: Signal) -> np.ndarray:
    """Frames of one clip, window by window."""
    with torch.inference_mode():
        found = [
            model.encode_windows([window], model.grid.real_columns(window.frames))[0]
            for window in cut([model.frontend.spectrogram_cpu(clip[0])], WINDOW)
        ]
    return np.concatenate(found)


def peer(model: ASTModel, frontend: Frontend, clips: list[Signal], precision: Precision) -> Callable[[], int]:
    """The d1 baseline on one batch."""

    def work() -> int:
        batch = torch.zeros(len(clips), 1008, 80)
        for row, (wave, _) in zip(batch, clips, strict=True):
            spec = frontend.spectrogram_cpu(wave)
            row[: len(spec)] = torch.from_numpy(spec)
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            return len(model(batch).last_hidden_state.float().numpy())

    return work


def main() -> None:
    """Time one clip and sixteen at once."""
    given = arguments(__doc__.splitlines()[0], rounds=5)
    torch.set_num_threads(1)
    generator = np.random.default_rng(0)
    kinds: list[Precision] = ["float32", "bf16"] if bf16_on_cpu() else ["float32"]
    for size, count in product(SIZES, COUNTS):
        clips = [((0.1 * generator.standard_normal(SECONDS * RATE)).astype(np.float32), RATE) for _ in range(count)]
        networks = {kind: load_own(f"random-{size}", "cpu", kind) for kind in kinds}
        batched = {f"ours, windows batched, {kind}": ours(model, clips) for kind, model in networks.items()}
        title, ast, frontend = f"{size}, {count} clip{'s' * (count > 1)}", ast_model(size), networks["float32"].frontend
        works = {f"ASTModel, {kind}": peer(ast, frontend, clips, kind) for kind in kinds} | batched
        works |= {f"ours, one pass, {kind}": ours(whole_clip(size, kind), clips) for kind in kinds}
        tokens = "315 tokens a clip in both (AST has two more)"
        show(f"d1 {title}", interleave(works, given.rounds), "clips", tokens, given.json)
        print()
        loop = load_own(f"random-{size}", "cpu")
        loop.pad_window = True
        use_attention(loop.learner, "explicit")
        checked = (
            f"Frames of full windows differ by at most {compare(networks['float32'], loop, clips[0]):.1e} in float32."
        )
        works = {"loop over windows, float32": looped(loop, clips), **batched}
        show(f"d2 {title}", interleave(works, given.rounds), "clips", checked, given.json)
        print()


def compare(model: Model, loop: Model, clip: Signal) -> float:
    """Return the largest difference between ours and the loop on the full windows of a clip."""
    full = WINDOW // model.grid.patch_size[1] * (SECONDS * 100 // WINDOW)
    return float(np.abs(model.embed(clip).frames[:full] - frames_by_loop(loop, clip)[:full]).max())


if __name__ == "__main__":
    main()
