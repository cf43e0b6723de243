"""The recipe for short runs: its features do not collapse where those of the published recipe do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from unheard.config import override
from unheard.datasets.generate import make_sounds
from unheard.recipes import find_recipe
from unheard.training.pretrain import pretrain

SIZES = ("frames=48", "embed_dim=48", "depth=3", "num_heads=2")
SIZES += ("decoder_embed_dim=32", "decoder_depth=1", "decoder_num_heads=2")
TRAINING = ("steps=40", "batch_size=16", "learning_rate=1e-3", "log_every=5", "epochs=null")
SETTINGS = [*(f"model.{each}" for each in SIZES), *(f"training.{each}" for each in TRAINING)]


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_sounds(tmp_path_factory.mktemp("generated"), 24).parent


def rank_after(sounds: Path, run: Path, name: str) -> float:
    """Return the mean effective rank of the teacher's features over the second half of a run."""
    pretrain(sounds, run, override(find_recipe(name), SETTINGS), device="cpu")
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    ranks = [row["diagnostics/effective_rank"] for row in rows]
    return sum(ranks[len(ranks) // 2 :]) / len(ranks[len(ranks) // 2 :])


def test_the_features_of_a_short_run_keep_a_high_rank(sounds: Path, tmp_path: Path) -> None:
    plain, short = (rank_after(sounds, tmp_path / name, name) for name in ("m2d", "m2d-short"))
    assert short > 2 * plain
