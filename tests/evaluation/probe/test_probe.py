"""Probes find what is in a vector, and say so honestly when nothing is."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from unheard.audio.frontend import band_statistics
from unheard.data.class_sets import ClassSets
from unheard.data.label_table import Labels
from unheard.data.partitions import partitions
from unheard.data.tables import read_csv
from unheard.embedding.loading import load
from unheard.errors import DataError
from unheard.evaluation.probe.files import map_rows, write
from unheard.evaluation.probe.probe import HEADS, NEIGHBOURS, ProbeConfig, probe_embeddings, read_labels
from unheard.evaluation.probe.projection import draw_map
from unheard.evaluation.probe.vectors import log_mel

Table, Clouds = Callable[..., Labels], Callable[..., np.ndarray]
FAST = ProbeConfig(heads=("linear", "knn"), n_resamples=100, curve=False)


def scores(report: object, embedding: str, metric: str) -> dict[str, float]:
    return {
        score.head: score.mean for score in report.scores if score.embedding == embedding and score.metric == metric
    }  # type: ignore[attr-defined]


def test_separate_classes_are_found_and_noise_is_chance(table: Table, clouds: Clouds) -> None:
    classes = [i % 3 for i in range(240)]
    labels = table(classes, split="rre" * 80)  # index i % 3 is class and side at once: every side must hold every class
    labels = replace(labels, split=["test" if i % 4 == 0 else "train" for i in range(240)])
    noise = np.random.default_rng(5).standard_normal((240, 8))
    report = probe_embeddings({"good": clouds(classes, 5.0), "noise": noise}, labels, replace(FAST, heads=HEADS))
    assert all(value > 0.97 for value in scores(report, "good", "balanced accuracy").values())
    assert all(value < 0.55 for value in scores(report, "noise", "balanced accuracy").values())
    assert report.chance["balanced accuracy"] == pytest.approx(1 / 3)
    assert report.tested == 60
    for score in report.scores:
        assert score.low <= score.mean <= score.high


def test_linear_head_equals_scikit_learn(table: Table, clouds: Clouds) -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    classes = [i % 4 for i in range(200)]
    side = ["test" if i >= 120 else "train" for i in range(200)]
    vectors = clouds(classes, 0.7) * np.logspace(-3, 3, 8)
    report = probe_embeddings({"x": vectors}, replace(table(classes), split=side), replace(FAST, C=0.03))
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.03, max_iter=1000)).fit(vectors[:120], classes[:120])
    assert scores(report, "x", "accuracy")["linear"] == pytest.approx(model.score(vectors[120:], classes[120:]))


def test_neighbours_agree_with_scikit_learn(table: Table, clouds: Clouds) -> None:
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.preprocessing import StandardScaler

    classes = [i % 2 for i in range(300)]
    vectors = clouds(classes, 0.6)
    labels = replace(table(classes), split=["test" if i >= 200 else "train" for i in range(300)])
    scaler = StandardScaler().fit(vectors[:200])
    model = KNeighborsClassifier(NEIGHBOURS, metric="cosine", weights=lambda distance: 2 - distance)
    model.fit(scaler.transform(vectors[:200]), classes[:200])
    expected = model.score(scaler.transform(vectors[200:]), classes[200:])
    assert scores(probe_embeddings({"x": vectors}, labels, FAST), "x", "accuracy")["knn"] == pytest.approx(expected)


def test_same_seeds_same_report(table: Table, clouds: Clouds) -> None:
    classes = [i % 3 for i in range(60)]
    vectors = clouds(classes, 1.0)
    how, split = ProbeConfig(seeds=(0, 1), n_resamples=20), table(classes, split="rrrre" * 12)
    assert probe_embeddings({"x": vectors}, split, how) == probe_embeddings({"x": vectors}, split, how)
    how, folds = replace(how, heads=("linear", "knn")), table(classes)  # the seeds also assign the folds
    assert probe_embeddings({"x": vectors}, folds, how) == probe_embeddings({"x": vectors}, folds, how)


def test_several_labels_a_clip_are_scored_by_map(table: Table) -> None:
    rng = np.random.default_rng(0)
    target = (rng.random((200, 3)) < 0.4).astype(int)
    target[0], target[1] = 1, [1, 1, 0]
    labels = replace(
        table([[0, 1], [0, 2]]),
        paths=[Path("x")] * 200,
        target=ClassSets.from_dense(target),
        split=["train", "test"] * 100,
        group=[""] * 200,
    )
    report = probe_embeddings({"x": target + 0.1 * rng.standard_normal((200, 3))}, labels, FAST)
    assert {score.metric for score in report.scores} == {"mAP"}
    assert all(score.mean > 0.95 for score in report.scores)
    assert report.chance["mAP"] == pytest.approx(target[1::2].mean(), abs=0.02)


def test_the_strength_is_chosen_on_validation_clips(table: Table) -> None:
    rng = np.random.default_rng(1)
    vectors = rng.standard_normal((400, 40))
    classes = ((vectors[:, 0] + 0.05 * vectors[:, 1:].sum(axis=1)) > 0).astype(int).tolist()
    labels = replace(table(classes), split=["train" if i < 200 else "valid" if i < 300 else "test" for i in range(400)])
    tuned = scores(probe_embeddings({"x": vectors}, labels, FAST), "x", "accuracy")["linear"]
    assert tuned >= scores(probe_embeddings({"x": vectors}, labels, replace(FAST, C=0.001)), "x", "accuracy")["linear"]


def test_embeddings_may_come_in_one_run_a_seed(table: Table, clouds: Clouds) -> None:
    classes = [i % 2 for i in range(80)]
    runs = np.stack([clouds(classes, distance) for distance in (0.0, 1.0, 6.0)])
    report = probe_embeddings(
        {"random": runs}, replace(table(classes), split=["train", "train", "test", "test"] * 20), FAST
    )
    values = next(score for score in report.scores if score.head == "linear").runs
    assert values[0] < values[1] < values[2]


def test_groups_stay_together_and_folds_cover_everyone_once(table: Table) -> None:
    classes = [i % 2 for i in range(60)]
    groups = [f"g{i // 4}" for i in range(60)]
    seen: list[int] = []
    for train, valid, test in partitions(table(classes, group=groups), seed=3):
        assert not {groups[i] for i in train} & {groups[i] for i in test}
        assert not len(valid)
        seen += test.tolist()
    assert sorted(seen) == list(range(60))


@pytest.mark.parametrize("clips", [2, 3, 6])
def test_rare_tags_are_on_both_sides_whatever_the_seed(table: Table, clips: int) -> None:
    rng = np.random.default_rng(0)
    target = (rng.random((300, 20)) < 0.2).astype(np.int64)
    target[:, 15:] = 0
    for kind in range(15, 20):
        target[rng.permutation(300)[:clips], kind] = 1
    labels = replace(
        table([[0], [0, 1]] * 150), classes=[str(k) for k in range(20)], target=ClassSets.from_dense(target)
    )
    dealt = set()
    for seed in range(20):
        parts = partitions(labels, seed)
        assert len(parts) == 5 and all(50 <= len(test) <= 70 for _, _, test in parts)
        shares = np.stack([target[test, :15].sum(axis=0) for _, _, test in parts]) / target[:, :15].sum(axis=0)
        assert 0.1 < shares.min() and shares.max() < 0.3
        dealt.add(parts[0][2].tobytes())
    assert len(dealt) == 20
    assert [test.tolist() for _, _, test in partitions(labels, 3)] == [
        test.tolist() for _, _, test in partitions(labels, 3)
    ]


def test_a_class_of_one_clip_is_refused(table: Table) -> None:
    with pytest.raises(DataError, match="class 'class2' has 1 clip"):
        partitions(table([0, 1] * 10 + [2]), seed=0)


def test_a_split_wins_over_folds(table: Table) -> None:
    labels = table([0, 1, 0, 1], split="rree", fold="0101")
    assert [test.tolist() for _, _, test in partitions(labels, seed=0)] == [[2, 3]]


def test_given_folds_are_used(table: Table) -> None:
    labels = table([0, 1, 0, 1, 0, 1], fold="001122")
    assert [test.tolist() for _, _, test in partitions(labels, seed=0)] == [[0, 1], [2, 3], [4, 5]]


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda table: table([0, 0, 1, 1], split="rree"), "missing from the training clips: class1"),
        (lambda table: table([0, 1, 0, 1], split="rrrr"), "0 test clips"),
        (lambda table: replace(table([0, 1, 0, 1]), fold=["1", "", "2", "1"]), "1 of 4 clips have no fold"),
        (lambda table: table([0, 0, 0, 1]), "class 'class1' has 1 clip; it needs two clips, one for training"),
        (
            lambda table: table([0, 0, 1, 1], group=["a", "b", "c", "c"]),
            "class 'class1' has 2 clips in 1 group; it needs two groups",
        ),
        (lambda table: table([[0], [0, 1], [0], [0]]), "class 'class1' has 1 clip; it needs two clips"),
    ],
)
def test_refuses_splits_that_cannot_be_scored(table: Table, made: Callable[[Table], Labels], message: str) -> None:
    with pytest.raises(DataError, match=message):
        probe_embeddings({"x": np.random.default_rng(0).standard_normal((4, 2))}, made(table), FAST)


def test_a_side_of_one_class_is_refused(table: Table) -> None:
    vectors = {"x": np.random.default_rng(0).standard_normal((6, 2))}
    with pytest.raises(DataError, match="all 3 tested clips are 'class1'"):
        probe_embeddings(vectors, table([0, 1, 0, 1, 1, 1], split="rrreee"), FAST)
    with pytest.raises(DataError, match="missing from the training clips"):
        probe_embeddings(vectors, table([0, 0, 0, 0, 1, 1], split="rrreee"), FAST)
    only = replace(
        table([0, 1, 0, 0, 0, 0], split="rrreee"), target=ClassSets.from_dense(np.eye(2, dtype=np.int64)[[0] * 6])
    )
    with pytest.raises(DataError, match="all 3 training clips are 'class0'"):
        probe_embeddings(vectors, only, FAST)


def test_refuses_vectors_that_do_not_fit(table: Table) -> None:
    labels = table([0, 1, 0, 1])
    with pytest.raises(DataError, match=r"x: embeddings have the shape \(3, 2\) for 4"):
        probe_embeddings({"x": np.zeros((3, 2))}, labels)
    with pytest.raises(DataError, match="x: embeddings of 4 of 4 clips are not finite, the first of 0.wav"):
        probe_embeddings({"x": np.full((4, 2), np.nan)}, labels)


def test_constant_dimensions_do_no_harm(table: Table, clouds: Clouds) -> None:
    classes = [i % 2 for i in range(40)]
    vectors = np.concatenate([clouds(classes, 5.0), np.full((40, 3), 7.0)], axis=1)
    assert scores(probe_embeddings({"x": vectors}, table(classes), FAST), "x", "accuracy")["linear"] > 0.95


def test_report_is_written_whole(table: Table, clouds: Clouds, tmp_path: Path) -> None:
    classes = [i % 2 for i in range(40)]
    labels = table(classes)
    embeddings = {"model": clouds(classes, 2.0), "log-mel": clouds(classes, 0.5)}
    report = probe_embeddings(embeddings, labels, replace(FAST, curve=True, seeds=(0,)))
    out = write(report, tmp_path / "out", map_rows(report, labels, draw_map(embeddings["model"], 0)))
    tables = {"scores.csv", "classes.csv", "confusion.csv", "predictions.csv", "curve.csv", "map.csv"}
    assert {path.name for path in out.iterdir()} == {"probe.json", "probe.md", *tables}
    stored = json.loads((out / "probe.json").read_text())
    assert set(stored.pop("files")) == {*tables, "probe.md"} and stored.pop("content_sha256")
    assert stored == report.to_json()
    assert (out / "probe.md").read_text().startswith("| embedding | probe |")
    written = read_csv(out / "predictions.csv", ("clip", "true", "predicted"))
    assert len(written) == 40 and written[3]["true"] == "class1"
    assert len(read_csv(out / "map.csv", ("path", "tsne_x"))) == 40
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot write"):
        write(report, tmp_path / "file")


def test_a_class_may_be_called_like_a_column(table: Table, clouds: Clouds, tmp_path: Path) -> None:
    classes = [i % 2 for i in range(40)]
    labels = replace(table(classes, split="rree" * 10), classes=["false", "true"])
    report = probe_embeddings({"model": clouds(classes, 9.0)}, labels, FAST)
    rows = read_csv(write(report, tmp_path) / "confusion.csv", ("true", "predicted false", "predicted true"))
    assert [row["true"] for row in rows] == ["false", "true"]
    assert [[int(row[f"predicted {name}"]) for name in labels.classes] for row in rows] == report.confusion
    write(replace(report, confusion=[]), tmp_path)
    assert not (tmp_path / "confusion.csv").exists()


def test_the_log_mel_baseline_is_mean_and_deviation() -> None:
    spec = np.array([[1.0, 3.0], [2.0, 2.0]])
    assert band_statistics(torch.from_numpy(spec)).tolist() == [2.0, 2.0, 1.0, 0.0]


def test_a_part_of_a_file_has_the_log_mel_of_the_whole_at_any_sample_rate(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", 0.3 * np.sin(2 * np.pi * 1000 * np.arange(44100) / 44100), 44100)
    (tmp_path / "labels.csv").write_text("path,label,start,end\na.wav,whole,,\na.wav,part,0,1\n")
    model = load("random-tiny")
    labels = read_labels(tmp_path / "labels.csv")
    whole, part = (log_mel(model, labels.sound(clip)) for clip in range(2))
    np.testing.assert_allclose(part, whole, atol=1e-4)


def test_reads_a_labels_csv(tmp_path: Path) -> None:
    for name in ("a.wav", "b.wav"):
        (tmp_path / name).touch()
    csv = tmp_path / "labels.csv"
    csv.write_text("path,label,split,start,group\na.wav,dog|rain,train,0.5,x\nb.wav,dog,VAL,,\n")
    labels = read_labels(csv)
    assert labels.classes == ["dog", "rain"]
    assert labels.multilabel
    assert labels.target[:].tolist() == [[1, 1], [1, 0]]
    assert labels.split == ["train", "valid"]
    assert labels.start == [0.5, None]
    assert list(labels.paths) == [tmp_path / "a.wav", tmp_path / "b.wav"]
    csv.write_text("path,label,known\na.wav,rain,\nb.wav,dog,dog\n")
    assert read_labels(csv).ternary_targets.tolist() == [[0, 1], [1, -1]]
    csv.write_text("path,label,known\na.wav,rain,\nb.wav,dog,cat\n")
    assert read_labels(csv).ternary_targets.tolist() == [[0, 1], [1, -1]]  # no clip has a cat, so it is no class


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,label\na.wav,dog\n", "lacks the column path"),
        ("path,label\n", "has no rows"),
        ("path,label\na.wav,dog\nmissing.wav,cat\n", "1 files that do not exist, the first missing.wav"),
        ("path,label\na.wav,dog\n", "1 class .dog."),
        ("path,label,split,start\na.wav,dog,train,0\na.wav,cat,later,1\n", "split 'later'"),
        ("path,label,start\na.wav,dog,0\na.wav,cat,soon\n", "start of row 3 is 'soon'"),
    ],
)
def test_refuses_a_bad_labels_csv(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.wav").touch()
    (tmp_path / "labels.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        read_labels(tmp_path / "labels.csv")
