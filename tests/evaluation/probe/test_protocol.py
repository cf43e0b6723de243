"""What a probe reports besides its scores: leakage, learning curves, layers, and intervals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unheard.data.class_sets import ClassSets
from unheard.data.label_table import Labels
from unheard.data.splits import draw_subset
from unheard.errors import DataError
from unheard.evaluation.probe.cache import FinishedHeads
from unheard.evaluation.probe.curve import FRACTIONS, learning_curve
from unheard.evaluation.probe.layers import LAYER_MIX, scalar_mix
from unheard.evaluation.probe.linear import LinearHeads
from unheard.evaluation.probe.probe import InnerOutputs, ProbeConfig, probe_embeddings
from unheard.evaluation.probe.projection import draw_map
from unheard.evaluation.probe.protocol import ProbeProtocol
from unheard.view import probe_figures

Table, Clouds = Callable[..., Labels], Callable[..., np.ndarray]
LINEAR = ProbeConfig(heads=("linear",), C=0.03, n_resamples=200, curve=False)


def test_the_curve_ends_at_the_score_and_rises_where_labels_are_few(table: Table, clouds: Clouds) -> None:
    classes = [i % 4 for i in range(400)]
    vectors = clouds(classes, 0.6, dimensions=20)
    labels = table(classes, split=["train" if i < 200 else "test" for i in range(400)])
    report = probe_embeddings({"model": vectors, "noise": clouds(classes, 0.0)}, labels, replace(LINEAR, curve=True))
    points = [point for point in report.curve if point.embedding == "model"]
    assert points[-1].mean == pytest.approx(report.scores[0].mean) and points[-1].clips == 200
    assert points[0].mean < points[-1].mean and points[0].clips == pytest.approx(10, abs=4)
    assert report.label_doubling_gain is not None and report.label_doubling_gain.mean == pytest.approx(
        points[-1].mean - points[-2].mean
    )


def test_a_difference_is_drawn_on_the_same_clips(table: Table, clouds: Clouds) -> None:
    classes = [i % 2 for i in range(200)]
    vectors = clouds(classes, 0.7)
    noise = np.random.default_rng(3).standard_normal(vectors.shape)
    labels = table(classes, split=["train", "train", "test", "test"] * 50)
    report = probe_embeddings({"model": vectors, "same": vectors.copy(), "noise": noise}, labels, LINEAR)
    same, other = report.differences
    assert (same.mean, same.low, same.high, same.verdict) == (0, 0, 0, "no significant difference")
    assert other.verdict == "better" and other.low <= other.mean <= other.high


def test_intervals_over_groups_are_wider_where_groups_behave_alike(table: Table) -> None:
    classes = [i % 2 for i in range(300)]
    split = ["train" if i < 150 else "test" for i in range(300)]
    warning = np.eye(2)[
        [(kind + (i // 10) % 3 // 2) % 2 for i, kind in enumerate(classes)][150:]
    ]  # every third ten is predicted wrongly as a whole
    width = []
    for group in (None, [f"g{i // 10}" for i in range(300)]):
        (score, _) = ProbeProtocol.of(table(classes, split=split, group=group), (0,), 400).scores(
            "x", "linear", [warning]
        )
        assert score.mean == pytest.approx(2 / 3)
        width.append(score.high - score.low)
    assert width[1] > 2 * width[0]  # sqrt(10) times, if there were no end to the groups


def test_copies_groups_and_names_on_both_sides_are_reported_with_numbers(table: Table, clouds: Clouds) -> None:
    classes = [i % 2 for i in range(80)]
    vectors = clouds(classes, 2.0)
    split = ["train" if i < 40 else "test" for i in range(80)]
    labels = table(classes, split=split)
    content = [str(i if i < 76 else i - 60) for i in range(80)]  # the last four are bytes of training clips
    assert (
        probe_embeddings({"x": vectors}, labels, LINEAR, content=content)
        .warnings[0]
        .startswith("4 of 40 test clips (on the 36 others balanced accuracy of")
    )
    statistics = np.random.default_rng(0).standard_normal((80, 10))
    statistics[41] = statistics[3] * (1 + 1e-5)
    (warning,) = probe_embeddings({"x": vectors}, labels, LINEAR, statistics=statistics).warnings
    assert warning.startswith("1 of 40") and "same log-mel statistics" in warning
    grouped = replace(labels, group=[f"g{i % 45}" for i in range(80)])
    assert "35 of 40 test clips" in probe_embeddings({"x": vectors}, grouped, LINEAR).warnings[0]
    named = replace(labels, paths=[Path(f"kit/snare-{i}.wav") for i in range(80)])
    assert "40 of 40 test clips have names" in probe_embeddings({"x": vectors}, named, LINEAR).warnings[0]
    assert not probe_embeddings({"x": vectors}, labels, LINEAR, content=[str(i) for i in range(80)]).warnings


@pytest.mark.parametrize(
    ("copied", "message"),
    [
        (
            lambda clip, kind: clip < 79,
            "39 of 40 test clips (there are too few other clips for a score without them) are",
        ),
        (
            lambda clip, kind: kind == 1,
            "20 of 40 test clips (the 20 others lack 1 of the tested classes, so there is no score",
        ),
        (lambda clip, kind: True, "40 of 40 test clips are from"),
    ],
)
def test_too_little_without_the_copies_gives_no_score(
    table: Table, clouds: Clouds, copied: Callable[[int, int], bool], message: str
) -> None:
    classes = [i % 2 for i in range(80)]
    labels = table(classes, split=["train" if i < 40 else "test" for i in range(80)])
    content = [str(clip - 40 if clip >= 40 and copied(clip, kind) else clip) for clip, kind in enumerate(classes)]
    assert (
        probe_embeddings({"x": clouds(classes, 2.0)}, labels, LINEAR, content=content).warnings[0].startswith(message)
    )


def test_classes_say_where_it_fails(table: Table, clouds: Clouds) -> None:
    classes = [i % 3 for i in range(300)]
    vectors = clouds([min(k, 1) for k in classes], 5.0)  # the last two are one to the embedding
    report = probe_embeddings({"x": vectors}, table(classes, split=["train"] * 150 + ["test"] * 150), LINEAR)
    first, second, third = report.per_class
    assert first.f1 > 0.95 and second.f1 < 0.7 and third.f1 < 0.7
    assert np.array(report.confusion).sum() == 150 and report.confusion[1][2] + report.confusion[2][1] > 20
    assert first.recall == report.confusion[0][0] / first.clips
    assert len(report.answers) == 150 and report.answers[0].true == "class0"


def test_the_gate_hears_the_layer_that_knows(table: Table, clouds: Clouds) -> None:
    classes = [i % 3 for i in range(240)]
    rng = np.random.default_rng(0)
    layers = rng.standard_normal((240, 4, 6))
    layers[:, 2] = clouds(classes, 1.2, dimensions=6)
    target = np.eye(3, dtype=np.int64)[classes]
    answer, weight = scalar_mix(layers[:160], target[:160], layers[160:], 0.3, multilabel=False)
    assert weight.sum() == pytest.approx(1) and weight.argmax() == 2 and weight[2] > 0.8
    assert (answer.argmax(axis=1) == classes[160:]).mean() > 0.7
    report = probe_embeddings(
        {"x": layers[:, 3]}, table(classes, split=["train"] * 160 + ["test"] * 80), LINEAR, inner=InnerOutputs(layers)
    )
    assert max(report.layers, key=lambda row: row.mean).layer == 3 and report.layers[2].weight > 0.8
    assert {score.embedding for score in report.scores} == {"x", LAYER_MIX}


def test_clips_of_one_class_teach_to_say_several_where_the_table_has_several(table: Table) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((300, 3))
    target = x > 0
    split = ["train" if row.sum() == 1 else "test" for row in target]
    several = np.flatnonzero(target.sum(axis=1) > 1)
    labels = replace(
        table([0, 1, 2] * 100, split=split), target=ClassSets.from_dense(target.astype(np.int64)), multilabel=True
    )
    for head in ("linear", "mlp"):
        report = probe_embeddings(
            {"x": x},
            labels,
            ProbeConfig(seeds=(0,), heads=(head,), C=1.0, n_resamples=20, curve=False),
            inner=InnerOutputs(x[:, None]),
        )
        message = {answer.clip: answer.predicted for answer in report.answers}
        assert sum("|" in message[clip] for clip in several) > 5, head  # a softmax never gives two classes a half


def test_validation_clips_choose_and_teach_nothing(table: Table, clouds: Clouds) -> None:
    classes = [i % 2 for i in range(120)]
    labels = table(classes, split=["train"] * 60 + ["valid"] * 30 + ["test"] * 30)
    (part,) = ProbeProtocol.of(labels, (0,), 10).runs[0]
    assert part.train.tolist() == list(range(60)) and part.valid.tolist() == list(range(60, 90))
    ((fit, held),) = part.inner_splits
    assert fit.tolist() == list(range(60)) and held.tolist() == list(range(60, 90))
    vectors = clouds(classes, 1.0)
    wild = vectors.copy()
    wild[60:90] = 50 * np.random.default_rng(0).standard_normal((30, 8))
    how = ProbeConfig(seeds=(0,), heads=("knn", "linear"), C=0.03, n_resamples=20)
    assert probe_embeddings({"x": vectors}, labels, how) == probe_embeddings({"x": wild}, labels, how)
    copied = [str(i if i < 119 else 70) for i in range(120)]  # a tested clip is a validation clip
    assert (
        probe_embeddings({"x": vectors}, labels, how, content=copied).warnings
        == probe_embeddings({"x": vectors}, labels, how).warnings
    )
    assert probe_embeddings({"x": vectors}, labels, how).curve[-1].clips == 60


def test_a_share_of_the_clips_chooses_by_itself(table: Table, clouds: Clouds) -> None:
    classes = [i % 4 for i in range(200)]
    exam = ProbeProtocol.of(table(classes, split=["train"] * 160 + ["test"] * 40), (0,), 10)
    (whole,) = exam.runs[0]
    part = exam.part(whole, whole.train[draw_subset(exam.labels.target.take(whole.train), 0.1, 0)])
    few = set(part.train.tolist())
    assert len(few) == 16 and all(few == {*fit.tolist(), *held.tolist()} for fit, held in part.inner_splits)
    vectors = clouds(classes, 1.0)
    heads, wild = LinearHeads(exam, {"x": [vectors]}), vectors.copy()
    wild[sorted(set(range(160)) - few)] = 0
    other = LinearHeads(exam, {"x": [wild]})
    np.testing.assert_array_equal(heads.answers("x", [[part]])[0], other.answers("x", [[part]])[0])


def test_held_clips_without_any_class_choose_nothing(table: Table) -> None:
    rows = [[0], [1], [0, 1], []] * 10 + [[]] * 10 + [[0], [1]] * 5
    labels = table(rows, split=["train"] * 40 + ["valid"] * 10 + ["test"] * 10)  # type: ignore[arg-type]
    assert not ProbeProtocol.of(labels, (0,), 10).runs[0][0].inner_splits


@pytest.mark.parametrize("clips", [2, 3, 5, 40])
def test_a_map_of_any_size_has_a_place_for_every_clip(clips: int) -> None:
    place = draw_map(np.random.default_rng(0).standard_normal((clips, 6)), seed=0)
    assert place.pca.shape == place.tsne.shape == (clips, 2) and np.isfinite(place.tsne).all()


def test_a_map_of_equal_clips_is_one_point() -> None:
    assert not draw_map(np.ones((12, 4)), seed=0).tsne.any()


def test_one_tested_group_has_no_interval_and_no_verdict(table: Table, clouds: Clouds) -> None:
    classes = [i % 2 for i in range(120)]
    split = ["train" if i < 60 else "test" for i in range(120)]
    labels = table(classes, split=split, group=[f"g{i}" if i < 60 else "recording" for i in range(120)])
    vectors = clouds(classes, 0.7)
    report = probe_embeddings({"model": vectors, "noise": clouds(classes, 0.0)}, labels, replace(LINEAR, curve=True))
    assert {(score.low, score.high) for score in report.scores} == {(None, None)}
    difference = report.differences[0]
    assert difference.mean > 0 and difference.low is None and difference.verdict == "not tested"
    text = report.table()
    assert "the difference of the model and noise is not tested" in text and "better" not in text
    assert "95 % interval not known" in text and "nan" not in text
    assert "only one group was tested, so no confidence interval can be computed" in text
    texts = [text.get_text() for text in probe_figures.scores(report).axes[0].texts]
    assert f"{report.scores[0].mean:.3f}" in texts


def test_tested_clips_without_any_label_are_refused(table: Table) -> None:
    classes: list[list[int]] = [[0], [1], [0, 1], [], [], []]
    labels = table(classes, split=["train"] * 3 + ["test"] * 3)
    with pytest.raises(DataError, match="none of the 3 tested clips has a label"):
        ProbeProtocol.of(labels, (0,), 10)


def test_few_groups_make_few_folds_and_one_is_refused(table: Table) -> None:
    classes = [i % 2 for i in range(20)]
    exam = ProbeProtocol.of(table(classes, group=[f"g{i // 7}" for i in range(20)]), (0,), 10)
    assert len(exam.runs[0]) == 3 and exam.test_indices.tolist() == list(range(20))
    with pytest.raises(DataError, match="all 20 clips belong to the group 'g'"):
        ProbeProtocol.of(table(classes, group=["g"] * 20), (0,), 10)


def test_clips_without_a_group_are_groups_of_their_own(table: Table) -> None:
    exam = ProbeProtocol.of(table([i % 2 for i in range(20)], group=["a", "a", *[""] * 18]), (0,), 10)
    assert len(exam.runs[0]) == 5 and max(len(part.test) for part in exam.runs[0]) <= 6


def test_the_seed_of_each_run_draws_its_share_of_the_clips(table: Callable[..., Labels]) -> None:
    exam, seen = (
        ProbeProtocol.of(table([i % 2 for i in range(40)], fold="01" * 10 + "10" * 10), (5, 9), 10),
        list[Any](),
    )
    answers = [np.eye(2)[exam.labels.index]] * 2

    class Heads(LinearHeads):
        def answers(self, name: str, few: Any = None) -> list[np.ndarray]:
            seen.append(few)
            return answers

    learning_curve(Heads(exam, {"x": []}, None), {"x": answers}, FinishedHeads(None, exam))
    for run, seed in enumerate((5, 9)):
        for part, few in zip(exam.runs[run], seen[0][run], strict=True):
            assert (
                few.train.tolist()
                == part.train[draw_subset(exam.labels.target.take(part.train), FRACTIONS[0], seed)].tolist()
            )
