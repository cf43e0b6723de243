"""Row h: how the cost grows with duration, patch size, model size, corpus size and processes; one panel each.

    scripts/bench h -- --out growth.png --sounds corpora/L --files 1000

- Duration, patch size, model size: `Model.embed` of noise, with windows of 2.08 s; CPU time of one thread, median of
  the rounds. Models are random; sizes other than the varied one are tiny, patches of 16x16, 10 s.
- Corpus size: time to open a packed corpus and to draw its first batch of 512 windows, and the time of a later batch.
  The corpora are made: an index of clips of 1 to 10 s over sparse files.
- Processes: wall time of ``unheard embed --processes N`` for a folder, with its start; the machine must be idle.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import matplotlib
import numpy as np
import torch

from benchmarks.embed_folder import PROGRAM, link_sounds, seconds
from benchmarks.made import write_corpus
from benchmarks.timing import machine
from unheard.data.mapping import open_store
from unheard.data.windows.crops import CropSampler
from unheard.embedding.embedder import Model
from unheard.model.sizes import ModelConfig
from unheard.recipes import find_recipe
from unheard.recipes.learner import build
from unheard.weights.built_in import RANDOM_STATISTICS
from unheard.weights.checkpoint import Provenance, SavedModel

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.ticker import NullFormatter

DURATIONS = (1, 3, 10, 30, 100, 300)  # s
PATCHES = ((16, 16), (16, 8), (16, 4), (8, 8), (8, 4))  # bands x frames
SIZES = ("tiny", "small", "base", "large")
CLIPS = (1_000, 10_000, 100_000, 1_000_000)
RATE, BATCH, WIDTH = 16000, 512, 208


@dataclass(frozen=True)
class Panel:
    """Costs of one quantity.

    Parameters
    ----------
    title, x_label, y_label : str
    x : sequence of float
    lines : dict of str to sequence of float
    names : sequence of str
        Text of each point; empty: none.
    """

    title: str
    x_label: str
    y_label: str
    x: Sequence[float]
    lines: dict[str, list[float]]
    names: Sequence[str] = ()


def untrained(**sizes: object) -> Model:
    """A model with random weights."""
    recipe = replace(find_recipe("msm-mae"), model=replace(ModelConfig(size="tiny"), **sizes))
    return Model(SavedModel(build(recipe, 0).eval(), recipe, RANDOM_STATISTICS, Provenance()))


def cpu(work: Callable[[], object], rounds: int) -> float:
    """Median CPU time of some work, after one turn that does not count."""
    spent = []
    for number in range(rounds + 1):
        begin = time.process_time()
        work()
        if number:
            spent.append(time.process_time() - begin)
    return statistics.median(spent)


def noise(length: float) -> np.ndarray:
    """A signal of some seconds."""
    return (0.1 * np.random.default_rng(0).standard_normal(round(length * RATE))).astype(np.float32)


def duration(rounds: int) -> Panel:
    """Embedding by length of the signal."""
    model = untrained()
    costs = [cpu(lambda wav=noise(length): model.embed((wav, RATE)), rounds) for length in DURATIONS]
    return Panel("duration", "seconds of audio", "CPU s", DURATIONS, {"embed": costs})


def patch_size(rounds: int) -> Panel:
    """Embedding by patch size; x: tokens of a window."""
    models = [untrained(patch_size=each) for each in PATCHES]
    costs = [cpu(lambda model=model: model.embed((noise(10), RATE)), rounds) for model in models]
    names = [f"{bands}x{frames}" for bands, frames in PATCHES]
    return Panel(
        "patch size", "patches of a window", "CPU s for 10 s", [m.grid.num_patches for m in models], {"": costs}, names
    )


def model_size(rounds: int) -> Panel:
    """Embedding by size; x: parameters of the encoder."""
    costs, counts = [], []
    for size in SIZES:
        model = untrained(size=size)
        counts.append(sum(each.numel() for each in model.encoder.parameters()) / 1e6)
        costs.append(cpu(lambda model=model: model.embed((noise(10), RATE)), rounds))
    return Panel("model size", "million parameters", "CPU s for 10 s", counts, {"": costs}, SIZES)


def corpus_size(rounds: int, place: Path) -> Panel:
    """Opening a packed corpus and drawing windows of it, by its clips."""
    first, later = [], []
    for clips in CLIPS:
        folder = write_corpus(place / str(clips), np.random.default_rng(0).integers(100, 1001, clips), "float16")

        def begin(folder: Path = folder) -> CropSampler:
            sampler = CropSampler(open_store(folder).frames, WIDTH, 0)
            sampler.draw(*sampler.positions(0, BATCH))
            return sampler

        first.append(1e3 * cpu(begin, rounds))
        sampler = begin()
        later.append(1e3 * cpu(lambda made=sampler: made.draw(*made.positions(10**6, BATCH)), rounds))
    lines = {"open, with the first batch": first, "a later batch": later}
    return Panel("corpus size", "clips", "CPU ms", CLIPS, lines)


def processes(sounds: Path | None, files: int, place: Path) -> Panel:
    """Embedding a folder by the number of processes."""
    hours = link_sounds(sounds, files, place / "sounds")
    counts = [2**power for power in range((os.cpu_count() or 1).bit_length())]
    command = [str(PROGRAM), "embed", "random-tiny", str(place / "sounds"), "--processes"]
    walls = [seconds([*command, str(n), "-o", str(place / f"{n}.parquet")], OMP_NUM_THREADS="1") for n in counts]
    title = f"processes ({hours:.2f} h)"
    return Panel(title, "processes", "wall s", counts, {"": walls})


def draw(panels: Sequence[Panel], out: Path) -> None:
    """Draw the panels in one figure; grey lines are proportional to x, for processes inversely."""
    figure, axes = plt.subplots(1, len(panels), figsize=(3.1 * len(panels), 3.1), layout="constrained")
    for ax, panel in zip(np.atleast_1d(axes), panels, strict=True):
        for name, values in panel.lines.items():
            ax.plot(panel.x, values, "o-", label=name)
        values = next(iter(panel.lines.values()))
        power = -1 if panel.x_label == "processes" else 1
        ax.plot(panel.x, values[0] * (np.array(panel.x) / panel.x[0]) ** power, color="0.7", lw=0.8, zorder=0)
        for x, y, name in zip(panel.x, values, panel.names or [""] * len(values), strict=True):
            ax.annotate(name, (x, y), textcoords="offset points", xytext=(5, -9), fontsize=8)
        if len(panel.x) > 2:
            ax.set(xscale="log", yscale="log")
            ax.yaxis.set_minor_formatter(NullFormatter())
            if panel.names:
                ticks = sorted(set(panel.x))
                ax.set_xticks(ticks, [f"{x:.0f}" for x in ticks])
                ax.xaxis.set_minor_formatter(NullFormatter())
        else:
            ax.set(xticks=panel.x, ylim=(0, None))
        ax.set(title=panel.title, xlabel=panel.x_label, ylabel=panel.y_label)
        ax.spines[["top", "right"]].set_visible(False)
        if len(panel.lines) > 1:
            ax.legend(frameon=False, fontsize=8)
    figure.savefig(out, dpi=120)


def main() -> None:
    """Measure, print and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="figure to write, .png")
    parser.add_argument("--sounds", type=Path, help="folder of sounds for the panel of processes; default: generated")
    parser.add_argument("--files", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as made:
        panels = [
            duration(given.rounds),
            patch_size(given.rounds),
            model_size(given.rounds),
            corpus_size(given.rounds, Path(made)),
            processes(given.sounds, given.files, Path(made)),
        ]
    print(f"**h** ({machine()})\n")
    for panel in panels:
        names = panel.names or [f"{x:,}" for x in panel.x]
        print(f"| {panel.title} | {' | '.join(names)} |\n|---|{'---|' * len(names)}")
        for name, values in panel.lines.items():
            label = ", ".join(filter(None, [name, panel.y_label]))
            print(f"| {label} | {' | '.join(f'{value:.3g}' for value in values)} |")
        print()
    draw(panels, given.out)


if __name__ == "__main__":
    main()
