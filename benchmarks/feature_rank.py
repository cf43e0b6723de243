"""Effective rank of the embeddings of models, over frames and over clips.

    python -m benchmarks.feature_rank random-tiny runs/first --sounds corpora/L

The rank is that of `unheard.objectives.diagnostics.effective_rank`, of unit-length vectors of the last layer. Clips of
at least one second are drawn with seed 0; of each, at most 20 frames count, evenly spaced.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from unheard.data.corpus import open_corpus
from unheard.embedding.embedding_model import EmbeddingModel
from unheard.embedding.loading import load
from unheard.objectives.diagnostics import effective_rank

FRAMES, SHORTEST = 20, 1.0  # of a clip; s


def ranks(model: EmbeddingModel, files: Sequence[Path]) -> tuple[float, float]:
    """The rank over frames, and over clips."""
    frames, scenes = [], []
    for file in files:
        found = model.embed(file)
        frames.append(found.frames[:: max(1, len(found.frames) // FRAMES)][:FRAMES])
        scenes.append(found.scene)
    return rank(np.concatenate(frames)), rank(np.stack(scenes))


def rank(vectors: np.ndarray) -> float:
    """The effective rank of vectors of the shape (n, D)."""
    batch = torch.from_numpy(vectors)[None]
    return float(effective_rank(batch, torch.ones(batch.shape[:2])))


def main() -> None:
    """Print one line a model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--sounds", type=Path, required=True, help="a folder of sounds, or a fetched corpus")
    parser.add_argument("--clips", type=int, default=300)
    given = parser.parse_args()
    clips = [clip for clip in open_corpus(given.sounds).clips if clip.seconds >= SHORTEST and clip.end is None]
    chosen = random.Random(0).sample(clips, min(given.clips, len(clips)))
    print(f"{len(chosen)} clips\n\n| model | rank of frames | rank of clips |\n|---|---|---|")
    for name in given.models:
        found = ranks(load(name), [given.sounds / clip.path for clip in chosen])
        print(f"| {name} | {found[0]:.1f} | {found[1]:.1f} |", flush=True)


if __name__ == "__main__":
    main()
