"""kill -9 at seeded moments: what is resumed equals what was never interrupted."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.torch import load_file
from tests.evaluation.made import make_task
from tests.faults.inputs import flags, make_model, make_sounds
from tests.faults.processes import kill, run, start, verb, wait

from unheard.embedding.table_files import read_blocks
from unheard.files import read_json_lines


@dataclass(frozen=True)
class Job:
    """A verb, how it is continued, and what it made.

    Parameters
    ----------
    first, again : callable of Path to list
        Arguments of the command, and of the one that continues it.
    made : callable of Path to str
        A digest of the result, the same whenever the results are.
    """

    first: Callable[[Path], list[object]]
    again: Callable[[Path], list[object]]
    made: Callable[[Path], str]


def jobs(inputs: Path) -> dict[str, Job]:
    """The verbs that are killed; their inputs are made in ``inputs``."""
    sounds, model = make_sounds(inputs / "sounds"), make_model(inputs / "model")
    pretrain = ["pretrain", sounds, "--batch-size", 4, "--steps", 14, "--device", "cpu", *flags()]
    tune = ["finetune", model, sounds / "labels.csv", "--steps", 12, "--batch-size", 4, "--device", "cpu"]
    tune += ["--set", "training.checkpoint_every=3", "--set", "training.precision=float32"]
    embed = ["embed", model, sounds, "--device", "cpu"]
    probe = ["probe", model, sounds / "labels.csv", "--seeds", 1, "--device", "cpu"]
    task = inputs / "tasks" / "noise"
    if not task.is_dir():
        make_task(task)
    evaluate = ["evaluate", model, task.parent, "--device", "cpu"]
    waves = inputs / "waves"
    if not waves.is_dir():
        run(verb(["data", "pack", sounds, "-o", waves, "--store", "wav"]), inputs / "log")
    targets = ["data", "targets", waves, "--teacher", model, "--pca", 4, "--device", "cpu"]
    return {
        "pretrain": Job(
            lambda out: [*pretrain, "-o", out], lambda out: ["pretrain", "--resume", out, "--device", "cpu"], _run
        ),
        "pack": Job(
            lambda out: ["data", "pack", sounds, "-o", out], lambda out: ["data", "pack", sounds, "-o", out], _files
        ),
        "targets": Job(lambda out: [*targets, "-o", out], lambda out: [*targets, "-o", out], _files),
        "embed": Job(
            lambda out: [*embed, "-o", out / "e.npz"], lambda out: [*embed, "-o", out / "e.npz", "--resume"], _table
        ),
        "finetune": Job(
            lambda out: [*tune, "-o", out], lambda out: ["finetune", "--resume", out, "--device", "cpu"], _run
        ),
        "probe": Job(lambda out: [*probe, "-o", out], lambda out: [*probe, "-o", out, "--overwrite"], _scores),
        "evaluate": Job(
            lambda out: [*evaluate, "-o", out], lambda out: [*evaluate, "-o", out, "--resume"], _evaluation
        ),
    }


def kills(place: Path, count: int, names: tuple[str, ...] = (), seed: int = 0) -> tuple[int, list[str]]:
    """Kill ``count`` jobs, the verbs in turn, and continue each. Return how many, and what differed."""
    rng, faults = np.random.default_rng(seed), []
    every = {name: job for name, job in jobs(place / "inputs").items() if not names or name in names}
    wanted, seconds = {}, {}
    for name, job in every.items():
        ended = run(verb(job.first(place / f"whole-{name}")), place / "log")
        if ended.code:
            return 0, [f"{name} fails without any kill: {ended.text[-300:]}"]
        wanted[name], seconds[name] = job.made(place / f"whole-{name}"), ended.seconds
    for number in range(count):
        name = list(every)[number % len(every)]
        job, out, log = every[name], place / "killed", place / "log"
        shutil.rmtree(out, ignore_errors=True)
        began = time.monotonic()
        child = start(verb(job.first(out)), log)
        time.sleep(float(rng.uniform(0.1, 1.0)) * seconds[name])
        kill(child)
        wait(child, log, began)
        ended = run(verb(job.again(out)), log)
        if ended.code == 2 and "there is no" in ended.text:  # it was killed before it wrote anything
            ended = run(verb([*job.first(out), "--overwrite"]), log)
        if ended.code or job.made(out) != wanted[name]:
            faults.append(
                f"{name}, kill {number}: {f'exit {ended.code}' if ended.code else 'another result'}:"
                f" {ended.text[-300:]}"
            )
    return count, faults


def _run(out: Path) -> str:
    """Weights and losses of a run."""
    digest = hashlib.sha256()
    for name, value in sorted(load_file(out / "model" / "model.safetensors").items()):
        digest.update(name.encode() + value.numpy().tobytes())
    rows, damaged = read_json_lines(out / "metrics.jsonl")
    return digest.hexdigest() + json.dumps([(row["step"], row["loss"]) for row in rows]) + str(damaged)


def _files(out: Path) -> str:
    return "".join(f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()} " for path in sorted(out.iterdir()))


def _table(out: Path) -> str:
    rows = [row for block in read_blocks(out / "e.npz") for row in block.to_pylist()]
    return json.dumps(sorted((row["path"], row["seconds"], np.round(row["embedding"], 4).tolist()) for row in rows))


def _evaluation(out: Path) -> str:
    return (out / "results-heareval.csv").read_text()


def _scores(out: Path) -> str:
    return json.dumps(json.loads((out / "probe.json").read_text()).get("scores", (out / "probe.md").read_text()))
