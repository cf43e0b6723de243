"""Row e2: the protocol of X-ARES, compared with its program on the same tasks and the same embeddings.

    scripts/bench e2
    .venv/bin/python -m benchmarks.xares --tasks xt --encoder tiny_encoder.py

Without ``--tasks``, tasks of tones in noise are generated: ESC-50's size (2000 clips of 1 s, 50 classes, 5 folds), and
one with splits and clips of unequal length. ``--tasks`` is a folder that ``unheard data tasks --layout xares`` wrote;
tasks with one class a clip are compared. Without ``--encoder``, a fixed matrix gives 768 numbers every 40 ms.

The program is xares 0.1.3, in an environment of its own below ``.venv``. Its sounds are read by soundfile, because
its own reader needs FFmpeg. Both sides run in processes of their own on one thread, in turns. The stages are the
embedding of the sounds, and the scores of stored embeddings (the head and nearest neighbours). Imports do not count.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import unheard
from benchmarks.timing import machine
from unheard.audio.waveform import Waveform, from_array
from unheard.datasets.write_hear_folder import Item, TaskSpec
from unheard.datasets.xares_folder import write_xares_folder
from unheard.evaluation.xares.tasks import XaresTask, choose_tasks

PACKAGES = [
    "xares==0.1.3",
    "pytorch-ignite==0.5.5",
    "torchaudio==2.11.1",
    "torchmetrics==1.9.0",
    "lightning-utilities==0.15.3",
    "webdataset==1.0.2",
    "braceexpand==0.1.7",
    "loguru==0.7.3",
    "jiwer==4.0.0",
    "rapidfuzz==3.14.5",
    "pandas==3.1.1",
]
"""What X-ARES needs and this library does not."""

ENCODER = """
import torch


class DrawnEncoder(torch.nn.Module):
    sampling_rate, output_dim, hop_size_in_ms = 16000, 768, 40

    def __init__(self):
        super().__init__()
        self.register_buffer("matrix", torch.randn(640, 768, generator=torch.Generator().manual_seed(0)) / 25)

    def forward(self, audio):
        audio = torch.nn.functional.pad(audio, (0, -audio.shape[-1] % 640))
        return torch.log1p((audio.unflatten(-1, (-1, 640)) @ self.matrix).abs())
"""

PEER = """
import json, sys, time
import soundfile, torch, torchaudio
def load(file, **others):
    sound, rate = soundfile.read(file, dtype="float32", always_2d=True)
    return torch.from_numpy(sound.T), rate
torchaudio.load = load
from loguru import logger
from xares.run import worker
torch.multiprocessing.set_start_method("spawn")
logger.remove()
encoder, tasks = sys.argv[1], sys.argv[2:]
found = {"embed": {}, "score": {}, "head": {}, "neighbours": {}}
for task in tasks:
    begin = time.perf_counter(), time.process_time()
    worker(encoder, task, do_encode=True)
    middle = time.perf_counter(), time.process_time()
    _, head, neighbours, _ = worker(encoder, task, do_mlp=True, do_knn=True)
    end = time.perf_counter(), time.process_time()
    name = task.removesuffix("_task.py")
    found["embed"][name] = [middle[0] - begin[0], middle[1] - begin[1]]
    found["score"][name] = [end[0] - middle[0], end[1] - middle[1]]
    found["head"][name], found["neighbours"][name] = float(head[0]), float(neighbours[0])
print("FOUND", json.dumps(found))
"""

OURS = """
import json, shutil, sys, time
from pathlib import Path
from unheard.evaluation.encoders.choose import encoder as encoder_of
from unheard.evaluation.xares.suite import evaluate
from unheard.evaluation.xares.tasks import choose_tasks
encoder, tasks, names = sys.argv[1], sys.argv[2], sys.argv[3:]
found = {"embed": {}, "score": {}, "head": {}, "neighbours": {}}
def run(name):
    begin = time.perf_counter(), time.process_time()
    (result,) = evaluate([encoder_of("xares:" + encoder)], choose_tasks(tasks, [name])[0], Path("scores")).results
    spent = time.perf_counter() - begin[0], time.process_time() - begin[1]
    return spent, result.scores
for name in names:
    whole, _ = run(name)
    shutil.rmtree("scores/scores")
    again, scores = run(name)  # from the stored embeddings
    found["embed"][name] = [a - b for a, b in zip(whole, again)]
    found["score"][name] = again
    found["head"][name], found["neighbours"][name] = scores["accuracy"], scores["knn"]
print("FOUND", json.dumps(found))
"""

WHAT = ("head", "neighbours")


def install(place: Path) -> Path:
    """An environment that runs X-ARES on the packages of this one: its interpreter."""
    python, done = place / "bin" / "python", place / "done"
    if not done.is_file():
        print(f"installing xares and what it needs into {place}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(place)], check=True)
        pip = [str(python), "-m", "pip", "-q", "--disable-pip-version-check"]
        subprocess.run([*pip, "install", "--no-deps", *PACKAGES], check=True)
        site = place / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
        (site / "zz.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
        for library in (site / "torchaudio" / "lib").glob("*.so"):
            library.unlink()  # they need CUDA, and torchaudio resamples without them
        done.touch()
    return python


def draw_tasks(folder: Path) -> None:
    """Write two tasks of tones in noise."""
    folds = [f"fold{index:02d}" for index in range(5)]
    _draw(folder, TaskSpec("esc50-size", "folds", None, ("top1_acc",)), folds, (2000, 50), (1.0, 1.0))
    splits = ["train", "train", "train", "valid", "test"]
    _draw(folder, TaskSpec("splits", "split", None, ("top1_acc",)), splits, (2000, 8), (0.5, 4.0))


def _draw(
    folder: Path, sheet: TaskSpec, splits: list[str], size: tuple[int, int], seconds: tuple[float, float]
) -> None:
    clips, classes = size
    items = []
    for clip in range(clips):
        label = clip // len(splits) % classes
        items.append(
            Item(f"{clip:06d}", splits[clip % len(splits)], (str(label),), partial(_tone, clip, label, seconds))
        )
    write_xares_folder(sheet, items, folder, 16000)


def _tone(clip: int, label: int, seconds: tuple[float, float], rate: int) -> Waveform:
    rng = np.random.default_rng(clip)
    times = np.arange(round(rng.uniform(*seconds) * rate)) / rate
    return from_array(0.08 * np.sin(2 * np.pi * 100 * (label + 1) * times) + rng.normal(0, 0.1, len(times)), rate, rate)


def write_config(task: XaresTask, folder: Path, file: Path) -> None:
    """Write the file with which X-ARES reads a task."""
    folds = {name: f"{name}*.tar" for name in task.folds}
    parts = dict(zip(("train", "valid", "test"), (f"{name}*.tar" for name in task.splits), strict=False))
    classes = {label: index for index, label in enumerate(task.classes)}
    file.write_text(f"""from xares.task import TaskConfig

CLASSES = {classes!r}


def label_of(record):
    return CLASSES[record["label"]]


def drawn_config(encoder):
    config = TaskConfig(
        name={folder.name!r}, env_root={str(folder.parent)!r}, encoder=encoder, label_processor=label_of, private=True,
        k_fold_splits={list(folds) or None!r}, output_dim={len(classes)}, metric="accuracy", epochs={task.epochs},
        batch_size_train={task.batch}, batch_size_encode={task.encode_batch}, torch_num_threads=1,
    )
    config.audio_tar_name_of_split = {folds or parts!r}
    return config
""")


def measure(command: list[str], path: str, work: Path) -> dict[str, Any]:
    """Run one side, and return what it found."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=work, check=False)
    lines = [line for line in done.stdout.splitlines() if line.startswith("FOUND ")]
    if not lines:
        sys.exit(f"{command[0]} failed:\n{done.stderr[-3000:]}")
    found: dict[str, Any] = json.loads(lines[0].removeprefix("FOUND "))
    return found


def one_round(peer: Path, encoder: Path, tasks: list[Path], place: Path) -> list[dict[str, Any]]:
    """Run both sides on fresh copies of the tasks. Return what each of them found."""
    place.mkdir()
    shutil.copy(encoder, place / encoder.name)
    for folder in tasks:
        copy = place / "env" / folder.name
        shutil.copytree(folder, copy)
        (copy / ".audio_tar_ready").touch()
        ((_, task),), _ = choose_tasks(copy.parent, [folder.name])
        write_config(task, copy, place / f"{module_of(folder)}_task.py")
    source = str(Path(unheard.__file__).parents[1])
    files = [f"{module_of(folder)}_task.py" for folder in tasks]
    theirs = measure([str(peer), "-c", PEER, encoder.name, *files], source, place)
    names = [folder.name for folder in tasks]
    ours = measure([sys.executable, "-c", OURS, encoder.stem, "env", *names], f"{source}{os.pathsep}{place}", place)
    return [theirs, ours]


def module_of(folder: Path) -> str:
    """The name of a task in the program, which imports its file."""
    return folder.name.replace("-", "_")


def rows_of(rounds: list[list[dict[str, Any]]], tasks: list[Path]) -> Iterator[dict[str, Any]]:
    """Yield a row for each task and stage: seconds, and ratios of each round."""
    for folder in tasks:
        for stage in ("embed", "score"):
            pairs = [(theirs[stage][module_of(folder)], ours[stage][folder.name]) for theirs, ours in rounds]
            walls, cpus = ([a[unit] / b[unit] for a, b in pairs] for unit in (0, 1))
            theirs_s, ours_s = (statistics.median(pair[side][0] for pair in pairs) for side in (0, 1))
            yield {
                "task": folder.name,
                "stage": stage,
                "program_s": round(theirs_s, 2),
                "ours_s": round(ours_s, 2),
                "ratio": round(statistics.median(walls), 2),
                "lowest": round(min(walls), 2),
                "highest": round(max(walls), 2),
                "ratio_cpu": round(statistics.median(cpus), 2),
            }


def scores_of(rounds: list[list[dict[str, Any]]], tasks: list[Path]) -> Iterator[str]:
    """Yield a line for each task with the scores of both sides in the first round."""
    theirs, ours = rounds[0]
    for folder in tasks:
        pairs = (f"{what} {theirs[what][module_of(folder)]:.4f} {ours[what][folder.name]:.4f}" for what in WHAT)
        yield f"{folder.name}: scores of the program and ours: {', '.join(pairs)}"


def main() -> None:
    """Build, run both sides in turns, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", type=Path, help="an interpreter that can run xares; made when left out")
    parser.add_argument("--tasks", type=Path, help="tasks in the layout of X-ARES")
    parser.add_argument("--encoder", type=Path, help="a file with an encoder of X-ARES")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    peer = given.peer or install(Path(sys.prefix) / "peers" / "xares")
    with tempfile.TemporaryDirectory() as made:
        work = Path(made)
        encoder = given.encoder or work / "drawn_encoder.py"
        if given.encoder is None:
            encoder.write_text(ENCODER)
        if given.tasks is None:
            draw_tasks(work / "drawn")
        found, _ = choose_tasks(given.tasks or work / "drawn", [])
        tasks = [folder for folder, task in found if task.kind == "single"]
        if not tasks:
            sys.exit(f"{given.tasks} has no task with one class a clip")
        rounds = [one_round(peer, encoder, tasks, work / f"round{number}") for number in range(given.rounds)]
    rows = list(rows_of(rounds, tasks))
    if given.json:
        print(json.dumps({"row": "e2", "machine": machine(), "scores": list(scores_of(rounds, tasks)), "rows": rows}))
        return
    print(f"**row e2** ({machine()})\n", *scores_of(rounds, tasks), "", sep="\n")
    print("| task | stage | xares s | ours s | ratio | lowest to highest | ratio of CPU time |")
    print("|---|---|---|---|---|---|---|")
    for row in rows:
        spread = f"{row['lowest']} to {row['highest']}"
        cells = (row["task"], row["stage"], row["program_s"], row["ours_s"], row["ratio"], spread, row["ratio_cpu"])
        print(f"| {' | '.join(map(str, cells))} |")


if __name__ == "__main__":
    main()
