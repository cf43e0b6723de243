"""Draw the figures of the method pages: a training mask of each recipe on generated sounds, and the flow of its loss.

python docs/figures.py    write docs/images/methods/*.png (needs the extra view)
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from unheard.audio.frontend_kinds import build_frontend
from unheard.audio.resample import resample
from unheard.datasets.generate import FAMILIES, generate
from unheard.model.masking import noise_size, training_mask
from unheard.model.patches import Grid
from unheard.recipes import find_recipe

IMAGES = Path(__file__).parent / "images" / "methods"
RATE = 16000
LEARNED, FROZEN, DATA = "#dbe9ff", "#e6e6e6", "#fff3d6"


@dataclass(frozen=True)
class Flow:
    """The two paths to a loss: boxes from left to right, each with its colour, and the text at their end."""

    student: tuple[tuple[str, str], ...]
    target: tuple[tuple[str, str], ...]
    loss: str


ENCODER, DECODER = ("encoder", LEARNED), ("decoder", LEARNED)
VISIBLE, MASKED, WINDOW = ("visible\npatches", DATA), ("masked\npatches", DATA), ("whole\nwindow", DATA)
VIEWS = ("16 masks of\nthe window", DATA)
STANDARDISED = ("standardise\nper patch", FROZEN)
EMA = ("EMA\nteacher", FROZEN)

FLOWS = {
    "msm-mae": Flow((VISIBLE, ENCODER, DECODER, ("head", LEARNED)), (MASKED,), "mean squared\nerror"),
    "maskspec": Flow((VISIBLE, ENCODER, DECODER, ("head", LEARNED)), (MASKED, STANDARDISED), "mean squared\nerror"),
    "audiomae": Flow(
        (VISIBLE, ENCODER, ("local\ndecoder", LEARNED), ("head", LEARNED)),
        (MASKED, STANDARDISED),
        "mean squared\nerror",
    ),
    "m2d": Flow(
        (VISIBLE, ENCODER, DECODER, ("predictor", LEARNED)),
        (MASKED, EMA, ("standardise", FROZEN)),
        "2 - 2 cos",
    ),
    "matpac": Flow(
        (VISIBLE, ENCODER, DECODER, ("predictor", LEARNED), ("prototype\nhead", LEARNED)),
        (MASKED, EMA, ("EMA of the\nhead", FROZEN)),
        "2 - 2 cos, and\ncross-entropy",
    ),
    "eat": Flow(
        (VIEWS, ENCODER, ("convolutions", LEARNED), ("predictor", LEARNED)),
        (WINDOW, EMA, ("mean of\nMLP outputs", FROZEN)),
        "squared error\nof patches and\nof CLS",
    ),
    "bat": Flow(
        (
            ("16 masks of\nthe window", DATA),
            ("gated\nencoder", LEARNED),
            ("gated\ndecoder", LEARNED),
            ("linear", LEARNED),
        ),
        (WINDOW, EMA, ("mean of\nblock outputs", FROZEN)),
        "squared error\nof patches and\nof CLS",
    ),
    "mam-clap": Flow(
        (VISIBLE, ENCODER, DECODER, ("norm,\nlinear", LEARNED)),
        (WINDOW, ("frozen\nteacher", FROZEN), ("align,\nstandardise", FROZEN)),
        "1 - cos",
    ),
    "clap-mini": Flow(
        (VISIBLE, ENCODER, ("mean,\nlinear", LEARNED)),
        (("caption", DATA), ("frozen text\nencoder", FROZEN), ("linear", LEARNED)),
        "cross-entropy\nover the batch",
    ),
}


def sounds(seconds: float) -> np.ndarray:
    """Return generated sounds of all families in turn, at `RATE`, at least ``seconds`` long."""
    parts: list[np.ndarray] = []
    index = 0
    while sum(map(len, parts)) < seconds * RATE:
        wav = generate(list(FAMILIES)[index % len(FAMILIES)], 0, index, seed=3, sample_rate=RATE).wav
        parts.append(wav / np.abs(wav).max())
        index += 1
    return np.concatenate(parts)


def draw_mask(axes: Axes, name: str) -> None:
    """Draw one window of the recipe, with the patches that a training mask hides in grey."""
    recipe = find_recipe(name)
    frontend, model = build_frontend(recipe.frontend), recipe.model
    rate, hop = frontend.config.sample_rate, frontend.config.hop_size
    wav = resample(torch.from_numpy(sounds(model.frames * hop / rate + 1)).float()[None], RATE, rate)
    spec = frontend(wav)[0, :, : model.frames].numpy()
    grid = Grid.of(spec.shape[0], model.frames, model.patch_size)
    single = replace(recipe.mask, views=1)
    noise = torch.rand(1, noise_size(model, single, grid), generator=torch.Generator().manual_seed(0))
    hidden = grid_image(grid, training_mask(model, grid, noise, blocks=single).hidden())
    low, high = np.quantile(spec, [0.05, 0.995])
    extent = (0.0, model.frames * hop / rate, 0.0, float(spec.shape[0]))
    axes.imshow(spec, origin="lower", aspect="auto", cmap="magma", vmin=low, vmax=high, extent=extent)
    cover = np.zeros((*hidden.shape, 4))
    cover[..., :3], cover[..., 3] = 0.75, hidden
    axes.imshow(cover, origin="lower", aspect="auto", interpolation="nearest", extent=extent)
    axes.set_title(f"{name}: {hidden.mean():.0%} of {grid.num_patches} patches masked", fontsize=9)
    axes.set_xlabel("seconds", fontsize=8)
    axes.set_ylabel("mel band", fontsize=8)
    axes.tick_params(labelsize=7)


def grid_image(grid: Grid, hidden: torch.Tensor) -> np.ndarray:
    """Return the hidden patches as an image (f, t), the lowest band first."""
    values = hidden.float()[..., None].expand(-1, -1, grid.patch_dim)
    image = grid.unpatchify(values)[0]
    return image[:: grid.patch_size[0], :: grid.patch_size[1]].numpy()


def draw_flow(axes: Axes, flow: Flow) -> None:
    """Draw the path of the student above that of the target, both ending at the loss."""
    axes.set(xlim=(0, 6.4), ylim=(0, 2))
    axes.axis("off")
    for row, path in ((1.25, flow.student), (0.25, flow.target)):
        step = 5.0 / len(path)
        for number, (text, colour) in enumerate(path):
            left, width = number * step, min(step - 0.25, 0.95)
            axes.add_patch(Rectangle((left, row), width, 0.5, facecolor=colour, edgecolor="#555555", linewidth=0.8))
            axes.text(left + width / 2, row + 0.25, text, ha="center", va="center", fontsize=7.5)
            last = number == len(path) - 1
            end = (5.35, 1.1 if row > 1 else 0.9) if last else (left + step, row + 0.25)
            axes.annotate("", end, (left + width, row + 0.25), arrowprops={"arrowstyle": "->", "lw": 0.8})
    axes.text(5.85, 1.0, flow.loss, ha="center", va="center", fontsize=8, weight="bold")
    if EMA in flow.target:
        axes.annotate(
            "", (2.1, 0.75), (1.7, 1.25), arrowprops={"arrowstyle": "->", "lw": 0.8, "ls": "--", "color": "#888888"}
        )
        axes.text(2.05, 1.0, "average of the weights", fontsize=6.5, color="#666666", va="center")


def main() -> None:
    """Write one figure for each page."""
    mpl.use("Agg")
    IMAGES.mkdir(parents=True, exist_ok=True)
    for name, flow in FLOWS.items():
        figure = Figure(figsize=(9.6, 2.3), dpi=110, layout="constrained")
        left, right = figure.subplots(1, 2, width_ratios=(3, 5))
        draw_mask(left, name)
        draw_flow(right, flow)
        figure.savefig(IMAGES / f"{name}.png")


if __name__ == "__main__":
    main()
