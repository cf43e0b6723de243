"""HEAR tasks and a HEAR module, made up for tests of evaluations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch

from unheard.evaluation.hear.events import Events
from unheard.evaluation.hear.rows import Rows

RATE = 16000
QUICK = {
    "hidden_dim": [8],
    "max_epochs": [4],
    "check_val_every_n_epoch": [1],
    "lr": [1e-2],
    "initialization": ["xavier_uniform_"],
}


def scene_rows(y: torch.Tensor, x: torch.Tensor | None = None) -> Rows:
    """One row a file."""
    none = Events(np.zeros(0, int), np.zeros(0, int), np.zeros(0), np.zeros(0))
    return Rows(torch.zeros(len(y), 1) if x is None else x, y, np.arange(len(y)), np.zeros(len(y)), none)


class Levels:
    """A HEAR module: loudness, and its opposite; calls are counted."""

    def __init__(self) -> None:
        self.calls = 0
        self.sample_rate = RATE

    def get_scene_embeddings(self, audio: torch.Tensor, model: Any) -> torch.Tensor:
        self.calls += 1
        level = audio.square().mean(dim=1, keepdim=True)
        return torch.cat([level, -level], dim=1)

    def get_timestamp_embeddings(self, audio: torch.Tensor, model: Any) -> tuple[torch.Tensor, torch.Tensor]:
        frames = audio[:, : audio.shape[1] // 800 * 800].reshape(len(audio), -1, 800).square().mean(dim=2, keepdim=True)
        times = 25 + 50 * torch.arange(frames.shape[1])
        return torch.cat([frames, -frames], dim=2), times.expand(len(audio), -1).float()

    def load_model(self, weights: str = "") -> Levels:
        return self


def make_task(folder: Path, event: bool = False, rate: int = RATE, clips: int = 12) -> Path:
    """Loud and soft noise, half a second each."""
    rng = np.random.default_rng(0)
    splits = ("train", "valid", "test")
    for split in splits:
        labels: dict[str, Any] = {}
        (folder / str(rate) / split).mkdir(parents=True)
        for clip in range(clips):
            name, loud = f"{split}{clip}.wav", clip % 2
            wav = rng.uniform(-1, 1, rate // 2) * (0.9 if loud else 0.1)
            soundfile.write(folder / str(rate) / split / name, wav, rate)
            label = "loud" if loud else "soft"
            labels[name] = [{"label": label, "start": 0.0, "end": 500.0}] if event else [label]
        (folder / f"{split}.json").write_text(json.dumps(labels))
    (folder / "labelvocabulary.csv").write_text("idx,label\n0,loud\n1,soft\n")
    metadata = {
        "task_name": folder.name,
        "embedding_type": "event" if event else "scene",
        "split_mode": "trainvaltest",
        "splits": splits,
        "prediction_type": "multilabel" if event else "multiclass",
        "sample_duration": 0.5,
        "evaluation": ["event_onset_200ms_fms", "segment_1s_er"] if event else ["top1_acc", "mAP"],
        "evaluation_params": {"task_specific_param_grid": QUICK},
    }
    (folder / "task_metadata.json").write_text(json.dumps(metadata))
    return folder
