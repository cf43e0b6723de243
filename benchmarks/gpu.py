"""Rows f1 to f6: training and embedding on a GPU, measured in one run and written as one JSON.

    scripts/bench gpu -- --out gpu.json

f1  `pretrain` with msm-mae, size base, windows of 80x208, from a packed uint8 corpus of noise in host memory
f2  the same with sizes small and tiny
f3  `pretrain` with matpac, size base, windows of 80x608
f4  the fraction of the time of f1 in which a step waits for its batch; and the same with the corpus in GPU memory
f5  `Model.embed_many`, size base, bf16: WAV files of 10 s, and the same waves from memory
f6  hours of `EPOCHS` epochs of `AUDIOSET` windows at the rate of f1

Rates are those of the second half of a run: its journal has the seconds between two rows. The first half holds the
compilation. MFU is the FLOP of the matrix products of a step, counted by PyTorch, times steps a second, divided by the
peak of the GPU in bf16. Peers of f1 to f3: the steps of rows a1 and a4 in float16, without gradient scaling, on one
batch that stays on the GPU. Peer of f5: transformers' ASTModel in bf16 on spectrograms that are on the GPU; it computes
no front end. The candidates are timed one after the other, and outputs are not compared: rows a1, a4 and d1 do that.
All rows take some minutes; ``--rows`` measures some of them. What was measured is written after each case.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import soundfile
import torch
from torch import Tensor

from benchmarks import matpac_step, train_step
from benchmarks.made import write_corpus
from benchmarks.steps import flop_of, made_batch
from benchmarks.timing import machine
from unheard.config import override
from unheard.embedding.job import Options
from unheard.embedding.loading import load_own
from unheard.files import write_json
from unheard.recipes import find_recipe
from unheard.recipes.learner import build
from unheard.recipes.recipe import Recipe
from unheard.training.pretrain import pretrain

RATE, SECONDS = 16000, 10  # of the sounds of f5
AUDIOSET, EPOCHS = 2_000_000, 100
CORPUS = 5000  # clips of 10 s
FILES, AST_BATCH, ROUNDS = 2048, 256, 20
EMBED_SIZE = "base"
PEAKS = {
    "H200 NVL": 835, "H200": 989, "H100 PCIe": 756, "H100 NVL": 835, "H100": 989, "A100": 312, "L40S": 362, "L40": 181,
    "L4": 121, "RTX 4090": 165,
}  # fmt: skip
"""TFLOP/s in bf16 without sparsity, from the data sheets; the first name that the name of the GPU contains."""


@dataclass(frozen=True)
class Case:
    """A training run.

    Parameters
    ----------
    recipe, size : str
    frames, batch, steps : int
    wanted : float
        Windows a second on an H200, from the estimates of the project.
    on_device : bool
        Whether the corpus is in GPU memory.
    """

    recipe: str
    size: str
    frames: int
    batch: int
    steps: int
    wanted: float
    on_device: bool = False


BASE = Case("msm-mae", "base", 208, 1024, 600, 30_000)
CASES: dict[str, list[Case]] = {
    "f1": [BASE, replace(BASE, on_device=True)],
    "f2": [Case("msm-mae", "small", 208, 2048, 500, 55_000), Case("msm-mae", "tiny", 208, 4096, 500, 100_000)],
    "f3": [Case("matpac", "base", 608, 512, 160, 3_900)],
}
PEERS: dict[str, ModuleType] = {"msm-mae": train_step, "matpac": matpac_step}
Row = dict[str, Any]


def main() -> None:
    """Measure the rows and write them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--rows", default="f1,f2,f3,f5", help="rows to measure; f4 and f6 come with f1")
    parser.add_argument("--device", default="cuda", help="cpu: to try the program, the rates mean nothing")
    parser.add_argument("--peak", type=float, help="TFLOP/s of the GPU in bf16; default: by its name")
    given = parser.parse_args()
    chosen = given.rows.split(",")
    if unknown := sorted(set(chosen) - {*CASES, "f5"}):
        parser.error(f"unknown row {unknown[0]}; known: f1, f2, f3, f5")
    if given.device == "cuda" and not torch.cuda.is_available():
        sys.exit("these rows need a GPU that PyTorch can use (CUDA); torch.cuda.is_available() is false here")
    device = torch.cuda.get_device_name() if given.device == "cuda" else given.device
    peak = given.peak or next((value for name, value in PEAKS.items() if name in device), None)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as place:
        for row in chosen:
            measured = embedding(given.device, Path(place)) if row == "f5" else training(row, given.device, peak, place)
            for found in measured:
                rows.append(found)
                about = {"machine": machine(), "device": device, "peak_tflops": peak, "date": time.strftime("%Y-%m-%d")}
                write_json(given.out, {**about, "rows": rows})
    print(table(rows, device))


def training(row: str, device: str, peak: float | None, place: str) -> Iterator[Row]:
    """Measure the cases of a row, and yield them with what follows from them."""
    for case in CASES[row]:
        with tempfile.TemporaryDirectory(dir=place) as folder:
            rate, wait = trained(case, device, Path(folder))
        flop = flop_of_window(case)
        where = "corpus in GPU memory" if case.on_device else "corpus in host memory"
        what = f"{case.recipe}, {case.size}, {case.frames} frames, batch {case.batch}, {where}"
        yield {
            "row": row, "what": what, "unit": "windows/s", "value": rate, "wanted_on_h200": case.wanted,
            "gflop_per_window": flop / 1e9, "mfu": rate * flop / (peak * 1e12) if peak else None,
        }  # fmt: skip
        if row == "f1":
            yield {"row": "f4", "what": f"wait for batches in f1, {where}", "unit": "of the time", "value": wait,
                   "wanted_on_h200": 0.02}  # fmt: skip
        if row == "f1" and not case.on_device:
            yield {"row": "f6", "what": f"{EPOCHS} epochs of {AUDIOSET:,} windows, from f1", "unit": "hours",
                   "value": EPOCHS * AUDIOSET / rate / 3600, "wanted_on_h200": 2.0}  # fmt: skip
        if not case.on_device:
            yield {"row": row, "what": f"step of the peer, {case.size}, float16", "unit": "windows/s",
                   "value": (theirs := peer_rate(case, device)), "ours_over_peer": rate / theirs}  # fmt: skip


def recipe_of(case: Case) -> Recipe:
    """Return the recipe of a run."""
    own = (f"model.size={case.size}", f"model.frames={case.frames}", f"training.steps={case.steps}")
    every = min(20, max(1, case.steps // 10))
    length = (
        f"training.batch_size={case.batch}",
        f"training.checkpoint_every={case.steps}",
        f"training.log_every={every}",
    )
    return override(find_recipe(case.recipe), [*own, *length])


def trained(case: Case, device: str, place: Path) -> tuple[float, float]:
    """Return windows a second in the second half of a run, and the fraction of its time in which steps wait."""
    precision = "bf16" if device == "cuda" else "float32"
    kept = "true" if case.on_device and device == "cuda" else "false"
    recipe = override(recipe_of(case), [f"training.precision={precision}", f"data.on_device={kept}"])
    corpus = write_corpus(place / "corpus", np.full(CORPUS, 100 * SECONDS + 1), "uint8", recipe.frontend)
    pretrain(corpus, place / "run", recipe, device=device)
    journal = [json.loads(line) for line in (place / "run" / "metrics.jsonl").read_text().splitlines()]
    steps = [0, *(row["step"] for row in journal)]
    half = len(journal) // 2
    seconds = [row["seconds"] for row in journal[half:]]
    waits = [row["loader_wait"] * row["seconds"] for row in journal[half:]]
    return case.batch * (steps[-1] - steps[half]) / sum(seconds), sum(waits) / sum(seconds)


def flop_of_window(case: Case) -> float:
    """Return the FLOP of the matrix products and the attention of a training step, for one window."""
    recipe = recipe_of(case)
    return flop_of(recipe, made_batch(recipe, case.frames, 2)) / 2


def peer_rate(case: Case, device: str) -> float:
    """Return windows a second of the peer's step."""
    recipe = recipe_of(case)
    made = made_batch(recipe, case.frames, case.batch)
    values = {each.name: getattr(made, each.name) for each in fields(made)}
    batch = replace(made, **{name: value.to(device) for name, value in values.items() if isinstance(value, Tensor)})
    step = PEERS[case.recipe].baseline_step(build(recipe, 0), batch, device, device == "cuda")
    return case.batch / wall(step, device)


def wall(work: Callable[[], object], device: str) -> float:
    """Return the mean seconds of some work, after three turns that do not count."""
    for number in range(ROUNDS + 3):
        if number == 3:
            _synchronise(device)
            begin = time.perf_counter()
        work()
    _synchronise(device)
    return (time.perf_counter() - begin) / ROUNDS


def _synchronise(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def embedding(device: str, place: Path) -> Iterator[Row]:
    """Measure f5."""
    rng = np.random.default_rng(0)
    waves = [(0.1 * rng.standard_normal(SECONDS * RATE)).astype(np.float32) for _ in range(min(FILES, 64))]
    files = [place / f"{number:05d}.wav" for number in range(FILES)]
    for number, file in enumerate(files):
        soundfile.write(file, waves[number % len(waves)], RATE)
    model = load_own(f"random-{EMBED_SIZE}", device, "bf16" if device == "cuda" else "float32")

    def rate(sounds: Sequence[Any]) -> float:
        for _ in model.embed_many(sounds[: max(1, FILES // 8)], Options(frames=False)):  # does not count
            pass
        _synchronise(device)
        begin = time.perf_counter()
        count = sum(1 for _ in model.embed_many(sounds, Options(frames=False)))
        return count / (time.perf_counter() - begin)

    common = {"row": "f5", "unit": "clips/s", "wanted_on_h200": 6000}
    peer = ast_rate(device) if find_spec("transformers") else None
    if peer:
        yield {"row": "f5", "what": f"ASTModel, {EMBED_SIZE}, without front end", "unit": "clips/s", "value": peer}
    for name, sounds in (("WAV files", files), ("waves", [(waves[n % len(waves)], RATE) for n in range(FILES)])):
        value = rate(sounds)
        found = {**common, "what": f"embed, {EMBED_SIZE}, 10 s clips from {name}", "value": value}
        yield {**found, "ours_over_peer": value / peer if peer else None}


def ast_rate(device: str) -> float:
    """Return clips a second of the AST."""
    from benchmarks.embed import ast_model

    model, spec = ast_model(EMBED_SIZE).to(device), torch.randn(AST_BATCH, 1008, 80, device=device)

    def work() -> None:
        with torch.inference_mode(), torch.autocast(device, torch.bfloat16):
            model(spec)

    return AST_BATCH / wall(work, device)


def table(rows: list[Row], device: str) -> str:
    """Return the rows as a Markdown table."""
    lines = [f"**f** ({device}; {machine()})\n", "| row | what | value | MFU | ours over peer | wanted on an H200 |"]
    lines.append("|---" * 6 + "|")
    for row in rows:
        cells = (_text(row.get(name)) for name in ("mfu", "ours_over_peer", "wanted_on_h200"))
        lines.append(f"| {row['row']} | {row['what']} | {_text(row['value'])} {row['unit']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _text(number: float | None) -> str:
    if number is None:
        return ""
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"


if __name__ == "__main__":
    main()
