"""A stand-in for the built-in model: trained for a few steps, released as the real one is."""

from __future__ import annotations

import json
from pathlib import Path

import unheard
from unheard import api
from unheard.config import override
from unheard.datasets.generate import make_sounds
from unheard.recipes import find_recipe
from unheard.training.pretrain import pretrain
from unheard.weights.built_in import DEFAULT

SIZES = [
    *("model.size=tiny", "model.frames=48", "model.embed_dim=24", "model.depth=2", "model.num_heads=2"),
    *("model.decoder_embed_dim=16", "model.decoder_depth=1", "model.decoder_num_heads=2"),
]
RELEASE = {
    "name": DEFAULT,
    "licence": "Apache-2.0",
    "teachers": [{"name": "random-tiny", "supervision": "nothing", "licence": "Apache-2.0", "source": "this library"}],
    "scores": [{"task": "drum-hit", "metric": "balanced accuracy", "value": 0.71, "protocol": "probe"}],
}


def make_stand_in(place: Path) -> Path:
    """Train on generated sounds in ``place/sounds``, and write ``place/builtin/unheard-tiny``. Return ``place``."""
    sounds, targets, run = place / "sounds", place / "targets", place / "run"
    make_sounds(sounds, 12, 0)
    api.targets(sounds, "random-tiny", targets, pca=8)
    settings = [*SIZES, f"objectives.distill.teachers.0.name={targets}", "training.steps=3", "training.batch_size=4"]
    pretrain(sounds, run, override(find_recipe("distill"), settings), device="cpu")
    (place / "release.json").write_text(json.dumps(RELEASE))
    (place / "builtin").mkdir()
    unheard.export(run, place / "builtin" / DEFAULT, release=place / "release.json")
    return place
