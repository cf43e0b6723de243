"""Row e: scoring embeddings by the HEAR protocol, compared with heareval on the same embeddings.

The peer does not install together with a current torch. Without ``--peer``, this makes an environment for it below
``.venv``: its wheel unpacked, a lightning it works with, and the packages of this environment behind them.

    scripts/bench e
    .venv/bin/python -m benchmarks.heareval --peer OTHER/bin/python --source PYTHONPATH_OF_HEAREVAL

Tasks are drawn from a seed: ESC-50's size (2000 x 3840, 5 folds), a small scene task, an event task with the whole grid
and with its first point, which has one hidden layer. Both sides run in processes of their own on one thread; CPU time
counts, without imports and, in a ratio of its own, with them. Scores are compared first.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.timing import machine
from unheard.evaluation.hear.embeddings import embed_task
from unheard.evaluation.hear.task_folder import read_task

PEER = """
import sys, time, logging, json
from pathlib import Path
import torch
from pytorch_lightning.loops import FitLoop
# Lightning ignores the attribute with which heareval selects the post-processing of the test.
# Without this, event tasks end in a KeyError.
FitLoop.current_epoch = property(
    lambda self: None, lambda self, epoch: setattr(self.epoch_progress.current, "completed", epoch)
)
from heareval.predictions.task_predictions import task_predictions
torch.set_num_threads(1)
folder = Path(sys.argv[1])
size = json.loads((folder / "test.size").read_text())
weight = torch.nn.Parameter(torch.zeros(1))
weight.grad = torch.zeros(1)
torch.optim.Adam([weight]).step()  # what it imports does not count
begin = time.process_time()
task_predictions(folder, size, int(sys.argv[2]), None, True, True, "default", logging.getLogger("x"))
print("SECONDS", time.process_time() - begin)
"""
OURS = """
import sys, time, json
from pathlib import Path
import torch
from unheard.evaluation.hear import robust, heareval
from unheard.evaluation.hear.rows import read_splits
from unheard.evaluation.hear.task_folder import read_task
import scipy.sparse.csgraph
torch.set_num_threads(1)
folder, points, mode = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
task = read_task(folder)
weight = torch.nn.Parameter(torch.zeros(1))
weight.grad = torch.zeros(1)
torch.optim.Adam([weight]).step()  # what it imports does not count
begin = time.process_time()
splits = read_splits(folder, task)
if mode == "heareval":
    runs = [heareval.evaluate(task, splits, points).tested]
else:
    runs = robust.evaluate(task, splits, points, seeds=3)
spent = (time.process_time() - begin) / len(runs)
print("SCORES", json.dumps({tested.split: tested.scores for tested in runs[0]}))
print("SECONDS", spent)
"""


PACKAGES = [
    "pytorch-lightning==1.9.5",
    "torchmetrics==1.9.0",
    "setuptools==80.10.2",
    "sed_eval==0.2.1",
    "dcase_util==0.2.20",
    "torchinfo==1.8.0",
    "intervaltree==3.2.1",
    "more-itertools==11.2.1",
    "python-slugify==9.2.0",
    "text-unidecode==1.3",
    "pandas==3.1.1",
    "validators==0.36.0",
    "future==1.0.0",
    "six==1.17.0",
]
"""What heareval 2021.1.3 needs and this library does not; the last lightning that still has what it calls."""
COLUMNS = (
    "task",
    "largest_difference",
    "heareval_s",
    "ours_s",
    "ratio",
    "ratio_whole",
    "fixed_s_per_seed",
    "ratio_fixed",
)
STUB = "class Module: pass\nclass Tensor: pass\n"  # all that heareval asks of tensorflow for a torch model


class Drawn:
    """Embeddings that tell the class, with noise; silence in, numbers out."""

    name = identity = "drawn"
    sample_rate = 16000

    def __init__(self, size: int) -> None:
        self.options: dict[str, Any] = {}
        self.size, self.generator = size, torch.Generator().manual_seed(0)

    def scenes(self, audio: torch.Tensor) -> torch.Tensor:
        """The class stands in the first sample."""
        centre = torch.randn(len(audio), self.size, generator=self.generator)
        for row, wav in enumerate(audio):
            centre[row] += 0.5 * torch.randn(
                self.size, generator=torch.Generator().manual_seed(round(float(wav[0]) * 100))
            )
        return centre

    def timestamps(self, audio: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """One frame every 50 ms, which hears what is loud there."""
        loud = audio[:, : audio.shape[1] // 800 * 800].reshape(len(audio), -1, 800).abs().amax(dim=2)
        noise = 0.3 * torch.randn(*loud.shape, self.size, generator=self.generator)
        return noise + loud[..., None], (25 + 50 * torch.arange(loud.shape[1])).expand(len(audio), -1).float()


def build(folder: Path, clips: int, labels: int, folds: int, event: bool, epochs: int) -> Path:
    """A task folder with audio that carries its labels."""
    import soundfile

    rng = np.random.default_rng(0)
    splits = [f"fold{i:02d}" for i in range(folds)] if folds else ["train", "valid", "test"]
    seconds = 60.0 if event else 0.1
    for index, split in enumerate(splits):
        (folder / "16000" / split).mkdir(parents=True)
        table: dict[str, Any] = {}
        for clip in range(clips // len(splits)):
            name, wav, label = f"{split}-{clip}.wav", np.zeros(int(seconds * 16000)), (clip + index) % labels
            if event:
                starts = np.sort(rng.uniform(0, seconds * 1000 - 1500, 40))
                table[name] = [
                    {"label": str(rng.integers(labels)), "start": s, "end": s + rng.uniform(200, 1200)} for s in starts
                ]
                for each in table[name]:
                    wav[int(16 * each["start"]) : int(16 * each["end"])] = 0.1 + 0.08 * int(each["label"])
            else:
                wav[0], table[name] = label / 100, [str(label)]
            soundfile.write(folder / "16000" / split / name, wav, 16000)
        (folder / f"{split}.json").write_text(json.dumps(table))
    order = sorted(str(label) for label in range(labels))
    (folder / "labelvocabulary.csv").write_text(
        "idx,label\n" + "".join(f"{i},{name}\n" for i, name in enumerate(order))
    )
    metadata = {
        "task_name": folder.name,
        "embedding_type": "event" if event else "scene",
        "sample_duration": seconds,
        "splits": splits,
        "prediction_type": "multilabel" if event else "multiclass",
        "split_mode": "new_split_kfold" if folds else "trainvaltest",
        "evaluation": ["event_onset_200ms_fms", "segment_1s_er"] if event else ["top1_acc", "mAP", "d_prime", "aucroc"],
        "evaluation_params": {"task_specific_param_grid": {"max_epochs": [epochs]}},
    }
    (folder / "task_metadata.json").write_text(json.dumps(metadata))
    return folder


def install(place: Path) -> tuple[Path, str]:
    """An environment that runs heareval: its interpreter, and where heareval lies."""
    python, source, done = place / "bin" / "python", place / "source", place / "done"
    if not done.is_file():
        print(f"installing heareval and what it needs into {place}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(place)], check=True)
        pip = [str(python), "-m", "pip", "-q", "--disable-pip-version-check"]
        subprocess.run([*pip, "install", "--no-deps", *PACKAGES], check=True)
        subprocess.run([*pip, "install", "--no-deps", "--target", str(source), "heareval==2021.1.3"], check=True)
        (source / "tensorflow").mkdir()
        (source / "tensorflow" / "__init__.py").write_text(STUB)
        site = place / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
        (site / "zz.pth").write_text(sysconfig.get_path("purelib") + "\n")
        done.touch()
    return python, str(source)


def measure(command: list[str], path: str, work: Path) -> tuple[float, float, dict[str, Any]]:
    """CPU seconds of the work, those of the whole process with its imports, and perhaps scores."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1", "PYTHONPATH": path}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=work, check=False)
    table = dict(line.split(" ", 1) for line in done.stdout.splitlines() if line.startswith(("SECONDS ", "SCORES ")))
    if "SECONDS" not in table:
        sys.exit(f"{command[0]} failed:\n{done.stderr[-2000:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    whole = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return float(table["SECONDS"]), whole, json.loads(table.get("SCORES", "{}"))


def compare(title: str, folder: Path, points: int, options: argparse.Namespace, work: Path) -> dict[str, Any]:
    """One task: peer, ours, ours fixed, in turns."""
    peers, ours, better, entire, largest = [], [], [], [], 0.0
    for _ in range(options.rounds):
        seconds, theirs_whole, _ = measure([options.peer, "-c", PEER, str(folder), str(points)], options.source, work)
        peers.append(seconds)
        seconds, ours_whole, scores = measure(
            [sys.executable, "-c", OURS, str(folder), str(points), "heareval"], "", work
        )
        ours.append(seconds)
        entire.append(theirs_whole / ours_whole)
        better.append(measure([sys.executable, "-c", OURS, str(folder), str(points), "robust"], "", work)[0])
        theirs = json.loads((folder / "test.predicted-scores.json").read_text())
        for split, found in scores.items():
            largest = max(
                largest, *(abs(v - theirs[split][f"test_{k}"]) if np.isfinite(v) else 0.0 for k, v in found.items())
            )
    ratio, quick = ([p / o for p, o in zip(peers, side, strict=True)] for side in (ours, better))
    middle = {
        "heareval_s": peers,
        "ours_s": ours,
        "fixed_s_per_seed": better,
        "ratio": ratio,
        "ratio_whole": entire,
        "ratio_fixed": quick,
    }
    return {
        "task": title,
        "largest_difference": largest,
        **{name: round(statistics.median(v), 2) for name, v in middle.items()},
    }


def main() -> None:
    """Build, embed, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", help="an interpreter that can run heareval; made when left out")
    parser.add_argument("--source", default="", help="PYTHONPATH of heareval and a stub of tensorflow")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--case", type=int, nargs="*", default=[0, 1, 2, 3], help="ESC-50 size, small scenes, events twice"
    )
    parser.add_argument("--json", action="store_true")
    options, rows = parser.parse_args(), []
    if options.peer is None:
        options.peer, options.source = map(str, install(Path(sys.prefix) / "peers" / "heareval"))
    cases = (
        ("ESC-50 size, 8 points, 6 epochs", 2000, 50, 5, False, 6, 3840, 8),
        ("small scenes, 8 points, 60 epochs", 240, 8, 0, False, 60, 128, 8),
        ("events, 8 points, 6 epochs", 15, 6, 0, True, 6, 64, 8),
        ("events, 1 point, 6 epochs", 15, 6, 0, True, 6, 64, 1),
    )
    with tempfile.TemporaryDirectory() as made:
        for index, (title, clips, labels, folds, event, epochs, size, points) in enumerate(cases):
            if index not in options.case:
                continue
            task = read_task(build(Path(made) / f"drawn{index}", clips, labels, folds, event, epochs))
            folder = Path(made) / "embeddings" / task.name
            embed_task(task, Drawn(size), folder)
            (folder / "test.size").write_text(str(size))
            rows.append(compare(title, folder, points, options, Path(made)))
            print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    if options.json:
        print(json.dumps({"row": "e", "machine": machine(), "rows": rows}))
        return
    print(f"**row e** ({machine()})\n")
    print(
        "| task | largest difference of a score | heareval s | ours s | ratio | with imports | fixed, s a seed |"
        " ratio |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for row in rows:
        cells = (row[key] for key in COLUMNS)
        print(
            "| "
            + " | ".join(f"{cell:.1e}" if isinstance(cell, float) and cell < 1e-3 else str(cell) for cell in cells)
            + " |"
        )


if __name__ == "__main__":
    main()
