"""How often 95 % intervals of mAP hold the true value: made-up test sets drawn from a world of known mAP, two models on
each.

    python -m benchmarks.coverage

One line a world: true mAP of the better model, how far test sets and their draws lie above it, then the share of test
sets whose interval holds it, of plain percentiles and of bias-corrected ones, and whose percentiles of paired
differences hold the true difference. Then columns of rows that are equally good, with errors of their own on 300 clips:
how often the best is taken to be ahead of one of them.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from unheard.bootstrap import N_RESAMPLES, Counts, Statistic, bc_interval, replicates
from unheard.evaluation.comparison import significantly_worse
from unheard.evaluation.hear.scores import SCORES, mean_precision

WORLDS = (
    (170, 12, 1.6, 1.2),
    (500, 5, 2.0, 1.7),
    (800, 3, 3.0, 2.5),
    (1000, 20, 1.6, 1.2),
)  # clips, classes, skill of either model
EQUAL = (2, 8, 12)  # rows of a column in which all are as good
POPULATION, SETS = 100_000, 200


def sample(
    rng: np.random.Generator, clips: int, prior: Float[np.ndarray, " C"], skills: tuple[float, float]
) -> tuple[Int[np.ndarray, "n C"], list[Float[np.ndarray, "n C"]]]:
    """One class a clip; scores of two models, half of whose noise is the same."""
    target = np.eye(len(prior), dtype=np.int64)[rng.choice(len(prior), clips, p=prior)]
    shared, *own = rng.standard_normal((3, clips, len(prior))) * np.sqrt(0.5)
    return target, [skill * target + shared + noise for skill, noise in zip(skills, own, strict=True)]


def both(target: Int[np.ndarray, "n C"], scores: list[Float[np.ndarray, "n C"]]) -> list[float]:
    """The mAP of either model."""
    return [mean_precision(target, score) for score in scores]


def held(clips: int, classes: int, *skills: float) -> dict[str, float]:
    """What is printed of one world."""
    rng = np.random.default_rng(0)
    prior = rng.dirichlet(np.full(classes, 2.0))
    true = both(*sample(rng, POPULATION, prior, skills))
    rows = []
    for _ in range(SETS):
        target, scores = sample(rng, clips, prior, skills)
        value = mean_precision(target, scores[0])
        statistics = [SCORES["mAP"].statistic(target, score) for score in scores]

        def stacked(counts: Counts, statistics: list[Statistic] = statistics) -> np.ndarray:
            return np.stack([each(counts) for each in statistics])

        draws = replicates(stacked, np.arange(clips), rng, N_RESAMPLES)
        plain, corrected, gap = bc_interval(draws[0]), bc_interval(draws[0], value), bc_interval(draws[0] - draws[1])
        inside = [
            low <= truth <= high
            for (low, high), truth in ((plain, true[0]), (corrected, true[0]), (gap, true[0] - true[1]))
        ]
        rows.append([value - true[0], draws[0].mean() - value, *inside])
    names = ("sets above it", "draws above sets", "percentiles", "corrected", "paired")
    return {"true": true[0], **dict(zip(names, np.mean(rows, axis=0).tolist(), strict=True))}


def ahead(rows: int, clips: int = 300, columns: int = 500, share: float = 0.7) -> float:
    """Share of columns of equally good rows in which one at least is called worse than the best."""
    rng, found = np.random.default_rng(0), 0
    for _ in range(columns):
        right = rng.random((clips, rows)) < share

        def means(counts: Counts, right: np.ndarray = right) -> np.ndarray:
            return right.T.astype(np.float32) @ counts / clips

        draws = replicates(means, np.arange(clips), rng, N_RESAMPLES)
        found += any(significantly_worse(draws.tolist(), int(right.mean(axis=0).argmax()), smaller=False))
    return found / columns


def main() -> None:
    """Print a line for each world, and for each number of equal rows."""
    for world in WORLDS:
        shares = ", ".join(f"{name} {value:.3f}" for name, value in held(*world).items())
        print(f"{world[0]} clips, {world[1]} classes: {shares}", flush=True)
    for rows in EQUAL:
        print(f"{rows} equal rows: one is called worse in {ahead(rows):.3f} of columns", flush=True)


if __name__ == "__main__":
    main()
