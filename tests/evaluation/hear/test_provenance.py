"""What embeddings were made from: rows meet their own labels, and changed or missing files are noticed before anything
is lost.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from tests.evaluation.made import RATE, Levels, make_task

from unheard.errors import AudioError, DataError
from unheard.evaluation.encoders.choose import PrecomputedEmbeddings
from unheard.evaluation.hear import suite
from unheard.evaluation.hear.embeddings import embed_task
from unheard.evaluation.hear.rows import read_splits
from unheard.evaluation.hear.suite import EvaluationConfig
from unheard.evaluation.hear.task_folder import read_task
from unheard.evaluation.report import Report
from unheard.files import file_checksums, read_json, write_json
from unheard.teachers.hear_module import HearEncoder


@pytest.fixture
def task(tmp_path: Path) -> Path:
    return make_task(tmp_path / "tasks" / "noise-v1")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def score(task: Path, out: Path, levels: Levels | None = None, **how: Any) -> Report:
    """Evaluate the one model `Levels`."""
    levels = levels or Levels()
    return suite.evaluate([HearEncoder("levels", levels, levels, "levels")], [task], out, **how)


def changed(path: Path, change: Any) -> None:
    path.write_text(json.dumps(change(json.loads(path.read_text()))))


def backwards(labels: dict[str, Any]) -> dict[str, Any]:
    return dict(reversed(labels.items()))


def swapped(labels: dict[str, Any]) -> dict[str, Any]:
    return {name: ["soft" if label == ["loud"] else "loud"] for name, label in labels.items()}


def silence(path: Path) -> None:
    soundfile.write(path, np.zeros(RATE // 2), RATE)


def stops_at(split: str, batch: int) -> Any:
    """A track that is interrupted in a batch of a split."""

    def track(items: Any, total: int, description: str) -> Iterator[Any]:
        for index, item in enumerate(items):
            if split in description and index == batch:
                raise KeyboardInterrupt
            yield item

    return track


def test_rows_lie_in_the_order_of_the_labels(task: Path, out: Path) -> None:
    first = score(task, out)
    stored = out / "embeddings" / "levels"
    changed(task / "test.json", backwards)
    changed(task / "task_metadata.json", lambda content: content | {"splits": ["test", "valid", "train"]})
    again = suite.evaluate([PrecomputedEmbeddings(stored)], [task], out / "again")
    assert [result.scores for result in again.results] == [first.results[0].scores]
    rows = read_splits(stored / "noise-v1", read_task(task))["test"]
    assert rows.y.argmax(dim=1).tolist() == (rows.x[:, 0] < 0.05).long().tolist()


def test_the_same_names_are_drawn_whatever_their_order(task: Path, out: Path) -> None:
    wrong = {
        "test0.wav": ["loud"],
        "test3.wav": ["soft"],
        "test8.wav": ["loud"],
    }  # so that it matters which files are drawn
    changed(task / "test.json", lambda labels: labels | wrong)
    first = score(task, out)
    changed(task / "test.json", backwards)
    again = suite.evaluate([PrecomputedEmbeddings(out / "embeddings" / "levels")], [task], out / "again")
    assert len(set(first.results[0].replicates)) > 3 and again.results[0].replicates == first.results[0].replicates


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (swapped, "test.json differ in the labels of test0.wav"),
        (
            lambda labels: {name: label for name, label in labels.items() if name != "test5.wav"},
            "test.json differ in the labels of test5.wav",
        ),
        (lambda labels: labels | {"other.wav": ["loud"]}, "test.json differ in the labels of other.wav"),
    ],
)
def test_rows_of_other_labels_are_refused(task: Path, out: Path, change: Any, message: str) -> None:
    score(task, out)
    changed(task / "test.json", change)
    failed = suite.evaluate([PrecomputedEmbeddings(out / "embeddings" / "levels")], [task], out / "again").failed
    assert len(failed) == 1 and message in failed[0][2]


def test_a_missing_file_is_reported_and_nothing_is_lost(task: Path, out: Path) -> None:
    first, audio, levels = score(task, out), task / "16000" / "test" / "test3.wav", Levels()
    before = sorted(out.rglob("*"))
    audio.rename(task / "elsewhere.wav")
    assert "test3.wav is missing" in score(task, out, levels).failed[0][2]
    assert sorted(out.rglob("*")) == before
    (task / "elsewhere.wav").rename(audio)
    assert score(task, out, levels) == first and not levels.calls
    fresh = Levels()
    audio.unlink()
    assert "test3.wav is missing" in score(task, out.with_name("other"), fresh).failed[0][2]
    assert not fresh.calls  # the error comes before any embedding


def test_old_embeddings_stay_until_the_new_ones_are_complete(task: Path, out: Path) -> None:
    first = score(task, out)
    silence(task / "16000" / "test" / "test3.wav")
    for _ in range(2):
        before = sorted((out / "embeddings").rglob("*")), sorted((out / "scores").rglob("*"))
        with pytest.raises(KeyboardInterrupt):
            score(task, out, track=stops_at("valid", 0))
        assert (sorted((out / "embeddings").rglob("*")), sorted((out / "scores").rglob("*"))) == before
    levels = Levels()
    silence(task / "16000" / "train" / "train5.wav")  # once more, while the new ones are under way
    again = score(task, out, levels)
    assert levels.calls == 3 and again.results[0].scores != first.results[0].scores
    assert score(task, out, levels) == again and levels.calls == 3
    assert not [path for path in (out / "fits").rglob("*") if path.is_file()]


def test_scores_are_of_the_labels_they_were_made_with(task: Path, out: Path) -> None:
    first = score(task, out)
    shutil.rmtree(out / "embeddings")
    changed(task / "test.json", swapped)
    assert score(task, out).results[0].value == pytest.approx(1 - first.results[0].value)
    again = score(task, out)
    shutil.rmtree(out / "embeddings")
    for index in range(0, 12, 2):
        silence(task / "16000" / "test" / f"test{index + 1}.wav")
    assert score(task, out).results[0].scores != again.results[0].scores


def test_audio_that_changes_in_a_pause_is_embedded_again(tmp_path: Path) -> None:
    folder, levels = make_task(tmp_path / "noise-v1", clips=400), Levels()
    encoder = HearEncoder("levels", levels, levels, "levels")
    with pytest.raises(KeyboardInterrupt):
        embed_task(read_task(folder), encoder, tmp_path / "out", stops_at("train", 2))
    silence(folder / "16000" / "train" / "train1.wav")
    embed_task(read_task(folder), encoder, tmp_path / "out")
    rows = read_splits(tmp_path / "out", read_task(folder))["train"]
    assert int((rows.x[:, 0] == 0).sum()) == 1


def test_torn_files_count_as_absent(task: Path, out: Path) -> None:
    first, levels = score(task, out), Levels()
    kept = out / "scores" / "heareval" / "levels" / "noise-v1.json"
    for torn in ("", "{", "[]", "{}", '{"stamp": 1}', kept.read_text()[:200]):
        kept.write_text(torn)
        assert score(task, out, levels) == first
    (out / "embeddings" / "levels" / "noise-v1" / "embedded-by.json").write_text("")
    assert (
        score(task, out, levels) == first and levels.calls == 3
    )  # what embedded them is not known any more: embedded again


def reseal(folder: Path) -> None:
    """Store the checksums of embeddings that a test changed."""
    names = read_json(folder / "checksums.json")["files"]
    write_json(folder / "checksums.json", {"files": file_checksums(folder, names)})


def test_sizes_that_are_none_are_named(task: Path, out: Path) -> None:
    score(task, out)
    shutil.rmtree(out / "scores")
    (out / "embeddings" / "levels" / "noise-v1" / "valid.embedding-dimensions.json").write_text("5")
    reseal(out / "embeddings" / "levels" / "noise-v1")
    assert "holds no complete embeddings of noise-v1" in score(task, out).failed[0][2]


def test_a_sparse_tensor_is_named(task: Path, out: Path) -> None:
    levels = Levels()
    plain = levels.get_scene_embeddings
    levels.get_scene_embeddings = lambda audio, model: plain(audio, model).to_sparse()  # type: ignore[method-assign]
    with pytest.raises(DataError, match="sparse"):
        embed_task(read_task(task), HearEncoder("levels", levels, levels, "levels"), out)


def test_an_unexpected_error_is_reported_and_the_others_continue(
    task: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*given: Any) -> None:
        raise RecursionError("too\ndeep")

    other = make_task(task.parent / "other-v1")
    monkeypatch.setattr(suite, "bc_interval", broken)
    levels, messages = Levels(), list[str]()
    report = suite.evaluate([HearEncoder("levels", levels, levels, "levels")], [task, other], out, log=messages.append)
    message = "failed unexpectedly with RecursionError: too deep"
    assert report.failed == [("noise-v1", "levels", message), ("other-v1", "levels", message)]
    traces = [out / "failures" / "heareval" / f"{name}, levels.txt" for name in ("noise-v1", "other-v1")]
    assert messages == [f"{trace.stem} {message}; see {trace}" for trace in traces]
    assert all("in broken" in trace.read_text() for trace in traces)
    monkeypatch.setattr(suite, "bc_interval", lambda *given: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        score(task, out)


def test_tracebacks_are_of_code_and_go_when_it_works_again(task: Path, out: Path) -> None:
    levels, messages = Levels(), list[str]()
    plain, trace = levels.get_scene_embeddings, out / "failures" / "heareval" / "noise-v1, levels.txt"
    levels.get_scene_embeddings = lambda audio, model: {}["weights"]  # type: ignore[method-assign]
    score(task, out, levels, log=messages.append)
    assert (
        messages[-1].endswith(f"the model failed with KeyError: 'weights'; see {trace}")
        and '{}["weights"]' in trace.read_text()
    )
    levels.get_scene_embeddings = plain  # type: ignore[method-assign]
    assert not score(task, out, levels).failed and not trace.exists()
    (task / "test.json").write_text("{")
    score(task, out, levels, log=messages.append)
    assert "cannot be read as JSON" in messages[-1] and "; see " not in messages[-1] and not any(trace.parent.iterdir())


def test_a_traceback_that_cannot_be_kept_ends_nothing(task: Path, out: Path) -> None:
    other, levels, messages = make_task(task.parent / "other-v1"), Levels(), list[str]()
    levels.get_scene_embeddings = lambda audio, model: {}["weights"]  # type: ignore[method-assign]
    out.mkdir()
    (out / "failures").write_text("in the way")
    report = suite.evaluate([HearEncoder("a/b", levels, levels, "levels")], [task, other], out, log=messages.append)
    assert [(name, encoder) for name, encoder, _ in report.failed] == [("noise-v1", "a/b"), ("other-v1", "a/b")]
    assert "its traceback could not be written" in messages[-1]


def test_scores_of_an_earlier_version_are_reported_and_made_again(task: Path, out: Path) -> None:
    first, messages = score(task, out), list[str]()
    kept = out / "scores" / "heareval" / "levels" / "noise-v1.json"
    changed(
        kept,
        lambda content: (
            content | {"result": {name: value for name, value in content["result"].items() if name != "replicates"}}
        ),
    )
    assert score(task, out, log=messages.append) == first
    changed(kept, lambda content: content | {"result": content["result"] | {"replicates": [0.5]}})
    assert score(task, out, log=messages.append) == first
    assert len(messages) == 2 and all(
        "noise-v1: levels was scored" in line and "scoring it again" in line for line in messages
    )


def test_heareval_s_scores_know_no_seeds(task: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = score(task, out, plan=EvaluationConfig(seeds=3))
    monkeypatch.setattr(suite.heareval, "evaluate", None)
    assert score(task, out, plan=EvaluationConfig(seeds=5)) == first


def test_progress_names_the_encoder(task: Path, out: Path) -> None:
    content = list[str]()

    def track(items: Any, total: int, description: str) -> Iterator[Any]:
        content.append(description)
        yield from items

    score(task, out, track=track)
    assert content == [f"noise-v1, levels: {what}" for what in ("train", "valid", "test", "grid", "folds")]


def test_a_missing_file_is_an_error_of_audio(task: Path, out: Path) -> None:
    (task / "16000" / "valid" / "valid0.wav").unlink()
    levels = Levels()
    with pytest.raises(AudioError, match=r"valid0\.wav is missing"):
        embed_task(read_task(task), HearEncoder("levels", levels, levels, "levels"), out)
    assert torch.is_tensor(levels.get_scene_embeddings(torch.zeros(1, RATE), None))
