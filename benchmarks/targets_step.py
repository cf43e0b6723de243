"""Row a6: a pre-training step with stored targets of teachers. Baseline: a step that only reconstructs.

Whole steps of `pretrain` on packed spectrograms: the loader with the slices of targets, losses and optimiser. The CPU
time of all threads between two checkpoints counts, with the writing of one; the loader is equally far ahead at both.
The teacher is this module, with the HEAR API: random projections of waves, one vector every 0.48 s. ``--pca 128`` is
how unheard-tiny stores its three teachers.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.made import write_clips
from benchmarks.timing import Table, arguments, show
from unheard.audio.frontend import MSM_MAE_16K
from unheard.config import override
from unheard.data.corpus import open_corpus
from unheard.data.pack import pack
from unheard.data.pack_clip import PackConfig
from unheard.devices import bf16_on_cpu
from unheard.recipes import find_recipe
from unheard.teachers.storing import TargetsConfig, store_targets
from unheard.training.callbacks import Callbacks
from unheard.training.pretrain import pretrain

CLIPS, BATCH, STEPS = 40, 128, 10  # STEPS: those that count, as many before, and as many after them
RATE, HOP, CHANNELS = 16000, 7680, 256  # Hz, samples between two vectors, numbers of a vector
CASES: dict[str, tuple[int, int | None]] = {
    "reconstruction": (0, None),
    f"one teacher, {CHANNELS} channels": (1, None),
    "one teacher, --pca 128": (1, 128),
    "three teachers, --pca 128": (3, 128),
}
"""Teachers, and channels that are kept of each."""


class Projections(nn.Module):
    """The teacher."""

    sample_rate, scene_embedding_size, timestamp_embedding_size = RATE, CHANNELS, CHANNELS

    def __init__(self) -> None:
        super().__init__()
        weight = torch.randn(HOP, CHANNELS, generator=torch.Generator().manual_seed(0)) / HOP**0.5
        self.register_buffer("weight", weight)


def load_model(path: str = "") -> Projections:
    """Return the teacher."""
    return Projections()


def get_timestamp_embeddings(audio: Tensor, model: Projections) -> tuple[Tensor, Tensor]:
    """Return vectors (n, t, C), and their times (n, t) in ms."""
    count = -(-audio.shape[1] // HOP)
    padded = nn.functional.pad(audio, (0, count * HOP - audio.shape[1])).reshape(len(audio), count, HOP)
    times = (torch.arange(count) + 0.5) * (1000 * HOP / RATE)
    return padded @ model.weight, times.expand(len(audio), -1)


def get_scene_embeddings(audio: Tensor, model: Projections) -> Tensor:
    """Return the means of the vectors, (n, C)."""
    return get_timestamp_embeddings(audio, model)[0].mean(dim=1)


def seconds_a_window(spec: Path, targets: Path, case: str, place: Path) -> float:
    """Return the CPU time of a run for one window."""
    teachers, pca = CASES[case]
    folders = ", ".join(f'{{"name": "{targets / f"{pca}-{number}"}", "pooled": 1.0}}' for number in range(teachers))
    taught = f"objectives.distill.teachers=[{folders}]" if teachers else "objectives.distill.weight=0"
    length = (f"training.steps={3 * STEPS}", f"training.checkpoint_every={STEPS}", f"training.batch_size={BATCH}")
    precision = f"training.precision={'bf16' if bf16_on_cpu() else 'float32'}"
    recipe = override(find_recipe("distill"), ["model.frames=208", precision, taught, *length])
    spent: list[float] = []

    shutil.rmtree(place, ignore_errors=True)
    pretrain(spec, place, recipe, device="cpu", report=Callbacks(on_save=lambda run: spent.append(time.process_time())))
    return (spent[1] - spent[0]) / (BATCH * STEPS)


def main() -> None:
    """Time the cases in turns; one round does not count."""
    given = arguments(__doc__.splitlines()[0], rounds=5)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        (place / "sounds").mkdir()
        write_clips(place / "sounds", CLIPS)
        corpus = open_corpus(place / "sounds")
        pack(corpus, PackConfig(MSM_MAE_16K, "uint8"), place / "spec")
        pack(corpus, PackConfig(MSM_MAE_16K, "int16"), place / "wav")
        for pca, number in ((pca, number) for count, pca in CASES.values() for number in range(count)):
            config = TargetsConfig("hear:benchmarks.targets_step", pca=pca)
            store_targets(place / "wav", config, place / "targets" / f"{pca}-{number}")
        seconds: dict[str, list[float]] = {case: [] for case in CASES}
        for turn in range(given.rounds + 1):
            for case in CASES:
                cost = seconds_a_window(place / "spec", place / "targets", case, place / "run")
                if turn:
                    seconds[case].append(cost)
    table = Table(seconds)
    checked = f"Size tiny, windows of 208 frames, batch {BATCH}; wanted: at least {1 / 1.15:.2f} with one teacher."
    show("a6", table, "windows", checked, given.json)


if __name__ == "__main__":
    main()
