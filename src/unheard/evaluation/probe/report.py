"""Results of a probe as plain values."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from unheard.bootstrap import interval_text
from unheard.evaluation.difference import Difference


@dataclass(frozen=True)
class Score:
    """Score of one embedding, head and metric: mean over the runs, 95 % interval over test clips, and values.

    The ends of an interval are None if one clip or one group was tested.
    """

    embedding: str
    head: str
    metric: str
    mean: float
    low: float | None
    high: float | None
    runs: list[float]


@dataclass(frozen=True)
class ClassScore:
    """Scores of one class, for one embedding and head, in the first run.

    Parameters
    ----------
    embedding, head, name : str
    clips : int
        Number of test clips with the class.
    precision, recall, f1 : float
        Scores of the most likely class; for multilabel tables, of all classes with a score of at least 0.5. 0 if the
        class was never predicted.
    average_precision : float, optional
        None if the class has no test clips.
    """

    embedding: str
    head: str
    name: str
    clips: int
    precision: float
    recall: float
    f1: float
    average_precision: float | None


@dataclass(frozen=True)
class CurvePoint:
    """Score of the linear head on a fraction of the training labels: mean, minimum and maximum over the runs.

    Parameters
    ----------
    embedding : str
    fraction : float
    clips : float
        Training clips, mean over runs and folds.
    mean, low, high : float
    """

    embedding: str
    fraction: float
    clips: float
    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class FewShotScore:
    """Accuracy with a few training clips of each class: mean and standard deviation over the draws.

    Parameters
    ----------
    embedding : str
    shots : int
        Training clips of each class.
    clips : float
        Training clips of a draw, mean over the folds.
    mean, std : float
    draws : list of float
        Accuracy of each draw.
    """

    embedding: str
    shots: int
    clips: float
    mean: float
    std: float
    draws: list[float]


@dataclass(frozen=True)
class LayerScore:
    """Score of the linear head on one layer, and the learned weight of the layer.

    Parameters
    ----------
    layer : int
        From 1.
    mean : float
    low, high : float, optional
        95 % interval of the score; None if one clip or one group was tested.
    weight, least, most : float
        Mean and range over the runs and folds; the weights of all layers sum to 1.
    """

    layer: int
    mean: float
    low: float | None
    high: float | None
    weight: float
    least: float
    most: float


@dataclass(frozen=True)
class Prediction:
    """Prediction of the linear head of the model for a test clip in the first run.

    Parameters
    ----------
    clip : int
        Row of the table, from 0.
    true, predicted : str
        Annotated classes, several joined by ``|``.
    probability : float
        Probability of the most likely class.
    group : str
        Group of the clip; empty if it has none.
    """

    clip: int
    true: str
    predicted: str
    probability: float
    group: str = ""


@dataclass(frozen=True)
class ProbeReport:
    """All results of a probe.

    Parameters
    ----------
    classes : list of str
    clips, tested : int
        Number of rows of the table, and number of test clips in a run.
    metric : str
        Primary metric.
    chance : dict of str to float
        Score of the best constant prediction, by metric.
    scores : list of Score
    differences : list of Difference
        The model compared with each other embedding, for each head.
    per_class : list of ClassScore
    confusion : list of list of int
        Confusion matrix, true class (row) and predicted class (column), of the linear head of the model in the first
        run; empty for multilabel tables.
    answers : list of Prediction
    curve : list of CurvePoint
    label_doubling_gain : Difference, optional
        All training labels compared with half of them.
    layers : list of LayerScore
        Empty unless layers were requested.
    few_shot : list of FewShotScore
        Empty unless shots were requested.
    warnings : list of str
        Caveats.
    resampling_unit : str
        Unit that the bootstrap resamples: "clips" or "groups".
    about : dict of str to str
        Source of the embeddings and labels.
    protocol : dict
        ``clips``, a hash of the clips with their labels and splits, and the settings of the scores. Two probes are of
        the same clips if it is equal. Empty in probes of version 0.2.0.
    """

    classes: list[str]
    clips: int
    tested: int
    metric: str
    chance: dict[str, float]
    scores: list[Score]
    differences: list[Difference] = field(default_factory=list)
    per_class: list[ClassScore] = field(default_factory=list)
    confusion: list[list[int]] = field(default_factory=list)
    answers: list[Prediction] = field(default_factory=list)
    curve: list[CurvePoint] = field(default_factory=list)
    label_doubling_gain: Difference | None = None
    layers: list[LayerScore] = field(default_factory=list)
    few_shot: list[FewShotScore] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    resampling_unit: str = "clips"
    about: dict[str, str] = field(default_factory=dict)
    protocol: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain values."""
        return asdict(self)

    def table(self) -> str:
        """Return the scores as a Markdown table, followed by the verdicts."""
        head = "| embedding | probe | metric | score | 95 % interval |\n|---|---|---|---|---|"
        rows = [
            f"| {s.embedding} | {s.head} | {s.metric} | {s.mean:.3f} | {interval_text(s.low, s.high)} |"
            for s in self.scores
        ]
        chance = [f"| (chance) | | {metric} | {value:.3f} | |" for metric, value in self.chance.items()]
        few = [
            f"| {s.embedding} | {s.shots} clips per class | accuracy | {s.mean:.3f} | +- {s.std:.3f} over"
            f" {len(s.draws)} draws |"
            for s in self.few_shot
        ]
        note = (
            f"{self.tested} of {self.clips} clips tested, {len(self.classes)} classes; bootstrap intervals over the"
            f" tested {self.resampling_unit}."
        )
        return "\n".join([head, *rows, *few, *chance, "", note, *(f"- {line}" for line in self.lines()), ""])

    def lines(self) -> list[str]:
        """Return the verdicts, one sentence each: comparisons, effect of more labels, and warnings."""
        lines = [
            f"{d.head} head: {d.sentence} ({d.metric} {d.text})" for d in self.differences if d.metric == self.metric
        ]
        if self.label_doubling_gain:
            gain = self.label_doubling_gain
            words = {
                "better": "more labels are likely to help further",
                "worse": "more labels made it worse",
                "not tested": "not tested",
            }
            lines += [
                f"from half of the training labels to all of them: {gain.mean:+.3f} ({gain.interval}):"
                f" {words.get(gain.verdict, 'no significant gain from doubling the labels')}"
            ]
        return lines + [f"WARNING: {warning}" for warning in self.warnings]
