"""Choose the recipe of unheard-tiny: train arms on equal windows, and compare them on clips that no test uses.

    python -m benchmarks.tiny.choose train-tiny --windows 350000 --seeds 0,1

The folder is that of ``scripts/train-tiny``, with spec, targets and tasks. A finished run is kept, and an interrupted
one is resumed, so several processes may train different arms at the same time. The scores are those of
``benchmarks.layers``: a ridge head, trained on ``train`` and scored on ``valid`` of every task with splits. Its penalty
is the best one on the same clips, so scores are a little too high in every arm. Intervals are 95 % over groups of
clips, or over clips in tasks with fewer than ten groups (paired, the same 2,000 resamples for all arms), of means over
tasks and over the seeds that both arms have. They do not contain the variance between seeds. The arm ``random`` is the
random encoder, with the statistics of random-tiny.

choose/runs/ARM-SEED         a run each
choose/scores/ARM-SEED.npz   predictions for the validation clips
choose/table.md              the table of all arms that have scores, and their scores by task
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

import unheard
from benchmarks.layers import Choice, kernel_of, metric, ridge
from unheard.bootstrap import Statistic, average_precisions_statistic, class_mean, mean_statistic, replicates
from unheard.config import override
from unheard.data.label_table import Labels, read_labels
from unheard.data.leakage import FEW_GROUPS
from unheard.devices import bf16_on_cpu
from unheard.embedding.embedder import Model
from unheard.evaluation.probe.vectors import layer_vectors, random_encoder
from unheard.files import atomic_write
from unheard.progress import bar
from unheard.recipes import find_recipe
from unheard.recipes.recipe import Recipe
from unheard.training.callbacks import Callbacks
from unheard.training.pretrain import Origin, pretrain
from unheard.training.resume import moved_corpus, resume
from unheard.training.run_folder import is_started

TEACHERS = ("yamnet", "crepe", "resemblyzer")
BATCH, RESAMPLES = 128, 2000
RANDOM, REFERENCE = "random", "teachers-reconstruction"
LAST = "3 and 12, mean+std"
CHOICES: dict[str, Choice] = {
    "12, mean": ((12,), "mean"),
    "12, mean+std": ((12,), "mean+std"),
    LAST: ((3, 12), "mean+std"),
}
"""Layers and pools that are scored; arms are compared by the last one."""
Predictions = dict[str, Float[np.ndarray, "n C"]]
"""Predictions for validation clips, by ``TASK/CHOICE``."""
Runs = dict[str, Predictions]
"""Predictions of the runs of an arm, by seed."""


@dataclass(frozen=True)
class Arm:
    """What a student learns from."""

    teachers: tuple[str, ...] = TEACHERS
    reconstruct: bool = True
    settings: tuple[str, ...] = ()


ARMS = {
    "reconstruction": Arm(()),
    **{name: Arm((name,), reconstruct=False) for name in TEACHERS},
    "teachers": Arm(reconstruct=False),
    REFERENCE: Arm(),
    "3.04s": Arm(settings=("model.frames=304",)),
    "16x8": Arm(settings=("model.patch_size=[16,8]",)),
}


def main() -> None:
    """Train, score, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--arms", default=",".join((RANDOM, *ARMS)))
    parser.add_argument("--seeds", default="0,1")
    parser.add_argument("--windows", type=int, default=350_000)
    parser.add_argument("--reference", default=REFERENCE, choices=(RANDOM, *ARMS), help="arm of the differences")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="for every arm")
    given = parser.parse_args()
    arms, seeds = given.arms.split(","), [int(seed) for seed in given.seeds.split(",")]
    if unknown := [name for name in arms if name not in (*ARMS, RANDOM)]:
        parser.error(f"unknown arm {unknown[0]}; known: {', '.join((*ARMS, RANDOM))}")
    tasks = with_splits(given.folder / "tasks")
    for seed in seeds:
        for name in arms:
            model = trained(given.folder, name, seed, given.windows, given.set)
            score(model, tasks, given.folder / "choose" / "scores" / f"{name}-{seed}.npz")
    text = table(given.folder / "choose" / "scores", tasks, given.reference)
    (given.folder / "choose" / "table.md").write_text(text)
    print(text)


def with_splits(tasks: Path) -> dict[str, Labels]:
    """Return the tasks that have validation clips."""
    found = {table.parent.name: read_labels(table) for table in sorted(tasks.glob("*/labels.csv"))}
    return {name: labels for name, labels in found.items() if "valid" in labels.split}


def recipe_of(folder: Path, name: str, seed: int, windows: int, settings: list[str]) -> Recipe:
    """Return the recipe of a run; what it does not set is as in ``scripts/train-tiny``."""
    arm = ARMS[name]
    stored = ", ".join(f'{{"name": "{folder / "targets" / each}", "pooled": 1.0}}' for each in arm.teachers)
    taught = f"objectives.distill.teachers=[{stored}]" if arm.teachers else "objectives.distill.weight=0"
    length = (f"training.steps={windows // BATCH}", f"training.batch_size={BATCH}", f"training.seed={seed}")
    precision = "training.precision=" + ("bf16" if bf16_on_cpu() else "auto")
    own = ("data.balance=domain", "model.size=tiny", "model.frames=208", precision, *length)
    weight = () if arm.reconstruct else ("objectives.reconstruct.weight=0",)
    return override(find_recipe("distill"), [*own, taught, *weight, *arm.settings, *settings])


def trained(folder: Path, name: str, seed: int, windows: int, settings: list[str]) -> Model:
    """Return the model of an arm and a seed; train it, or continue its training."""
    if name == RANDOM:
        random = unheard.load("random-tiny")
        assert isinstance(random, Model)
        return random_encoder(random, seed)
    run, report = folder / "choose" / "runs" / f"{name}-{seed}", Callbacks(print, bar, show_progress=True)
    recipe = recipe_of(folder, name, seed, windows, settings)
    if is_started(run):
        moved_corpus(run, folder / "spec", recipe, Origin())  # raises an error if the settings differ
        done = resume(run, report=report)
    else:
        done = pretrain(folder / "spec", run, recipe, overwrite=run.is_dir(), report=report)
    if not done.finished:
        raise SystemExit(
            f"{run} stopped at step {done.step} of {done.total} and has no scores; the same command continues it"
        )
    model = unheard.load(str(run))
    assert isinstance(model, Model)
    return model


def score(model: Model, tasks: dict[str, Labels], out: Path) -> None:
    """Store the predictions of a model, unless they are there."""
    if out.is_file():
        return
    found: Predictions = {}
    for name, labels in tasks.items():
        vectors = layer_vectors(model, labels, "mean+std", bar)
        found |= {f"{name}/{choice}": predicted(vectors, labels, *CHOICES[choice]) for choice in CHOICES}
    out.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(out) as path, path.open("wb") as file:
        np.savez_compressed(file, **found)


def predicted(
    vectors: Float[np.ndarray, "n L D"], labels: Labels, layers: tuple[int, ...], pool: str
) -> Float[np.ndarray, "t C"]:
    """Return the predictions for the validation clips, with the best penalty."""
    rows = np.flatnonzero([split != "test" for split in labels.split])
    split, target = np.array(labels.split)[rows], labels.target[rows].astype(np.float64)
    half = vectors.shape[2] // 2
    sizes = slice(None) if pool == "mean+std" else slice(half)
    kernel = np.mean([kernel_of(vectors[rows, number - 1, sizes]) for number in layers], axis=0)
    side = split == "train", split == "valid"
    return max(ridge(kernel, target, side), key=lambda each: metric(target[side[1]], each, labels.multilabel))


def table(scores: Path, tasks: dict[str, Labels], reference: str = REFERENCE) -> str:
    """Return two tables with differences to the arm ``reference``: a row for each arm, and a row for each task."""
    stored = by_arm(scores)
    head = ["arm", "seeds", *CHOICES, "mean+std less mean", f"{LAST}, less {reference}"]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for arm, runs in stored.items():
        means = {choice: averaged(list(runs.values()), choice, tasks) for choice in CHOICES}
        cells = [f"{means[choice][-1]:.3f}" for choice in CHOICES]
        pooling = cell(means["12, mean+std"] - means["12, mean"])
        less = paired(runs, stored.get(reference, {}), tasks)
        lines.append(f"| {' | '.join([arm, ', '.join(runs), *cells, pooling, less])} |")
    lines += ["", f"| {LAST} | {' | '.join(stored)} |", "|---" * (1 + len(stored)) + "|"]
    for name, labels in tasks.items():
        task, cells = {name: labels}, list[str]()
        for runs in stored.values():
            score = averaged(list(runs.values()), LAST, task)[-1]
            cells.append(f"{score:.3f} {paired(runs, stored.get(reference, {}), task)}".strip())
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def by_arm(scores: Path) -> dict[str, Runs]:
    """Return the predictions of each arm."""
    stored: dict[str, Runs] = {}
    for file in sorted(scores.glob("*.npz")):
        arm, _, seed = file.stem.rpartition("-")
        stored.setdefault(arm, {})[seed] = dict(np.load(file))
    return {arm: stored[arm] for arm in (RANDOM, *ARMS) if arm in stored}


def paired(runs: Runs, others: Runs, tasks: dict[str, Labels]) -> str:
    """Return the difference of two arms over the seeds that both have; nothing for an arm and itself."""
    common = [seed for seed in runs if seed in others]
    if runs is others or not common:
        return ""
    mine, theirs = (averaged([each[seed] for seed in common], LAST, tasks) for each in (runs, others))
    return cell(mine - theirs)


def averaged(runs: list[Predictions], choice: str, tasks: dict[str, Labels]) -> Float[np.ndarray, " R"]:
    """Return the mean score over tasks and runs in every resample; the last value is that of all clips."""
    found = []
    for name, labels in tasks.items():
        rows = np.flatnonzero([split == "valid" for split in labels.split])
        statistics = [statistic(labels, rows, run[f"{name}/{choice}"]) for run in runs]
        groups = labels.group_ids(rows)
        units = groups if len(set(groups)) >= FEW_GROUPS else rows
        resampled = [replicates(each, units, 0, RESAMPLES) for each in statistics]
        whole = [each(np.ones((len(rows), 1), np.float32)) for each in statistics]
        found.append(np.mean(np.concatenate([resampled, whole], axis=1), axis=0))
    return np.nanmean(found, axis=0)


def statistic(labels: Labels, rows: np.ndarray, predictions: Float[np.ndarray, "n C"]) -> Statistic:
    """Return the score of resampled clips: accuracy, or the mean of the average precisions."""
    target = labels.target[rows].astype(int)
    if labels.multilabel:
        of_class = average_precisions_statistic(target, predictions)
        return lambda counts: class_mean(of_class(counts))
    return mean_statistic(predictions.argmax(axis=1) == target.argmax(axis=1))


def cell(difference: Float[np.ndarray, " R"]) -> str:
    """Return a difference with its interval, and a star if the interval does not hold 0."""
    low, high = np.nanquantile(difference[:-1], [0.025, 0.975])
    return f"{difference[-1]:+.3f} [{low:+.3f}, {high:+.3f}]" + (" *" if low > 0 or high < 0 else "")


if __name__ == "__main__":
    main()
