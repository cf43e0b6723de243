"""``python -m benchmarks.ablation DATA TASK.csv... -o DIR``: train arms on equal data, probe them, compare.

A short run says little of the papers' order: look at the intervals, and at the untrained encoder.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from dataclasses import replace
from pathlib import Path

from benchmarks.ablation import result
from benchmarks.ablation.arms import ARMS, recipe_of
from benchmarks.ablation.sweep import Row, Sweep
from unheard.errors import UnheardError
from unheard.files import read_json, write_json
from unheard.training.pretrain import pretrain
from unheard.weights.checkpoint import load_model

TRIAL = 12  # steps that tell how many a number of minutes holds; the first are slower and do not count


def main() -> int:
    """Train, score, write the table and the figure; returns the exit status."""
    given = arguments()
    arms = list(ARMS) if given.arms == "all" else given.arms.split(",")
    if unknown := [arm for arm in arms if arm not in ARMS]:
        print(f"there is no arm {unknown[0]}; known: {', '.join(ARMS)}", file=sys.stderr)
        return 2
    seeds = [int(seed) for seed in given.seeds.split(",")]
    sweep = Sweep(
        given.data,
        given.tasks,
        given.out,
        arms,
        seeds,
        given.steps,
        given.points,
        given.size,
        given.teacher,
        tuple(given.set),
    )
    try:
        sweep.begin()
        for arm, steps in lengths(sweep, given.minutes, given.views).items():
            replace(sweep, arms=[arm], steps=steps).train()
        rows = sweep.score()
    except UnheardError as error:
        print(f"ablation: {error}", file=sys.stderr)
        return 2
    result.write(rows, {arm: [last_row(sweep.run(arm, seed)) for seed in seeds] for arm in arms}, given.out)
    print((given.out / "table.md").read_text())
    return 0


def lengths(sweep: Sweep, minutes: float | None, views: int | None) -> dict[str, int]:
    """Steps of each arm: as many as fill the minutes, as give the views, or the steps of the sweep."""
    if views is not None:
        return {arm: max(1, round(views / views_per_step(sweep, arm))) for arm in sweep.arms}
    if minutes is None:
        return dict.fromkeys(sweep.arms, sweep.steps)
    plan = sweep.out / f"plan-{minutes:g}.json"
    known = read_json(plan) if plan.is_file() else {}
    steps = {arm: known[arm] if arm in known else steps_in(sweep, arm, minutes) for arm in sweep.arms}
    write_json(plan, known | steps)
    return steps


def views_per_step(sweep: Sweep, arm: str) -> int:
    """Masked passes of a step: windows times masks of each window."""
    recipe = recipe_of(arm, sweep.size, 0, 1, 1, sweep.teacher, sweep.settings)
    return recipe.training.batch_size * recipe.mask.views


def steps_in(sweep: Sweep, arm: str, minutes: float) -> int:
    """Steps an arm does in some minutes, from the second half of a short trial."""
    trial = sweep.out / "trial"
    recipe = recipe_of(arm, sweep.size, 0, TRIAL, 1, sweep.teacher, (*sweep.settings, "training.log_every=6"))
    shutil.rmtree(trial, ignore_errors=True)
    begin = time.perf_counter()
    pretrain(sweep.corpus(arm), trial, recipe)
    rate = json.loads((trial / "metrics.jsonl").read_text().splitlines()[-1])["clips_per_second"]
    print(f"{arm}: {rate:.0f} clips/s, trial of {time.perf_counter() - begin:.0f} s")
    return max(1, round(minutes * 60 * rate / recipe.training.batch_size))


def last_row(run: Path) -> Row:
    """The last row of a run's journal, with ``views``: masked passes until then, windows times masks of each window."""
    row = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    recipe = load_model(run).recipe
    return {**row, "views": row["step"] * recipe.training.batch_size * recipe.mask.views}


def arguments() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ablation", description=str(__doc__).splitlines()[0])
    parser.add_argument("data", type=Path, help="folder of audio, or CSV; labels for the supervised arms")
    parser.add_argument("tasks", type=Path, nargs="+", help="label tables that are probed")
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--arms", default="all", help=f"comma-separated: {', '.join(ARMS)}")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--steps", type=int, default=2000, help="optimiser steps of every run")
    parser.add_argument("--minutes", type=float, help="equal time instead: as many steps as each arm does in it")
    parser.add_argument("--views", type=int, help="equal masked passes instead: windows times masks of each window")
    parser.add_argument("--points", type=int, default=3, help="checkpoints of a run that are probed")
    parser.add_argument("--size", default="tiny")
    parser.add_argument("--teacher", default="", help="folder of a CLAP checkpoint, or of a model of ours")
    parser.add_argument("--set", action="append", default=[], help="SECTION.KEY=VALUE for every arm; may be repeated")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
