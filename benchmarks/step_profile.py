"""Row a7: what a training step of our loop spends its time on, and how near it is to the rate of matrix products.

The rate of this processor is that of one product of two square matrices on one core, timed in turns with the step. The
FLOP of a step are those of its matrix products and of attention. If all of them ran at this rate and nothing else took
time, a step would take the time in the last row. CPU time on one core counts. Groups are those of `GROUPS`, by the name
of the operation in the profile of PyTorch, without the operations that it calls.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.steps import Step, flop_of, msm_mae_case, our_step
from benchmarks.timing import arguments, machine
from unheard.devices import bf16_on_cpu
from unheard.objectives.base import Batch
from unheard.recipes.learner import build
from unheard.recipes.recipe import Recipe

CASES = {
    "a7 tiny 80x208 batch 32": ("tiny", 208, 32),
    "a7 small 80x208 batch 16": ("small", 208, 16),
}  # row: size, frames, batch
SIDE = 2048
"""Rows and columns of the matrices that give the rate."""
GROUPS = {
    "matrix products": ("mm", "addmm", "bmm", "baddbmm", "mkldnn", "linear", "attention"),
    "norms, activations, softmax": ("norm", "gelu", "softmax", "sigmoid"),
    "optimiser": ("adam", "foreach"),
    "copies and casts": ("copy", "cat", "clone", "gather", "index", "scatter", "fill", "zero"),
}
"""Words in the names of operations; the first group with one of them counts, and the others are "all other work"."""
OTHER = "all other work"


@dataclass(frozen=True)
class Measured:
    """CPU seconds of a step.

    Parameters
    ----------
    step : float
        Median over the rounds, without the profiler.
    flop : int
        FLOP of the matrix products and of attention.
    rate : float
        FLOP a second of the product of square matrices.
    groups : mapping
        Fraction of the profiled time of each group.
    """

    step: float
    flop: int
    rate: float
    groups: Mapping[str, float]

    def rows(self) -> list[tuple[str, float, float]]:
        """Return name, milliseconds and fraction of a step."""
        parts = [(name, 1000 * self.step * part, part) for name, part in self.groups.items()]
        bound = self.flop / self.rate
        return [*parts, ("a step", 1000 * self.step, 1.0), ("FLOP at the rate", 1000 * bound, bound / self.step)]


def group_of(operation: str) -> str:
    """Return the group of an operation such as ``aten::addmm``."""
    return next((name for name, words in GROUPS.items() if any(word in operation.lower() for word in words)), OTHER)


def groups_of(step: Step) -> dict[str, float]:
    """Return the fraction of the time of each group, in three profiled steps."""
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        for _ in range(3):
            step()
    spent = dict.fromkeys([*GROUPS, OTHER], 0.0)
    for event in profiled.key_averages():
        spent[group_of(event.key)] += event.self_cpu_time_total
    whole = sum(spent.values())
    return {name: value / whole for name, value in spent.items()}


def measured(recipe: Recipe, batch: Batch, bf16: bool, rounds: int) -> Measured:
    """Time a step and a product in turns, after one turn that does not count; then profile the step."""
    step = our_step(build(recipe, 0), batch, bf16, compiled=False)
    kind = torch.bfloat16 if bf16 else torch.float32
    left, right = (torch.randn(SIDE, SIDE, generator=torch.Generator().manual_seed(n)).to(kind) for n in (0, 1))
    steps, products = [], []
    for _ in range(rounds + 1):
        begin = time.process_time()
        step()
        middle = time.process_time()
        torch.mm(left, right)
        steps.append(middle - begin)
        products.append(time.process_time() - middle)
    rate = 2 * SIDE**3 / statistics.median(products[1:])
    return Measured(statistics.median(steps[1:]), flop_of(recipe, batch), rate, groups_of(step))


def main() -> None:
    """Profile every case in every precision of this processor."""
    given = arguments(__doc__.splitlines()[0], rounds=7)
    torch.set_num_threads(1)
    for title, case in CASES.items():
        recipe, batch = msm_mae_case(*case)
        for bf16 in (False, True) if bf16_on_cpu() else (False,):
            show(f"{title}, {'bf16' if bf16 else 'float32'}", measured(recipe, batch, bf16, given.rounds), given.json)


def show(title: str, found: Measured, as_json: bool) -> None:
    """Print what was found."""
    gflop, rate = found.flop / 1e9, found.rate / 1e9
    rows = [{"name": name, "ms": round(ms, 1), "fraction": round(part, 3)} for name, ms, part in found.rows()]
    if as_json:
        about = {"row": title, "machine": machine(), "gflop": round(gflop, 1), "gflop_per_s": round(rate, 1)}
        print(json.dumps({**about, "rows": rows}))
        return
    lines = [f"| {row['name']} | {row['ms']:,.0f} | {row['fraction']:.0%} |" for row in rows]
    heading = f"{gflop:.0f} GFLOP a step; a product of {SIDE} x {SIDE} matrices runs at {rate:.0f} GFLOP/s."
    print(
        f"**{title}** ({machine()})\n\n{heading}\n\n| | ms | of the step |\n|---|---|---|\n" + "\n".join(lines) + "\n"
    )


if __name__ == "__main__":
    main()
