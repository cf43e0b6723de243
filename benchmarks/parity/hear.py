"""Parity with heareval: scores of stored predictions, a run without dropout from stored weights, and full runs from
embeddings.

Where products round as they did for the stored runs (see `processor`), everything must agree to 1e-6. Elsewhere
training amplifies the rounding, so that of a trace only the first steps are compared, and of a full run only the task's
score, within the spread of seeds.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.parity.compare import Arrays, Comparison, arrays
from benchmarks.parity.processor import as_intel
from unheard.evaluation.hear import fit as fitting
from unheard.evaluation.hear import heareval
from unheard.evaluation.hear.events import Events, Postprocessing, find_events, join
from unheard.evaluation.hear.head import Head, HyperParams
from unheard.evaluation.hear.rows import EvaluationRound, Rows, parts, score_all, stack
from unheard.evaluation.hear.task_folder import Task, find_tasks, read_task

SCORE, STEP, FULL = {"atol": 1e-6}, {"atol": 1e-6, "rtol": 1e-5}, {"atol": 1e-6}  # README of the folder
FIRST = 50  # steps of a trace that rounding leaves alone
SPREAD = {"tiny_sources": 0.044, "tiny_tags": 0.029, "tiny_pitch": 0.042, "tiny_notes": 0.031, "tiny_events": 0.058}
"""Largest minus smallest score of five seeds: the hear specification, section 10. Other tasks get the largest of these.
"""
Json = dict[str, Any]


def prepare() -> None:
    """Before anything is multiplied."""
    as_intel()


def spread_of(task: str) -> float:
    """How far a score may be from the stored one where products round differently."""
    return SPREAD.get(task, max(SPREAD.values()))


def fits(folder: Path) -> bool:
    """Whether a folder has this format."""
    return (folder / "goldens.json").is_file() and (folder / "nodropout").is_dir() and (folder / "tasks").is_dir()


def compare(folder: Path, table: Comparison) -> None:
    """Recompute every stored score, trace and fit; one thread, as they were made."""
    torch.set_num_threads(1)
    goldens = json.loads((folder / "goldens.json").read_text())["tasks"]
    alike = True
    for path in find_tasks(folder / "tasks"):
        task = read_task(path)
        stored = goldens[task.task_name]
        splits = embedded(task, arrays(folder / "embeddings" / f"{task.task_name}.npz"))
        _predictions(folder, task, splits, stored, table)
        if (folder / "nodropout" / f"{task.task_name}.json").is_file():
            alike &= _trace(folder, task, splits, table)
    for path in find_tasks(folder / "tasks"):
        task = read_task(path)
        splits = embedded(task, arrays(folder / "embeddings" / f"{task.task_name}.npz"))
        _full(task, splits, goldens[task.task_name], alike, table)


def embedded(task: Task, stored: Arrays) -> dict[str, Rows]:
    """The stored embeddings of a task as rows."""
    splits = {}
    for split in task.splits:
        names = stored[f"{split}.files"]
        order = {name: index for index, name in enumerate(dict.fromkeys(names))}
        file = np.array([order[name] for name in names])
        found = [
            Events(np.full(len(events), order[name]), events.label, events.start, events.end)
            for name, events in task.clips[split].items()
            if isinstance(events, Events)
        ]
        none = np.zeros(0)
        x, y = (torch.from_numpy(stored[f"{split}.{key}"].astype(np.float32)) for key in "XY")
        times = stored[f"{split}.timestamps_ms"] if task.event else np.zeros(len(file))
        empty = Events(none.astype(int), none.astype(int), none, none)
        splits[split] = Rows(x, y, file, times, join(found) if found else empty)
    return splits


def _predictions(folder: Path, task: Task, splits: dict[str, Rows], golden: Json, table: Comparison) -> None:
    stored = arrays(folder / "predictions" / f"{task.task_name}.npz")
    how = Postprocessing(**dict(golden["scores"]["postprocessing"])) if task.event else None
    events = json.loads((folder / "predictions" / f"{task.task_name}.events.json").read_text()) if task.event else {}
    for split, theirs in _test_scores(golden).items():
        title, rows, probability = f"{task.task_name}/{split}", splits[split], stored[f"{split}.prediction"]
        table.check(f"{title}/target of the rows", rows.y, stored[f"{split}.target"])
        if how is not None:
            names = list(dict.fromkeys(arrays(folder / "embeddings" / f"{task.task_name}.npz")[f"{split}.files"]))
            found = find_events(probability, rows.file, rows.times_ms, how)
            table.check(f"{title}/events found", *_same(found, names, task, events[split]))
        for name, value in score_all(task, rows, probability, how).items():
            _score(f"{title}/{name} of stored predictions", value, theirs[f"test_{name}"], table)


def _same(found: Events, names: list[str], task: Task, stored: Json) -> tuple[np.ndarray, np.ndarray]:
    """Events as sorted tables, ours and those stored."""
    order = {name: index for index, name in enumerate(names)}
    label = {name: index for index, name in enumerate(task.labels)}
    theirs = [
        (order[f], label[e["label"]], e["start"], e["end"])
        for f, events in stored["predicted_events"].items()
        for e in events
    ]
    ours = zip(found.file, found.label, found.start, found.end, strict=True)
    return np.array(sorted(ours)).reshape(-1, 4), np.array(sorted(theirs)).reshape(-1, 4)


def _trace(folder: Path, task: Task, splits: dict[str, Rows], table: Comparison) -> bool:
    """The run without dropout: every step, every validation, the test. Whether products round as they did then."""
    golden, title = (
        json.loads((folder / "nodropout" / f"{task.task_name}.json").read_text()),
        f"{task.task_name}/without dropout",
    )
    hyper = HyperParams(
        **{key: value for key, value in golden["conf"].items() if key in HyperParams.__dataclass_fields__}
    )
    names = golden["splits"]
    part = EvaluationRound(tuple(names["train"]), names["valid"][0], names["test"][0])
    train = stack([splits[name] for name in part.train])
    head = Head(train.x.shape[1], len(task.labels), hyper)
    initial = arrays(folder / "nodropout" / f"{task.task_name}.init.npz")
    head.load_state_dict({name: torch.from_numpy(np.asarray(value)) for name, value in initial.items()})
    epochs: list[fitting.Epoch] = []
    found = fitting.fit(head, task, train, splits[part.valid], hyper, epochs.append)
    steps, stored = (
        [float(loss) for epoch in epochs for loss in epoch.losses],
        [loss for _, _, loss in golden["train_step_losses"]],
    )
    if alike := steps[:FIRST] == stored[:FIRST]:
        table.check(f"{title}/loss of every step", steps, stored, **STEP)
    else:
        table.check(f"{title}/loss of the first {FIRST} steps", steps[:FIRST], stored[:FIRST], **STEP)
        table.skip(f"{title}/the rest", "products round differently on this processor or build of torch")
        return False
    _validations(title, task, splits[part.valid], epochs, golden["valid"], table)
    table.check(f"{title}/best epoch", found.epoch, golden["best_epoch"])
    table.check(f"{title}/best validation", found.score, golden["validation_score"], **FULL)
    _tested(title, heareval.test(task, part, splits, found, heareval.UNFOUND), golden["test"], table)
    return alike


def _full(task: Task, splits: dict[str, Rows], golden: Json, alike: bool, table: Comparison) -> None:
    """The whole protocol: each fit with every validation, the chosen point, each test split, the means."""
    recorded: list[list[fitting.Epoch]] = []
    plain = fitting.fit

    def observed(head: Head, task: Task, train: Rows, valid: Rows, hyper: HyperParams) -> fitting.FitResult:
        recorded.append([])
        return plain(head, task, train, valid, hyper, recorded[-1].append)

    setattr(heareval, "fit", observed)  # noqa: B010 - the module only uses it
    try:
        outcome = heareval.evaluate(task, splits, golden["grid_points"])
    finally:
        setattr(heareval, "fit", plain)  # noqa: B010
    if not alike:
        score, stored = (
            heareval.summary(outcome.tested)[task.scores[0]]["mean"],
            [each["test_score"] for each in _test_scores(golden).values()],
        )
        table.check(f"{task.task_name}/score", score, np.mean(stored), atol=spread_of(task.task_name))
        table.skip(
            f"{task.task_name}/the rest of the full run",
            "products round differently on this processor or build of torch",
        )
        return
    _fits(task, splits, golden, recorded, outcome, table)
    stored_tests = _test_scores(golden)
    for tested in outcome.tested:
        _tested(f"{task.task_name}/{tested.split}", tested, stored_tests[tested.split], table)
    _means(task, outcome, golden["scores"].get("aggregated_scores", {}), table)


def _fits(
    task: Task,
    splits: dict[str, Rows],
    golden: Json,
    recorded: list[list[fitting.Epoch]],
    outcome: heareval.ProtocolResult,
    table: Comparison,
) -> None:
    """Every validation of every fit, and the choice among them."""
    rounds = [parts(task)[0]] * len(outcome.points) + parts(task)[1:]
    for index, (epochs, part, stored) in enumerate(zip(recorded, rounds, golden["fits"], strict=True)):
        _validations(f"{task.task_name}/fit {index}", task, splits[part.valid], epochs, stored["valid"], table)
    for index, (point, stored) in enumerate(zip(outcome.points, golden["grid"], strict=True)):
        theirs = [stored["validation_score"], stored["best_epoch"]]
        table.check(f"{task.task_name}/grid point {index}/score, epoch", [point.score, point.epoch], theirs, **FULL)
        same = all(stored["hparams"][key] == value for key, value in vars(point.hyper).items())
        table.check(f"{task.task_name}/grid point {index}/hyper-parameters", same, True)
        _settings(f"{task.task_name}/grid point {index}", point.postprocessing, stored["postprocessing"], table)
    same = all(golden["best_hparams"][key] == value for key, value in vars(outcome.best.hyper).items())
    table.check(f"{task.task_name}/chosen hyper-parameters", same, True)
    _settings(f"{task.task_name}/chosen", outcome.best.postprocessing, golden["scores"]["postprocessing"], table)


def _means(task: Task, outcome: heareval.ProtocolResult, stored: Json, table: Comparison) -> None:
    means = heareval.summary(outcome.tested)
    chosen: dict[str, list[float]] = {
        "validation_score": [t.fit.score for t in outcome.tested],
        "epoch": [t.fit.epoch for t in outcome.tested],
    }
    for key, value in stored.items():
        name, kind = key.removeprefix("test_").rsplit("_", 1)
        if name in chosen:
            ours = float(np.mean(chosen[name]) if kind == "mean" else np.std(chosen[name], ddof=1))
        else:
            ours = means[task.scores[0] if name == "score" else name][kind]
        _score(f"{task.task_name}/{key}", ours, value, table)


def _validations(
    title: str, task: Task, valid: Rows, epochs: list[fitting.Epoch], stored: list[Json], table: Comparison
) -> None:
    """Every validation of a fit as one row: epoch, loss, all scores, post-processing."""
    ours, theirs = [], []
    checked = [epoch for epoch in epochs if epoch.probability is not None]
    table.check(f"{title}/epochs validated", [epoch.index for epoch in checked], [each["epoch"] for each in stored])
    for epoch, each in zip(checked, stored, strict=False):
        assert epoch.probability is not None
        scores = score_all(task, valid, epoch.probability, epoch.postprocessing) if task.stop_by_score else {}
        mine = {
            "val_loss": epoch.loss,
            "val_score": epoch.score,
            "epoch": epoch.index,
            **{f"val_{k}": v for k, v in scores.items()},
        }
        mine |= (
            {f"postprocessing/{k}": v for k, v in vars(epoch.postprocessing).items()} if epoch.postprocessing else {}
        )
        ours.append([_plain(mine[key]) for key in sorted(each)])
        theirs.append([_plain(each[key]) for key in sorted(each)])
    table.check(f"{title}/validations ({len(theirs)} with {len(theirs[0])} values)", ours, theirs, **FULL)


def _tested(title: str, tested: heareval.SplitResult, stored: Json, table: Comparison) -> None:
    ours = {f"test_{name}": value for name, value in tested.scores.items()}
    ours |= {
        "test_score": next(iter(tested.scores.values())),
        "validation_score": tested.fit.score,
        "epoch": tested.fit.epoch,
    }
    for name, value in stored.items():
        _score(f"{title}/{name}", ours[name], value, table)


def _settings(title: str, ours: Postprocessing | None, stored: list[list[Any]], table: Comparison) -> None:
    if stored:
        table.check(
            f"{title}/post-processing", list(vars(ours).values()) if ours else [], [value for _, value in stored]
        )


def _test_scores(golden: Json) -> Json:
    return {
        name: value
        for name, value in golden["scores"].items()
        if isinstance(value, dict) and name != "aggregated_scores"
    }


def _score(name: str, ours: float, stored: Any, table: Comparison) -> None:
    table.check(name, _plain(ours), _plain(stored), **SCORE)


def _plain(value: Any) -> float:
    """A stored number; those that are not finite are words there and become far-away numbers here, so that they
    compare.
    """
    number = float(value)
    return number if math.isfinite(number) else {math.inf: 1e9, -math.inf: -1e9}.get(number, 2e9)
