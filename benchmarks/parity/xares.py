"""Parity with X-ARES: scores on plain arrays, embeddings of miniature tasks, order of rows, heads, neighbours and
few-shot selections.
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.parity.compare import Arrays, Checker, Comparison, arrays
from unheard.evaluation.encoders.choose import Encoder, encoder
from unheard.evaluation.probe.few_shot import ITERATIONS, SEED, selections
from unheard.evaluation.xares import retrieval
from unheard.evaluation.xares.averages import weighted_average
from unheard.evaluation.xares.clips import batches, padded, read_clips
from unheard.evaluation.xares.embeddings import EmbeddedSplit, Embedding, embed_split
from unheard.evaluation.xares.head import Fit, Head, Splits, skip_draws, train
from unheard.evaluation.xares.metrics import Predicted, recall_at_1, score
from unheard.evaluation.xares.neighbours import votes
from unheard.evaluation.xares.rows import Rows, joined, rows_of
from unheard.evaluation.xares.shards import find_shards
from unheard.evaluation.xares.shuffles import epoch_order, shards_of
from unheard.evaluation.xares.targets import CAPTIONS
from unheard.evaluation.xares.tasks import XaresTask, public_tasks
from unheard.evaluation.xares.wordpiece import WordPiece

# README of the folder
SCORE, EMBEDDING, STEP, METRIC, LOGITS, VOTES = 1e-6, 1e-5, 1e-5, 1e-6, 1e-3, 1e-5
WEIGHTS = 1e-3  # of the best epoch, as the logits
CHAOTIC_LOSS, CHAOTIC_SCORE = 1e-3, 0.1  # of Clotho
FIRST_SEED = 7000  # of the shuffles of the stored runs
HOP = 0.08
SHOTS = 8
Json = dict[str, Any]


def fits(folder: Path) -> bool:
    """Whether a folder has this format."""
    return (folder / "goldens.json").is_file() and (folder / "toy_encoder.py").is_file()


def compare(folder: Path, table: Comparison) -> None:
    """Recompute every stored output of a folder; one thread, as they were made."""
    torch.set_num_threads(1)
    _scores(Checker("scores", arrays(folder / "scores.npz"), table), json.loads((folder / "scores.json").read_text()))
    sys.path.insert(0, str(folder))
    try:
        toy = encoder("xares:toy_encoder")
    finally:
        sys.path.remove(str(folder))
    goldens = json.loads((folder / "goldens.json").read_text())
    for name, stored in goldens.items():
        task = public_tasks()[name]
        table.check(f"{name}: settings", _settings(task), _stored_settings(stored))
        embedded = arrays(folder / "embeddings" / f"{name}.npz")
        _embeddings(folder, task, toy, Checker(f"embeddings/{name}", embedded, table), stored)
        trace = Checker(f"traces/{name}", arrays(folder / "traces" / f"{name}.npz"), table)
        if task.kind == "captions":
            _captions(folder, task, embedded, trace, stored)
        else:
            _training(task, embedded, trace, stored)
    _shots(folder, table)


def _settings(task: XaresTask) -> list[float]:
    return [task.epochs, task.batch, len(task.classes), task.weight, task.crop or 0, task.encode_batch]


def _stored_settings(stored: Json) -> list[float]:
    names = ("epochs", "batch", "classes", "weight", "crop_length", "batch_size_encode")
    return [stored[name] or 0 for name in names]


def _scores(check: Checker, values: Json) -> None:
    """Metrics and nearest neighbours of plain arrays."""
    stored, table = check.stored, check.table
    tensors = {key: torch.from_numpy(value) for key, value in stored.items()}
    clip, multi = public_tasks()["cremad"], public_tasks()["fsd50k"]

    def metric(task: XaresTask, batches: Predicted, hop: float = 0.0) -> float:
        return score(task, batches, hop)

    accuracy = metric(clip, [(tensors["accuracy.logits"], tensors["accuracy.labels"])])
    table.check("scores/accuracy", accuracy, values["accuracy"], SCORE)
    precision = metric(multi, [(tensors["map.logits"], tensors["map.targets"])])
    table.check("scores/mAP", precision, values["mAP"], SCORE)
    segments = [(tensors[f"segment.logits{k}"], tensors[f"segment.targets{k}"]) for k in range(2)]
    for case in values["segment"]:
        for name, kind in (("desed", "macro"), ("maestro", "micro")):
            task = XaresTask(**{**vars(public_tasks()[name]), "segment": case["segment_s"]})
            found = metric(task, segments, case["hop_ms"] / 1000)
            table.check(f"scores/segment {case['hop_ms']} ms, {case['segment_s']} s, {kind}", found, case[kind], SCORE)
    recalls = recall_at_1(tensors["recall.audio"], tensors["recall.text"], CAPTIONS)
    for found, part in zip(recalls, ("a2t", "t2a"), strict=True):
        table.check(f"scores/recall {part}", found, values["recall_parts"][part]["r1"] / 100, SCORE)
    table.check("scores/recall", sum(recalls) / 2, values["recallatk_r1"], SCORE)
    check.skip("eer.scores", "no task uses it, and the reference raises an error")
    _plain_neighbours(check, tensors, values)
    given = values["weighted_average_input"]
    for head, expected in enumerate(values["weighted_average"]):
        parts = {name: rows[head] for name, rows in given.items()}
        known = {name: value for name, (value, weight) in parts.items() if weight}
        found = weighted_average(known, {name: weight for name, (_, weight) in parts.items()})
        table.check(f"scores/weighted average {head}", found, expected, SCORE)
    inputs = [key for key in stored if not key.startswith("knn.votes") and key != "knn.columns"]
    check.complete(inputs)


def _plain_neighbours(check: Checker, tensors: dict[str, torch.Tensor], values: Json) -> None:
    train, labels, test = (tensors[f"knn.{name}"] for name in ("train", "labels", "test"))
    classes = check.stored["knn.votes"].shape[1]
    found = votes(train, labels, test, classes)
    check("knn.votes", found, VOTES)
    columns = torch.nn.functional.normalize(train, dim=0)
    check("knn.columns", columns if check.stored["knn.columns"].ndim == 2 else columns.norm(dim=0), VOTES)
    rows = votes(train, labels, test, classes, "rows")
    for name, weights in (("knn", found), ("knn_if_rows_were_normalised", rows)):
        right = (weights.argmax(dim=1) == tensors["knn.test_labels"]).float().mean()
        check.table.check(f"scores/{name}", right, values[name], SCORE)


def _embeddings(folder: Path, task: XaresTask, toy: Encoder, check: Checker, stored: Json) -> None:
    """Read, resample, crop, encode and read back every split."""
    names = stored["folds"] or list(dict.fromkeys(stored["splits"].values()))
    if not (folder / "tasks" / task.name).is_dir():
        check.table.skip(check.title, "the folder holds no sounds of this task")
        return
    with tempfile.TemporaryDirectory() as out:
        for name, pattern in zip(names, task.patterns, strict=True):
            split = embed_split(task, folder / "tasks" / task.name, pattern, Embedding(toy, False, Path(out)))
            check.table.check(f"{check.title}/{name}.keys", split.keys == check.stored[f"{name}.keys"].tolist(), True)
            check.done.add(f"{name}.keys")
            counts = stored["samples"][str(name)]
            numbers = [counts["written"], counts["read"]]
            check.table.check(f"{check.title}/{name}: written, read", [split.written, len(split.keys)], numbers)
            check(f"{name}.frames_per_sample", split.frames)
            _vectors(check, str(name), task, split)
            if task.kind != "frames":
                _first_frames(check, str(name), task, toy, find_shards(folder / "tasks" / task.name, pattern))
    check.complete([])


def _vectors(check: Checker, name: str, task: XaresTask, split: EmbeddedSplit) -> None:
    check(f"{name}.frames" if task.kind == "frames" else f"{name}.X", split.vectors, EMBEDDING)
    if task.kind == "captions":
        texts = [list(record.values()) for record in split.records]
        check.table.check(f"{check.title}/{name}.captions", texts == check.stored[f"{name}.captions"].tolist(), True)
        check.done.add(f"{name}.captions")
        return
    rows = rows_of(task, split, HOP)
    if task.kind == "frames":
        check(f"{name}.targets", torch.cat(rows.y))
        check(f"{name}.target_frames", [len(each) for each in rows.y])
    else:
        check(f"{name}.y", rows.y[0])


def _first_frames(check: Checker, name: str, task: XaresTask, toy: Encoder, shards: list[Path]) -> None:
    """Frames of the first samples that are read back, from the first batch."""
    batch = next(batches(read_clips(shards, toy.sample_rate, task.crop, print), task.encode_batch))
    frames, _ = toy.timestamps(padded(batch))
    keys = [clip.key for clip in batch]
    kept = [at for at, key in enumerate(keys) if not at or key != keys[at - 1]]
    wanted = len(check.stored[f"{name}.first_frames"])
    check(f"{name}.first_frames", frames[kept].flatten(0, 1)[:wanted], EMBEDDING)


def _stored_rows(task: XaresTask, stored: Arrays, name: str) -> Rows:
    """The stored embeddings of a split."""
    clips = stored[f"{name}.keys"]
    if task.kind != "frames":
        return Rows((torch.from_numpy(stored[f"{name}.X"]),), (torch.from_numpy(stored[f"{name}.y"]),), clips, False)
    x, y = (
        tuple(map(torch.from_numpy, np.split(values.astype(np.float32), np.cumsum(counts)[:-1])))
        for values, counts in (
            (stored[f"{name}.frames"], stored[f"{name}.frames_per_sample"]),
            (stored[f"{name}.targets"], stored[f"{name}.target_frames"]),
        )
    )
    return Rows(x, y, clips, True)


def _training(task: XaresTask, stored: Arrays, check: Checker, goldens: Json) -> None:
    """Every fit from its initial head, in the stored order, and the order and the head themselves."""
    names = [str(name) for name in goldens["folds"] or dict.fromkeys(goldens["splits"].values())]
    rows = {name: _stored_rows(task, stored, name) for name in names}
    scores, by_neighbours = [], []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(42)
        for index, fit in enumerate(goldens["fits"]):
            splits, sizes = _splits(rows, goldens, fit)
            found = _one_fit(task, splits, sizes, index, check)
            check.table.check(f"{check.title}/fit{index}: best epoch", found.best_epoch, fit["best_epoch"])
            scores.append(score(task, found.predicted, HOP))
            check.table.check(f"{check.title}/fit{index}: score", scores[-1], fit["score"], METRIC)
            if task.knn:
                by_neighbours.append(_neighbours(task, splits, index, check, fit))
    check.table.check(f"{check.title}: score", np.mean(scores), goldens["mlp"], METRIC)
    if by_neighbours:
        check.table.check(f"{check.title}: kNN", np.mean(by_neighbours), goldens["knn"], METRIC)
    check.complete([key for key in check.stored if "pos_weight" in key])


def _splits(rows: dict[str, Rows], goldens: Json, fit: Json) -> tuple[Splits, list[int]]:
    fold = fit["fold"]
    if fold is None:
        train_rows, valid, test = (rows[goldens["splits"][name]] for name in ("train", "valid", "test"))
        return Splits(train_rows, valid, test), [len(train_rows)]
    parts = [part for name, part in rows.items() if name != fold]
    return Splits(joined(parts), rows[fold], rows[fold]), [len(part) for part in parts]


def _one_fit(task: XaresTask, splits: Splits, sizes: list[int], index: int, check: Checker) -> Fit:
    """One fit from the next head of the generator."""
    name, stored = f"fit{index}", check.stored
    head = Head(splits.train.width, len(task.classes))
    for key, value in head.state_dict().items():
        check(f"{name}.init.{key}", value)
    shards = shards_of(sizes)
    orders = [epoch_order(shards, epoch, *_generators(index * task.epochs + epoch)) for epoch in range(task.epochs)]
    check(f"{name}.order", np.concatenate(orders))
    lengths = [min(task.batch, len(order) - first) for order in orders for first in range(0, len(order), task.batch)]
    check(f"{name}.batch_sizes", lengths)
    steps = len(lengths) // task.epochs
    numbers = np.repeat(np.arange(task.epochs), steps)
    check(f"{name}.epoch", numbers + int(stored[f"{name}.epoch"][0]))
    fit = train(task, head, splits, lambda epoch: orders[epoch], HOP)
    skip_draws(task.epochs)
    check(f"{name}.loss", fit.losses, STEP)
    check(f"{name}.lr", fit.rates, 1e-12)
    check(f"{name}.valid_metric", fit.valid_scores, METRIC)
    check(f"{name}.valid_loss", fit.valid_losses, STEP)
    for key, value in head.state_dict().items():
        check(f"{name}.best.{key}", value, WEIGHTS)
    check(f"{name}.test_logits", torch.cat([logits.flatten(0, -2) for logits, _ in fit.predicted]), LOGITS)
    flat = task.kind == "frames"
    check(f"{name}.test_targets", torch.cat([y.flatten(0, -2) if flat else y for _, y in fit.predicted]))
    check(f"{name}.test_batch_shape", [logits.shape[:2] for logits, _ in fit.predicted])
    return fit


def _generators(number: int) -> tuple[random.Random, random.Random]:
    """Generators of the inner and the outer buffer of the stored runs, for an epoch counted over all fits."""
    return random.Random(FIRST_SEED + 2 * number + 2), random.Random(FIRST_SEED + 2 * number + 1)


def _neighbours(task: XaresTask, splits: Splits, index: int, check: Checker, fit: Json) -> float:
    """Votes of the reference's normalisation; accuracy of both."""
    given = splits.train.x[0], splits.train.y[0], splits.test.x[0], len(task.classes)
    truth, right = splits.test.y[0], []
    for weights in (votes(*given), votes(*given, "rows")):
        right.append(float((weights.argmax(dim=1) == truth).float().mean()))
    found = votes(*given)
    check(f"knn{index}.votes", found, VOTES)
    agree = np.array_equal(found.argmax(dim=1), check.stored[f"knn{index}.votes"].argmax(axis=1))
    check.table.check(f"{check.title}/knn{index}: decisions", agree, True)
    names = ("knn", "knn_if_rows_were_normalised")
    for name, value in zip(names, right, strict=True):
        check.table.check(f"{check.title}/fit{index}: {name}", value, fit[name], METRIC)
    return right[0]


def _captions(folder: Path, task: XaresTask, stored: Arrays, check: Checker, goldens: Json) -> None:
    """Initial weights, order and the losses of two epochs; later ones are chaotic."""
    words = WordPiece(folder / "clotho_vocab.txt")
    splits = tuple(_caption_rows(stored, goldens["splits"][name], words) for name in ("train", "valid", "test"))
    train_rows, valid, test = splits
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(42)
        head = retrieval.RetrievalHead(train_rows.x.shape[1], words.size)
    state = head.state_dict()
    for key, expected in goldens["init_check"].items():
        value = state[key.replace("criterion.", "")]
        check.table.check(f"{check.title}/init.{key}: sum", value.sum(), expected["sum"], 1e-4)
        check.table.check(
            f"{check.title}/init.{key}: first", value.flatten()[: len(expected["first"])], expected["first"]
        )
    shards = shards_of([len(train_rows.x)])
    orders = [epoch_order(shards, epoch, *_generators(epoch), rows=CAPTIONS) for epoch in range(task.epochs)]
    check("fit0.order", np.concatenate(orders))
    fit = retrieval.train_retrieval(task, head, (train_rows, valid, test), lambda epoch: orders[epoch])
    early = np.array(check.stored["fit0.epoch"]) < check.stored["fit0.epoch"][0] + 2
    check.part("fit0.loss", np.array(fit.losses)[early], early, rtol=CHAOTIC_LOSS)
    check("fit0.lr", fit.rates, 1e-12)
    audio, text = (torch.cat(parts) for parts in zip(*fit.predicted, strict=True))
    check.table.check(
        f"{check.title}: score", sum(recall_at_1(audio, text, CAPTIONS)) / 2, goldens["mlp"], CHAOTIC_SCORE
    )
    logits, captions = (torch.from_numpy(check.stored[key]) for key in ("fit0.test_logits", "fit0.test_text"))
    found = sum(recall_at_1(logits, captions, CAPTIONS)) / 2
    check.table.check(f"{check.title}: score of the stored vectors", found, goldens["mlp"], METRIC)
    for key in ("valid_metric", "valid_loss", "test_logits", "test_text"):
        check.skip(f"fit0.{key}", "the start of this training is chaotic")
    check.complete(["fit0.batch_sizes", "fit0.epoch"])


def _caption_rows(stored: Arrays, name: str, words: WordPiece) -> retrieval.CaptionRows:
    tokens = [torch.tensor(words(text)) for texts in stored[f"{name}.captions"] for text in texts]
    return retrieval.CaptionRows(torch.from_numpy(stored[f"{name}.X"]), tokens)


def _shots(folder: Path, table: Comparison) -> None:
    """Few-shot selections, predictions and accuracies: several draws of one split, or one draw a fold."""
    goldens = json.loads((folder / "shots.json").read_text())
    check = Checker("shots", arrays(folder / "shots.npz"), table)
    for name, expected in goldens.items():
        stored = arrays(folder / "embeddings" / f"{name}.npz")
        draws = _folds_of(stored) if expected["kind"] == "cross-validation" else _draws_of(stored, expected["draws"])
        results = [_one_draw(check, name, *draw) for draw in draws]
        for position, score_name in enumerate(("accuracy", "f1")):
            found = [values[position] for values in results]
            each = [values[score_name] for values in expected["each"]]
            table.check(f"shots/{name}: {score_name} of each", found, each, SCORE)
            table.check(f"shots/{name}: {score_name}", np.mean(found), expected[score_name], SCORE)
    check.complete([key for key in check.stored if key.endswith(".test")])


Draw = tuple[dict[str, str], np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""Names of the stored arrays, training vectors, labels and chosen rows, and test vectors and labels."""


def _draws_of(stored: Arrays, draws: int) -> Iterator[Draw]:
    """Draws of the first split, tested on the last."""
    names = list(dict.fromkeys(key.rpartition(".")[0] for key in stored))
    x, y, test = stored[f"{names[0]}.X"], stored[f"{names[0]}.y"], names[-1]
    for index, rows in enumerate(selections(y, SHOTS, draws)):
        keys = {"rows": f"selected{index}", "predicted": f"predicted{index}"}
        yield keys, x, y, rows, stored[f"{test}.X"], stored[f"{test}.y"]


def _folds_of(stored: Arrays) -> Iterator[Draw]:
    """One draw for each of five folds of all rows; the running list has the length of the first training part."""
    from sklearn.model_selection import KFold

    names = list(dict.fromkeys(key.rpartition(".")[0] for key in stored))
    x, y = (np.concatenate([stored[f"{name}.{kind}"] for name in names]) for kind in ("X", "y"))
    length = 0
    for index, (train_rows, test) in enumerate(KFold(5, shuffle=True, random_state=SEED).split(x)):
        length = length or len(train_rows)
        rows = train_rows[list(selections(y[train_rows[:length]], SHOTS, index + 1))[-1]]
        keys = {"rows": f"fold{index}.train_selected", "predicted": f"fold{index}.predicted"}
        yield keys, x, y, rows, x[test], y[test]


def _one_draw(
    check: Checker, name: str, keys: dict[str, str], x: np.ndarray, y: np.ndarray, *rest: np.ndarray
) -> tuple[float, float]:
    """Compare the chosen rows and the predictions; return accuracy and F1."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import f1_score

    rows, test, truth = rest
    check(f"{name}.{keys['rows']}", rows)
    model = LogisticRegression(max_iter=ITERATIONS, random_state=SEED).fit(x[rows], y[rows])
    predicted = model.predict(test)
    check(f"{name}.{keys['predicted']}", predicted)
    return float((predicted == truth).mean()), float(f1_score(truth, predicted, average="macro", zero_division=0))
