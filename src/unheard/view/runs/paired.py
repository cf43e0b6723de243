"""Scores of two runs on the same clips, with paired bootstrap intervals of their differences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from unheard import bootstrap
from unheard.errors import UnheardError
from unheard.evaluation.probe.files import read_report
from unheard.evaluation.report import Result, stored_result
from unheard.files import read_json
from unheard.finetuning.session import read_session, training_table
from unheard.view.runs.listing import ListedScore, probe_score
from unheard.view.runs.predicted import Key, Predicted, read_predictions, tested_clips


@dataclass(frozen=True)
class PairedScore:
    """A score of two runs.

    Parameters
    ----------
    name : str
        Where the scores come from.
    first, second : ListedScore
        As each run reports them.
    difference, low, high, p : float, optional
        Second minus first on the clips that both predicted, its 95 % interval, and its two-sided p-value; None where
        ``reason`` states why there are none.
    clips : int
        Number of clips that both predicted; 0 for evaluations, whose files do not state it.
    single : int
        Number of clips that only one predicted; they are left out of the difference.
    note : str
        What the difference does not contain.
    reason : str
    """

    name: str
    first: ListedScore
    second: ListedScore
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    clips: int = 0
    single: int = 0
    reason: str = ""
    note: str = ""

    def line(self) -> str:
        """Return the score as one line of text."""
        values = f"{self.name}: {self.first.metric} {self.first.value:.3f} and {self.second.value:.3f}"
        return f"{values}; {self.text}"

    @property
    def text(self) -> str:
        """Formatted difference with interval and p-value, or the reason why there is none."""
        if self.difference is None or self.low is None or self.high is None or self.p is None:
            return self.reason
        p = "< 0.001" if self.p < 0.001 else f"= {self.p:.3f}"
        clips = f", {self.clips} clips" if self.clips else ""
        clips += f", {self.single} clips of one run left out" if self.single else ""
        note = f", {self.note}" if self.note else ""
        return f"{self.difference:+.3f} [{self.low:+.3f}, {self.high:+.3f}], p {p}{clips}{note}"


def unpaired_scores(first: Path, second: Path) -> Iterator[str]:
    """Yield a line for each score that only one of two runs has, by the names that `paired_scores` compares."""
    one, two = (dict.fromkeys(_score_names(run)) for run in (first, second))
    for run, own, others in ((first, one, two), (second, two, one)):
        for name in own:
            if name not in others:
                yield f"{name} is not compared: only {run} has it"


def _score_names(run: Path) -> Iterator[str]:
    if (run / "scores.json").is_file():
        yield "test clips"
    for file in sorted(run.glob("*/probe.json")):
        yield _probe_name(file) if probe_score(file) else f"{_probe_name(file)} without a linear head"
    for file in sorted(run.glob("*/results-*.json")):
        mode = file.stem.removeprefix("results-")
        yield from (f"{file.parent.name}, {task}, mode {mode}," for task in _evaluated(file))


def paired_scores(first: Path, second: Path) -> Iterator[PairedScore]:
    """Yield the scores that both runs have: test clips of fine-tuned runs, and probes and evaluations of one name.

    Differences are computed only for the same clips with the same labels, and scores with the same settings.
    """
    if all((run / "scores.json").is_file() for run in (first, second)):
        stored = [read_json(run / "scores.json") for run in (first, second)]
        listed = [_listed("test clips", each) for each in stored]
        yield _paired_test_clips(first, second, stored, listed)
    for file in sorted(first.glob("*/probe.json")):
        other = second / file.parent.name / "probe.json"
        if other.is_file() and (one := probe_score(file)) and (two := probe_score(other)):
            yield _paired_probes(file, other, one, two)
    for file in sorted(first.glob("*/results-*.json")):
        other = second / file.parent.name / file.name
        if other.is_file():
            yield from _paired_evaluations(file, other)


def _paired_test_clips(
    first: Path, second: Path, stored: Sequence[Mapping[str, Any]], listed: Sequence[ListedScore]
) -> PairedScore:
    name, (one, two) = "test clips", listed
    if one.metric != two.metric:
        return PairedScore(name, one, two, reason="the runs have different metrics")
    try:
        tables = [training_table(run, read_session(run)) for run in (first, second)]
    except UnheardError as error:
        return PairedScore(name, one, two, reason=f"the table of the clips cannot be read: {error}")
    if any(table.labels.known is not None for table in tables):
        return PairedScore(name, one, two, reason="clips with partial annotation are not compared")
    predicted = [read_predictions(run / "predictions.csv") for run in (first, second)]
    common = [key for key in predicted[0].clips if key in predicted[1].clips]
    tested = [tested_clips(table) for table in tables]
    for what in ("parts", "groups"):
        sides = [[getattr(each, what).get(key, "") for key in common] for each in tested if getattr(each, what)]
        if len(sides) == 2 and len({*map(len, map(set, (*sides, zip(*sides, strict=True))))}) > 1:
            return PairedScore(name, one, two, reason=f"not compared: the {what} of the clips differ")
    groups = next((each.groups for each in tested if each.groups), {})
    return _difference(name, (one, two), predicted, groups, tested[0].parts)


def _paired_probes(first: Path, second: Path, one: ListedScore, two: ListedScore) -> PairedScore:
    reports, name = [read_report(file) for file in (first, second)], _probe_name(first)
    if one.metric != two.metric or reports[0]["classes"] != reports[1]["classes"]:
        return PairedScore(name, one, two, reason="the probes have different classes")
    if reason := _differs("probe", *(report.get("protocol", {}) for report in reports)):
        return PairedScore(name, one, two, reason=reason)
    if one.metric == "mAP":
        return PairedScore(name, one, two, reason="probes of several labels a clip store no scores of clips")
    rows = reports[0]["answers"]
    grouped = any(report["resampling_unit"] == "groups" for report in reports)
    classes = {label: k for k, label in enumerate(reports[0]["classes"])}
    predicted = [
        Predicted(
            list(classes),
            {
                (str(row["clip"]), row["true"]): (row["true"], np.eye(len(classes))[classes[row["predicted"]]])
                for row in report["answers"]
            },
        )
        for report in reports
    ]
    groups: dict[Key, str] = {}
    if grouped:
        groups = {(str(row["clip"]), row["true"]): row["group"] or f"#{row['clip']}" for row in rows}
    seeds = len(reports[0]["scores"][0]["runs"])
    note = f"first of {seeds} seeds" if seeds > 1 else ""
    return _difference(name, (one, two), predicted, groups, {}, note)


def _probe_name(file: Path) -> str:
    """Return the name of a probe: that of its folder."""
    folder = file.parent.name
    return folder if folder.startswith("probe") else f"probe {folder}"


def _differs(kind: str, one: Mapping[str, Any], two: Mapping[str, Any]) -> str:
    """Return the reason why scores with these protocols cannot be compared; empty if they can."""
    if not one or not two:
        return f"not compared: the {kind} of an earlier version does not store its clips and settings; compute it again"
    names = [name for name in dict.fromkeys([*one, *two]) if one.get(name) != two.get(name)]
    texts = [
        "the clips, labels or splits differ" if name == "clips" else f"{name} {one.get(name)} and {two.get(name)}"
        for name in names
    ]
    return f"not compared: {'; '.join(texts)}" if texts else ""


def _paired_evaluations(first: Path, second: Path) -> Iterator[PairedScore]:
    """Yield the scores of the tasks of two evaluations, of the first encoder of each."""
    sides = [_evaluated(file) for file in (first, second)]
    for task, one in sides[0].items():
        if (two := sides[1].get(task)) is None:
            continue
        name, reason = f"{first.parent.name}, {task}", _differs("evaluation", _settings_of(one), _settings_of(two))
        listed = (_of_result(first.parent.name, one), _of_result(first.parent.name, two))
        splits = [[part["split"] for part in each.splits] for each in (one, two)]
        if one.score != two.score or splits[0] != splits[1]:
            yield PairedScore(name, *listed, reason="the evaluations have different splits or scores")
        elif reason:
            yield PairedScore(name, *listed, reason=reason)
        elif not one.replicates or len(one.replicates) != len(two.replicates):
            yield PairedScore(name, *listed, reason="the stored replicates of an evaluation are missing")
        else:
            apart = np.array(two.replicates) - np.array(one.replicates)
            low, high = bootstrap.known(bootstrap.bc_interval(apart))
            if low is None:
                yield PairedScore(name, *listed, reason="too few files were tested for an interval")
            else:
                p = bootstrap.two_sided(apart)
                yield PairedScore(name, *listed, two.value - one.value, low, high, p)


def _settings_of(found: Result) -> dict[str, Any]:
    """Return the protocol of a result and the options of its embeddings; the hop of events is that of the model."""
    return {**found.protocol, **{k: v for k, v in found.options.items() if k != "event_hop"}} if found.protocol else {}


def _of_result(source: str, found: Result) -> ListedScore:
    return ListedScore(source, found.score, found.value, *bootstrap.known((found.low, found.high)))


def _evaluated(file: Path) -> dict[str, Result]:
    """Return the result of the first encoder of an evaluation for each task, with its stored replicates."""
    found: dict[str, Result] = {}
    for row in read_json(file)["results"]:
        if row["task"] not in found:
            found[row["task"]] = stored_result(file.parent, row)
    return found


def _difference(
    name: str,
    listed: tuple[ListedScore, ListedScore],
    predicted: Sequence[Predicted],
    groups: Mapping[Key, str],
    parts: Mapping[Key, str],
    note: str = "",
) -> PairedScore:
    """Return the difference on the clips in both, in the metric of the scores: the mean over the parts."""
    first, second = predicted
    keys = [key for key in first.clips if key in second.clips]
    if not keys or first.classes != second.classes:
        reason = "the runs have different classes" if keys else "no clip was tested in both runs"
        return PairedScore(name, *listed, reason=reason)
    if other := sum(first.clips[key][0] != second.clips[key][0] for key in keys):
        return PairedScore(name, *listed, reason=f"not compared: {other} of {len(keys)} clips have different labels")
    units = {key: groups.get(key, str(number)) for number, key in enumerate(keys)}
    if len(set(units.values())) < 2:
        return PairedScore(name, *listed, clips=len(keys), reason="the clips that both tested are one group")
    apart, whole = [], []
    for number, part in enumerate(dict.fromkeys(parts.get(key, "") for key in keys)):
        own = [key for key in keys if parts.get(key, "") == part]
        of_part = [_statistic(listed[0].metric, side, own) for side in predicted]
        one, two = (statistic(np.ones((len(own), 1), np.float32))[0] for statistic in of_part)
        if np.isfinite(two - one):
            whole.append(two - one)
            of_units = np.array([units[key] for key in own])
            one, two = (bootstrap.replicates(statistic, of_units, number) for statistic in of_part)
            apart.append(two - one)
    if not apart:
        return PairedScore(name, *listed, reason="the clips that both tested have no score")
    single = len(first.clips) + len(second.clips) - 2 * len(keys)
    difference = np.mean(apart, axis=0)
    low, high = bootstrap.known(bootstrap.bc_interval(difference))
    p = bootstrap.two_sided(difference, len(set(units.values())))
    if low is None:
        return PairedScore(name, *listed, clips=len(keys), reason="a part with one group has no interval")
    return PairedScore(name, *listed, float(np.mean(whole)), low, high, p, len(keys), single, note=note)


def _statistic(metric: str, side: Predicted, keys: Sequence[Key]) -> bootstrap.Statistic:
    """Return the score of some clips of one run."""
    labels = [side.clips[key][0].split("|") for key in keys]
    target: Int[np.ndarray, "n C"] = np.array([[name in each for name in side.classes] for each in labels], np.int64)
    table = np.stack([side.clips[key][1] for key in keys])
    truth, predicted = target.argmax(axis=1), table.argmax(axis=1)
    if metric == "mAP":
        precisions = bootstrap.average_precisions_statistic(target, table)
        return lambda counts: bootstrap.class_mean(precisions(counts))
    if metric.startswith("balanced"):
        return bootstrap.balanced_accuracy_statistic(truth, predicted)
    return bootstrap.mean_statistic(truth == predicted)


def _listed(source: str, stored: Mapping[str, Any]) -> ListedScore:
    return ListedScore(source, stored["metric"], stored["mean"], stored["low"], stored["high"])
