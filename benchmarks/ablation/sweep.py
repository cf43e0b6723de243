"""Train the arms that are not trained yet, probe those not probed yet. The same command continues after a kill.

DIR/corpora/STORE-RECIPE    the corpus, packed once for all arms with the front end of a recipe
DIR/runs/ARM-SEED           one run each
DIR/scores.jsonl            one row a score: arm, seed, step, seconds, task, score
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.ablation.arms import ARMS, recipe_of
from unheard.audio.frontend_kinds import AnyFrontendConfig
from unheard.config import override
from unheard.data.corpus import open_corpus
from unheard.data.label_table import Labels, read_labels
from unheard.data.pack import pack
from unheard.data.pack_clip import PackConfig
from unheard.data.shard_layout import HEADER
from unheard.embedding.embedder import Model, Options
from unheard.errors import ConfigError
from unheard.evaluation.probe.heads import REGULARISATION
from unheard.evaluation.probe.probe import ProbeConfig, probe_embeddings
from unheard.evaluation.probe.vectors import log_mel, sounds_of
from unheard.files import read_json, write_json
from unheard.progress import bar
from unheard.recipes import find_recipe
from unheard.recipes.learner import build
from unheard.training.callbacks import Callbacks
from unheard.training.checkpoints import checkpoints, read_progress
from unheard.training.pretrain import pretrain
from unheard.training.resume import resume
from unheard.training.run_folder import is_run
from unheard.weights.checkpoint import SavedModel, load_model
from unheard.weights.tensors import read_tensors

Row = dict[str, Any]
UNTRAINED, LOG_MEL = "untrained", "log-mel"


@dataclass(frozen=True)
class Sweep:
    """One sweep.

    Parameters
    ----------
    data : Path
        A folder of audio or a CSV.
    tasks : sequence of Path
        Label tables.
    out : Path
    arms : sequence of str
        Names in `ARMS`.
    seeds : sequence of int
    steps, points : int
        Optimiser steps of a run, and checkpoints that are probed.
    size, teacher : str
    settings : tuple of str
        ``section.key=value`` for every arm.
    """

    data: Path
    tasks: Sequence[Path]
    out: Path
    arms: Sequence[str]
    seeds: Sequence[int]
    steps: int
    points: int
    size: str
    teacher: str
    settings: tuple[str, ...]

    def begin(self) -> None:
        """Note what all runs share, or compare with what was noted: runs of another length or student are another
        sweep.

        Raises
        ------
        ConfigError
            Naming what differs.
        """
        shared = {"data": str(self.data.resolve()), "steps": self.steps, "points": self.points, "size": self.size,
                  "teacher": self.teacher, "settings": list(self.settings)}  # fmt: skip
        file = self.out / "sweep.json"
        before = read_json(file) if file.is_file() else shared
        if differing := [
            f"{name} was {before.get(name)!r}, now {value!r}"
            for name, value in shared.items()
            if before.get(name) != value
        ]:
            raise ConfigError(
                f"{self.out} holds another sweep ({'; '.join(differing)}); choose another -o, or give the same options"
            )
        self.out.mkdir(parents=True, exist_ok=True)
        write_json(file, shared)

    def train(self) -> None:
        """Run every arm with every seed; finished runs are left alone, interrupted ones resumed."""
        for arm in self.arms:
            corpus = self.corpus(arm)
            for seed in self.seeds:
                run, report = self.run(arm, seed), Callbacks(print, bar, show_progress=True)
                if run.is_dir() and is_run(run) and (run / "config.json").is_file():
                    done = resume(run, report=report)
                else:
                    shutil.rmtree(run, ignore_errors=True)
                    print(f"\n{arm}, seed {seed}")
                    recipe = recipe_of(arm, self.size, seed, self.steps, self.points, self.teacher, self.settings)
                    done = pretrain(corpus, run, recipe, report=report)
                if not done.finished:
                    raise SystemExit(f"{run} stopped at step {done.step}; the same command continues it")

    def run(self, arm: str, seed: int) -> Path:
        """The run folder of an arm and a seed."""
        return self.out / "runs" / f"{arm}-{seed}"

    def corpus(self, arm: str) -> Path:
        """The packed corpus an arm cuts its windows from; arms with one front end share it."""
        stores, frontend = ARMS[arm].store, self.frontend(arm)
        same = next(each for each in ARMS if ARMS[each].store == stores and self.frontend(each) == frontend)
        folder = self.out / "corpora" / f"{stores}-{ARMS[same].recipe}"
        if not (folder / HEADER).is_file():
            packing = PackConfig(frontend, "int16" if stores == "wav" else "uint8")
            pack(open_corpus(self.data, bar), packing, folder, track=bar)
        return folder

    def frontend(self, arm: str) -> AnyFrontendConfig:
        """The front end of an arm."""
        return override(find_recipe(ARMS[arm].recipe), [*ARMS[arm].settings, *self.settings]).frontend

    def score(self) -> list[Row]:
        """Probe every checkpoint, the untrained encoders and log-mel statistics; rows that are there are not made
        again.
        """
        file = self.out / "scores.jsonl"
        rows = whole_rows(file)
        done = {(row["arm"], row["seed"], row["step"], row["task"]) for row in rows}
        with file.open("a") as journal:
            for task in self.tasks:
                labels = read_labels(task)
                for arm, seed, step, seconds, model in self.models():
                    if (arm, seed, step, name_of(task)) in done:
                        continue
                    row = {
                        "arm": arm,
                        "seed": seed,
                        "step": step,
                        "seconds": seconds,
                        "task": name_of(task),
                        **probed(model(), labels, arm),
                    }
                    print(json.dumps(row), file=journal, flush=True)
                    rows.append(row)
        return rows

    def models(self) -> Iterator[tuple[str, int, int, float, Any]]:
        """Arm, seed, step, seconds of training, and what makes the model, of everything that is probed."""
        first = load_model(self.run(self.arms[0], self.seeds[0]))
        yield LOG_MEL, 0, 0, 0.0, lambda: Model(first)
        for seed in self.seeds:
            saved = load_model(self.run(self.arms[0], seed))
            yield (
                UNTRAINED,
                seed,
                0,
                0.0,
                lambda saved=saved, seed=seed: Model(
                    SavedModel(build(saved.recipe, seed).eval(), saved.recipe, saved.statistics, saved.provenance)
                ),
            )
        for arm in self.arms:
            for seed in self.seeds:
                clock = clock_of(self.run(arm, seed))
                for folder in checkpoints(self.run(arm, seed)):
                    step = read_progress(folder).step
                    yield (
                        arm,
                        seed,
                        step,
                        clock(step),
                        lambda folder=folder, run=self.run(arm, seed): at_checkpoint(run, folder),
                    )


def name_of(task: Path) -> str:
    """The name of a task: that of its folder for the labels.csv of a task folder, else that of its table."""
    return task.parent.name if task.stem == "labels" else task.stem


def whole_rows(file: Path) -> list[Row]:
    """The rows of a journal; what was cut off when the program was killed is cut from the file, too, and made again."""
    text = file.read_text() if file.is_file() else ""
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        file.write_text(whole)
    return [json.loads(line) for line in whole.splitlines()]


def at_checkpoint(run: Path, folder: Path) -> Model:
    """The model of a run as it was at a checkpoint."""
    saved = load_model(run)
    learner = build(saved.recipe, 0)
    learner.load_state_dict(read_tensors(folder / "learner.safetensors"))
    return Model(SavedModel(learner.eval().requires_grad_(False), saved.recipe, saved.statistics, saved.provenance))


def probed(model: Model, labels: Labels, arm: str) -> Row:
    """Score of a linear probe on mean-pooled frames; balanced accuracy, or mAP where clips have several labels."""
    if arm == LOG_MEL:
        vectors = np.stack([log_mel(model, sound) for sound in sounds_of(labels)])
    else:
        sounds = bar(sounds_of(labels), len(labels), f"embedding ({arm})")
        vectors = np.stack([embedding.scene for _, embedding in model.embed_many(sounds, Options(frames=False))])
    how = ProbeConfig(heads=("linear",), C=REGULARISATION, n_resamples=200, curve=False)
    found = next(iter(probe_embeddings({"model": vectors}, labels, how).scores))
    return {"metric": found.metric, "score": found.mean, "low": found.low, "high": found.high}


def clock_of(run: Path) -> Callable[[int], float]:
    """Seconds of training until a step, from clips a second; what it took to start, and breaks, are left out."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    batch = load_model(run).recipe.training.batch_size
    steps = [0, *(row["step"] for row in rows)]
    lengths = [
        (after - before) * batch / row["clips_per_second"]
        for before, after, row in zip(steps, steps[1:], rows, strict=False)
    ]
    return lambda step: float(np.interp(step, steps, [0.0, *np.cumsum(lengths)]))
