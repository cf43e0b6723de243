"""Tiny models of every front end, with and without a classifier, for the tests of exports.

python models.py FOLDER writes one model folder and one ONNX file for each. It runs in a process of its own, because the
type checks of the tests look at shapes, and would turn symbols of a traced graph into numbers.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from unheard.audio.frontend import Statistics
from unheard.config import override
from unheard.embedding.embedder import Model
from unheard.model.classifier import ClassifierConfig
from unheard.recipes import find_recipe
from unheard.recipes.learner import build
from unheard.weights.checkpoint import Provenance, SavedModel, build_classifier, save_model

SIZES = ["embed_dim=24", "depth=1", "num_heads=2", "decoder_embed_dim=16", "decoder_depth=2", "decoder_num_heads=2"]
KINDS = {
    "log-mel": ("msm-mae", 64, None),
    "kaldi-fbank": ("audiomae", 96, ClassifierConfig(("dog", "rain, heavy"), "sigmoid")),
    "maskspec": ("maskspec", 64, ClassifierConfig(("dog", "rain", "bell"), pool="cls", norm="none")),
}
"""Front end: recipe, frames of a window, classifier."""


def saved_model(kind: str) -> SavedModel:
    """Return a model with random weights, the same ones on each call."""
    name, frames, head = KINDS[kind]
    recipe = override(find_recipe(name), [f"model.{size}" for size in (f"frames={frames}", *SIZES)])
    classifier = None if head is None else build_classifier(head, recipe).eval()
    if classifier is not None:
        torch.nn.init.normal_(classifier.head.weight, generator=torch.Generator().manual_seed(1))
    statistics = Statistics((-7.1,), (4.2,)) if kind != "maskspec" else Statistics((0.1,) * 128, (0.7,) * 128)
    return SavedModel(
        build(recipe, seed=0).eval(), recipe, statistics, Provenance(source=f"a test of {kind}"), classifier
    )


def save(kind: str, folder: Path) -> Model:
    """Write the model folder of a front end; return the model."""
    saved = saved_model(kind)
    save_model(folder, saved.learner, saved.recipe, saved.statistics, saved.provenance, saved.classifier)
    return Model(saved)


if __name__ == "__main__":
    from unheard import api

    place = Path(sys.argv[1])
    for kind in KINDS:
        save(kind, place / kind)
        api.export(place / kind, place / f"{kind}.onnx")
