"""Two trends of the MSM-MAE paper, for a model and test clips of task folders: which sounds and which masks are easy.

    python -m benchmarks.trends unheard-tiny tasks/ -o trends.png

Of each test clip the first window is masked: alternate columns, alternate rows, a chessboard (about half of the patches
each), and random 75 %. The figure states the masked part. The error is the mean squared error on masked patches, in
units of the variance of the window (relative), or of normalised spectrograms (absolute). The change over time of a
window is the part of its variance that is within mel bands: 0 for a stationary sound.

Random masks are seeded. Intervals resample the clips, or for notes their instruments.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
import torch
from scipy.stats import rankdata, spearmanr

from unheard.audio.waveform import read
from unheard.bootstrap import bc_interval, mean_statistic, replicates
from unheard.data.label_table import read_labels
from unheard.embedding.embedder import Model
from unheard.embedding.loading import load_own
from unheard.evaluation.reconstruction import hidden_values, predict
from unheard.model.masking import named_mask

matplotlib.use("Agg")
from matplotlib import pyplot as plt

MASKS = ("vertical", "horizontal", "chessboard", "random")
RATIO = 0.75  # of the random mask; the grid determines those of the others
KINDS = {  # task: labels of its test clips that are measured, and what they are called here
    "gm_family-v1-split": dict.fromkeys(["organ", "strings", "synth-pad", "brass", "reed", "pipe"], "sustained note")
    | dict.fromkeys(["piano", "guitar", "chromatic-percussion", "bass"], "decaying note"),
    "speech_music_effect-v1-split": {"speech": "speech", "music": "music", "effect": "effect"},
}
SEED, SILENT = 0, 0.05  # of the variance of all windows: windows below it are left out


@dataclass(frozen=True)
class Windows:
    """One window a clip: normalised spectrograms, kinds and sources."""

    spec: torch.Tensor  # (n, F, T)
    kinds: np.ndarray  # (n,) of str
    sources: np.ndarray  # (n,) of str


def clips_of(tasks: Path) -> Iterator[tuple[str, str, str]]:
    """Yield path, kind and source of every test clip."""
    for task, kinds in KINDS.items():
        table = read_labels(tasks / task / "labels.csv")
        for row in range(len(table)):
            name = table.classes[table.index[row]]
            if name in kinds and table.split[row] in ("test", ""):
                path = str(table.paths[row])
                yield path, kinds[name], table.group[row] if "note" in kinds[name] else path


def windows(model: Model, tasks: Path) -> Windows:
    """Read the first window of every clip that is long enough and not silent."""
    width, found = model.grid.frames, []
    for path, kind, source in clips_of(tasks):
        spec = model.frontend.spectrogram_cpu(read(path, model.sample_rate)[0]).T[:, :width]
        if spec.shape[1] == width:
            found.append((model.statistics.normalise(torch.from_numpy(spec)[None])[0], kind, source))
    loud = [each for each in found if each[0].var() > SILENT]
    specs, kinds, sources = zip(*loud, strict=True)
    return Windows(torch.stack(specs), np.array(kinds), np.array(sources))


def errors(model: Model, spec: torch.Tensor) -> dict[str, np.ndarray]:
    """Return the absolute error of every window for each mask."""
    grid, found = model.grid, {}
    noise = torch.rand(len(spec), grid.num_patches, generator=torch.Generator().manual_seed(SEED))
    for name in MASKS:
        each = []
        for at in range(0, len(spec), 32):
            part = spec[at : at + 32]
            mask = named_mask(name, grid, noise[at : at + 32], RATIO)
            hidden = hidden_values(grid, mask)
            square = (predict(model.learner, part, mask) - part).square()
            each.append((square * hidden).sum(dim=(1, 2)) / hidden.sum(dim=(1, 2)))
        found[name] = torch.cat(each).numpy()
    return found


def change_over_time(spec: torch.Tensor) -> np.ndarray:
    """Return the part of the variance of each window that is within bands."""
    return (spec.var(dim=2, correction=0).mean(dim=1) / spec.var(dim=(1, 2), correction=0)).numpy()


def interval(values: np.ndarray, groups: np.ndarray) -> tuple[float, float, float]:
    """Return the mean and its 95 % interval."""
    mean = float(values.mean())
    return (mean, *bc_interval(replicates(mean_statistic(values), groups, SEED), mean))


def correlation(change: np.ndarray, error: np.ndarray, groups: np.ndarray) -> tuple[float, float, float]:
    """Return Spearman's correlation and its 95 % interval; ranks are those of all windows."""
    a, b = rankdata(change), rankdata(error)
    a, b = (a - a.mean()) / a.std(), (b - b.mean()) / b.std()

    def statistic(counts: np.ndarray) -> np.ndarray:
        total = counts.sum(axis=0)
        mean = [values @ counts / total for values in (a, b, a * b, a * a, b * b)]
        spread = (mean[3] - mean[0] ** 2) * (mean[4] - mean[1] ** 2)
        return (mean[2] - mean[0] * mean[1]) / np.sqrt(spread)

    value = float(spearmanr(change, error)[0])
    return (value, *bc_interval(replicates(statistic, groups, SEED), value))


def text(values: tuple[float, float, float]) -> str:
    """Return a value with its interval."""
    return f"{values[0]:+.3f} [{values[1]:+.3f}, {values[2]:+.3f}]"


def main() -> None:
    """Print the tables and draw the figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("tasks", type=Path)
    parser.add_argument("-o", "--out", type=Path, required=True)
    given = parser.parse_args()
    torch.set_num_threads(1)
    model = load_own(given.model, "cpu")
    data = windows(model, given.tasks)
    absolute, change = errors(model, data.spec), change_over_time(data.spec)
    variance = data.spec.var(dim=(1, 2)).numpy()
    error = {name: values / variance for name, values in absolute.items()}
    order = sorted(set(data.kinds), key=lambda kind: change[data.kinds == kind].mean())
    print(f"{len(data.kinds)} windows of {len(set(data.sources))} sources\n")
    print("| kind | windows | change over time |", " | ".join(MASKS), "|\n|---|---|---|" + "---|" * len(MASKS))
    table = {}
    for kind in order:
        rows = data.kinds == kind
        cells = [interval(error[name][rows], data.sources[rows]) for name in MASKS]
        table[kind] = cells
        shown = " | ".join(f"{a:.3f} [{b:.3f}, {c:.3f}]" for a, b, c in cells)
        print(f"| {kind} | {rows.sum()} | {change[rows].mean():.2f} | {shown} |")
    print("\nrank correlation of the change over time and the error, relative and absolute")
    for name in MASKS:
        pair = (text(correlation(change, values[name], data.sources)) for values in (error, absolute))
        print(f"  {name}: {' '.join(pair)}")
    print("\ndifference of the error, paired")
    for stripes in ("vertical", "horizontal"):
        difference = interval(error["chessboard"] - error[stripes], data.sources)
        print(f"  chessboard - {stripes}: {text(difference)}")
    noise = torch.zeros(1, model.grid.num_patches)
    shares = {name: float(named_mask(name, model.grid, noise, RATIO).hidden().float().mean()) for name in MASKS}
    draw(table, shares, given.out)


def draw(table: dict[str, list[tuple[float, float, float]]], shares: dict[str, float], out: Path) -> None:
    """Draw the errors by kind and mask, with the masked part of the patches."""
    figure, axes = plt.subplots(figsize=(8, 3.6), layout="constrained")
    width = 0.8 / len(MASKS)
    for number, (name, ratio) in enumerate(shares.items()):
        values = np.array([cells[number] for cells in table.values()])
        at = np.arange(len(table)) + (number - 1.5) * width
        bars = np.abs(values[:, 1:] - values[:, :1]).T
        axes.bar(at, values[:, 0], width * 0.9, yerr=bars, capsize=2, label=f"{name}, {ratio:.0%} masked")
    axes.set_xticks(range(len(table)), list(table))
    axes.set_ylabel("error / variance of the window")
    axes.set_xlabel("kind of sound, from little to much change over time")
    figure.legend(loc="outside upper center", ncols=2, frameon=False, fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(out, dpi=150)


if __name__ == "__main__":
    main()
