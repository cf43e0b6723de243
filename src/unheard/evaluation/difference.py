"""Difference of two scores of a probe, and its verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from unheard.bootstrap import ALPHA, holm, interval_text


@dataclass(frozen=True)
class Difference:
    """Difference of the scores of the model and another embedding on the same clips, with a 95 % interval.

    Parameters
    ----------
    other : str
        Name of a baseline, or half of the training labels.
    head, metric : str
    mean : float
    low, high : float, optional
        None if one clip or one group was tested.
    p : float
        Two-sided p-value of the paired bootstrap, adjusted where several embeddings are compared (see `adjusted`).
    """

    other: str
    head: str
    metric: str
    mean: float
    low: float | None
    high: float | None
    p: float

    @property
    def verdict(self) -> str:
        """Better or worse where the p-value is at most `ALPHA`, else no difference; without an interval, not tested."""
        if self.low is None:
            return "not tested"
        if self.p > ALPHA:
            return "no significant difference"
        return "better" if self.mean > 0 else "worse"

    @property
    def sentence(self) -> str:
        """The verdict on the model and the other one."""
        sentences = {
            "better": "the model is better than {}",
            "worse": "the model is worse than {}",
            "not tested": "the difference of the model and {} is not tested",
        }
        return sentences.get(self.verdict, "the model is not significantly different from {}").format(self.other)

    @property
    def p_text(self) -> str:
        """Formatted p-value."""
        return "< 0.001" if self.p < 0.001 else f"= {self.p:.3f}"

    @property
    def text(self) -> str:
        """Formatted difference, interval and p-value."""
        p = "" if self.low is None else f", p {self.p_text}"
        return f"{self.mean:+.3f}, 95 % interval {self.interval}{p}"

    @property
    def interval(self) -> str:
        """Formatted interval."""
        return interval_text(self.low, self.high, "{:+.3f} to {:+.3f}")


def adjusted(differences: Sequence[Difference]) -> list[Difference]:
    """Return the differences with p-values adjusted for the number of embeddings under the same head (Holm 1979)."""
    found = list(differences)
    for head in dict.fromkeys(each.head for each in found):
        rows = [row for row, each in enumerate(found) if each.head == head]
        for row, p in zip(rows, holm([found[row].p for row in rows]), strict=True):
            found[row] = replace(found[row], p=p)
    return found
