"""Row c1: random crops of 208 frames from packed log-mel, one core. Baseline: one float32 .npy a clip, loaded whole in
a Dataset, cropped, normalised and collated by a DataLoader, as the programs of the MSM-MAE family do.

Page caches are warm. The packed rows stop at stored values (float16 or uint8), because the device widens and normalises
them; the last row does that on the CPU as well and makes finished training batches.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from benchmarks.timing import arguments, interleave, show
from unheard.audio.frontend import LogMelConfig, Statistics
from unheard.audio.frontend_kinds import AnyFrontendConfig
from unheard.data.loader import PretrainLoader
from unheard.data.prefetch import BatchPlan, RankSlice
from unheard.data.shard_layout import Dtype, Header, Index, Texts, dequantise, quantise, value_range
from unheard.data.store import SpecStore
from unheard.data.windows.crops import CropSampler
from unheard.model.patches import Grid

CLIPS, FRAMES, WIDTH, BATCH = 1500, 1001, 208, 256
RANGE = value_range(LogMelConfig())
STATISTICS = Statistics((-7.1,), (4.2,))


class OneFileAClip(Dataset[Tensor]):
    """The baseline's data set."""

    def __init__(self, folder: Path) -> None:
        self.files = sorted(folder.glob("*.npy"))

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, number: int) -> Tensor:
        spec = np.load(self.files[number])
        start = np.random.randint(spec.shape[-1] - WIDTH)  # noqa: NPY002 - as the baseline does
        crop = spec[:, start : start + WIDTH]
        return torch.from_numpy((crop - STATISTICS.mean[0]) / STATISTICS.std[0])[None]


def packed(
    folder: Path, specs: list[np.ndarray], dtype: Dtype, frontend: AnyFrontendConfig = LogMelConfig()
) -> SpecStore:
    """The clips, all of `FRAMES` frames, as a mapped shard."""
    file, limits, clips = folder / f"{dtype}.bin", value_range(frontend), len(specs)
    np.concatenate([quantise(spec.T, dtype, limits)[0] for spec in specs]).tofile(file)
    counts, names = np.full(clips, FRAMES), Texts.of([str(i) for i in range(clips)])
    index = Index(
        np.zeros(clips, np.int64), np.arange(clips) * FRAMES, counts, names, names, np.zeros(clips), counts * 0.01
    )
    shard = np.memmap(file, dtype, mode="r", shape=(clips * FRAMES, frontend.n_mels))
    header = Header(frontend, dtype, STATISTICS, STATISTICS, "benchmark", value_range=limits)
    return SpecStore(header, index, [shard])


def gather(store: SpecStore, steps: int = 200) -> Callable[[], int]:
    """Draw and copy crops, batch by batch."""
    sampler = CropSampler(store.frames, WIDTH, seed=0, crops="one")
    turn = iter(range(10**9))

    def work() -> int:
        for _ in range(steps):
            store.copy_windows(sampler.pieces(*sampler.positions(next(turn), BATCH)), BATCH, WIDTH)
        return steps * BATCH

    return work


def finished(store: SpecStore, steps: int = 30) -> Callable[[], int]:
    """Whole training batches: float32, normalised, band-major, with mask noise."""
    loader, turn = loader_of(store, Grid.of(80, WIDTH, (16, 16)), BATCH), iter(range(10**9))
    return lambda: sum(len(loader.batch(next(turn)).spec) for _ in range(steps))


def loader_of(store: SpecStore, grid: Grid, count: int) -> PretrainLoader:
    """The loader of a training run with one process."""
    sampler = CropSampler(store.frames, grid.frames, seed=0, crops="one")
    return PretrainLoader(store, sampler, grid, STATISTICS, BatchPlan(range(1), RankSlice(count)))


def check(store: SpecStore, specs: list[np.ndarray]) -> float:
    """Largest difference of packed crops to plain slices of the clips."""
    ids, starts = CropSampler(store.frames, WIDTH, seed=1, crops="one").draw(0, np.arange(BATCH))
    windows = dequantise(torch.from_numpy(store.gather(ids, starts, WIDTH)[0]), RANGE).numpy()
    wanted = np.stack([specs[i].T[start : start + WIDTH] for i, start in zip(ids, starts, strict=True)])
    return float(np.abs(windows - wanted).max())


def main() -> None:
    chosen = arguments(__doc__ or "")
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    specs = [rng.uniform(-15, 5, (80, FRAMES)).astype(np.float32) for _ in range(CLIPS)]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number, spec in enumerate(specs):
            np.save(folder / f"{number:05d}.npy", spec)
        stores: dict[Dtype, SpecStore] = {
            "float16": packed(folder, specs, "float16"),
            "uint8": packed(folder, specs, "uint8"),
        }
        differences = {dtype: check(store, specs) for dtype, store in stores.items()}
        if differences["float16"] > 0.005 or differences["uint8"] > 0.05:
            raise SystemExit(f"crops differ by {differences}")
        baseline = DataLoader(OneFileAClip(folder), batch_size=BATCH, shuffle=True, drop_last=True)
        candidates: dict[str, Callable[[], int]] = {
            "one .npy a clip, Dataset + DataLoader": lambda: sum(len(batch) for batch in baseline),
            "unheard, packed float16": gather(stores["float16"]),
            "unheard, packed uint8": gather(stores["uint8"]),
            "unheard, packed float16, finished float32 batches": finished(stores["float16"]),
        }
        table = interleave(candidates, chosen.rounds)
    checked = "Largest difference to plain slices: " + ", ".join(
        f"{dtype} {value:.1e}" for dtype, value in differences.items()
    )
    show("c1", table, f"crops of {WIDTH} frames", checked, chosen.json)


if __name__ == "__main__":
    main()
