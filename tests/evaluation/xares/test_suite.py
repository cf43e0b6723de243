"""An evaluation in the protocol of X-ARES: what padding and batches do, what is stored, and what fails."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.evaluation.xares.made_xares import Bands, cremad, members, tone, write_tar

from unheard.errors import ConfigError, DataError
from unheard.evaluation.report import Report
from unheard.evaluation.xares.embeddings import Embedding, embed_split
from unheard.evaluation.xares.suite import XaresConfig, evaluate, hop_of
from unheard.evaluation.xares.tables import evaluation_table
from unheard.evaluation.xares.tasks import OWN_TASK, choose_tasks, public_tasks


@pytest.fixture(scope="module")
def env(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("env")
    cremad(root)
    return root


def run(env: Path, out: Path, *encoders: Bands, exact: bool = False) -> Report:
    tasks, _ = choose_tasks(env)
    return evaluate(encoders or [Bands()], tasks, out, XaresConfig(exact))  # type: ignore[arg-type]


def test_clips_are_padded_to_their_batch_unless_exact(env: Path, tmp_path: Path) -> None:
    task, folder = public_tasks()["cremad"], env / "cremad"
    padded, exact = Bands(), Bands()
    of_batches = embed_split(task, folder, "wds-audio-test", Embedding(padded, False, tmp_path / "a"))  # type: ignore[arg-type]
    alone = embed_split(task, folder, "wds-audio-test", Embedding(exact, True, tmp_path / "b"))  # type: ignore[arg-type]
    assert padded.calls == [(12, 1300)] and {length for _, length in exact.calls} == {1000, 1100, 1200, 1300}
    assert set(of_batches.frames) == {6} and set(alone.frames) == {5, 6}
    longest = of_batches.frames == alone.frames
    assert not np.allclose(of_batches.vectors[:3], alone.vectors[:3])
    assert longest.any() and of_batches.keys[0] == "test_0000" and of_batches.clips[0] == "test_000"


def test_crops_of_one_batch_keep_the_first_unless_exact(tmp_path: Path) -> None:
    task = public_tasks()["librispeechmalefemale"]
    samples = {f"k{i}": (tone(200, 16.0, i), {"gender": "MF"[i % 2]}) for i in range(7)}  # three crops of 5 s each
    write_tar(tmp_path / "train-clean-100_0.tar", members(samples))
    kept = embed_split(task, tmp_path, "train-clean-100", Embedding(Bands(), False, tmp_path / "a"))  # type: ignore[arg-type]
    every = embed_split(task, tmp_path, "train-clean-100", Embedding(Bands(), True, tmp_path / "b"))  # type: ignore[arg-type]
    assert kept.written == every.written == 21 and len(every.keys) == 21
    assert kept.keys == ["k00", "k10", "k20", "k30", "k40", "k50", "k51", "k61"]  # k5 crosses the border of a batch


def test_results_are_stored_and_used_again(env: Path, tmp_path: Path) -> None:
    first = run(env, tmp_path)
    again = Bands()
    assert run(env, tmp_path, again).results == first.results and not again.calls
    (result,) = first.results
    assert result.mode == "xares" and set(result.scores) == {"accuracy", "knn", "knn_rows"}
    assert result.low <= result.value <= result.high and result.scores["knn_rows"] > 0.9
    other = Bands()
    other.identity = "other weights"
    run(env, tmp_path, other)
    assert other.calls


def test_an_interrupted_split_continues(env: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unheard.evaluation.xares.embeddings.PART", 1)
    task, whole, broken = public_tasks()["cremad"], Bands(), Bands()
    how = Embedding(whole, False, tmp_path / "whole")  # type: ignore[arg-type]
    expected = embed_split(task, env / "cremad", "wds-audio-train", how)
    assert len(whole.calls) == 2

    def fail(audio: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if broken.calls:
            raise KeyboardInterrupt
        return Bands.timestamps(broken, audio)

    broken.timestamps = fail  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        embed_split(task, env / "cremad", "wds-audio-train", Embedding(broken, False, tmp_path / "out"))  # type: ignore[arg-type]
    rest = Bands()
    found = embed_split(task, env / "cremad", "wds-audio-train", Embedding(rest, False, tmp_path / "out"))  # type: ignore[arg-type]
    assert len(rest.calls) == 1 and np.array_equal(found.vectors, expected.vectors) and found.keys == expected.keys


def test_changed_shards_are_embedded_again(tmp_path: Path) -> None:
    folder, out = cremad(tmp_path / "env"), tmp_path / "out"
    before = run(folder.parent, out).results[0]
    samples = {f"test_{k}": (tone(150 * (1 + k % 3), 0.5, k), {"label": "HSA"[(k + 1) % 3]}) for k in range(12)}
    write_tar(folder / "wds-audio-test-000000.tar", members(samples))
    after = run(folder.parent, out).results[0]
    assert before.scores["knn_rows"] > 0.9 > after.scores["knn_rows"]
    assert before.protocol["clips"] != after.protocol["clips"] and before.protocol["seeds"] == after.protocol["seeds"]
    assert run(folder.parent, out).results[0].protocol == after.protocol


@pytest.mark.parametrize("exact", [False, True])
def test_the_table_has_published_scores_only_where_they_compare(env: Path, tmp_path: Path, exact: bool) -> None:
    report = run(env, tmp_path, Bands(), Bands("second"), exact=exact)
    table = evaluation_table(report, [task for _, task in choose_tasks(env)[0]], exact)
    assert table.header[:4] == ["task", "score", "bands", "second"] and ("dasheng (published)" in table.header) != exact
    rows = {(row[0], row[1]): row[2:] for row in table.rows}
    assert rows["CREMA-D", "MLP accuracy"][2:] == ([] if exact else ["0.767", "0.541", "0.572", "0.523"])
    average = rows["weighted average over 1 public tasks, 2.9% of the weight", "MLP"]
    assert average[0] == f"{report.results[0].value:.3f}" and average[2:] == (
        [] if exact else ["0.767", "0.541", "0.572", "0.523"]
    )
    assert "over 1 of 22 public tasks (2.9% of the weight; left out: librispeech, asvspoof2015" in table.notes[-1]
    assert ("CREMA-D", "kNN, unit rows") in rows and (("CREMA-D", "kNN") in rows) != exact


def test_a_task_that_fails_leaves_the_others(env: Path, tmp_path: Path) -> None:
    cremad(tmp_path / "env")
    folder = tmp_path / "env" / "vocalsound"
    for split in ("train", "valid", "test"):
        write_tar(folder / f"{split}_0.tar", members({"a": (tone(200, 0.5), {"label": "yawn"})}))
    messages: list[str] = []
    tasks, _ = choose_tasks(tmp_path / "env")
    report = evaluate([Bands()], tasks, tmp_path / "out", log=messages.append)  # type: ignore[list-item]
    assert [result.task for result in report.results] == ["cremad"]
    ((task, encoder, text),) = report.failed
    assert (task, encoder) == ("vocalsound", "bands") and "a has the unknown label 'yawn'" in text
    assert any("vocalsound, bands failed" in message for message in messages)


def test_samples_without_json_are_counted_and_named(tmp_path: Path) -> None:
    folder = cremad(tmp_path / "env")
    parts = members({f"test_{k}": (tone(150 * (1 + k % 3), 0.5, k), {"label": "HSA"[k % 3]}) for k in range(12)})
    write_tar(folder / "wds-audio-test-000000.tar", [*parts[:-1], ("alone.wav", parts[0][1])])
    report = run(folder.parent, tmp_path / "out")
    (remark,) = report.remarks
    assert remark.startswith("cremad: 2 samples of wds-audio-test are left out: ") and "alone has no json" in remark
    assert run(folder.parent, tmp_path / "out").remarks == report.remarks  # also when the result is stored


class Growing(Bands):
    """An encoder whose vectors get wider."""

    def timestamps(self, audio: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        frames, times = super().timestamps(audio)
        return frames[..., : len(self.calls)], times


class Broken(Bands):
    """An encoder that returns NaN."""

    def timestamps(self, audio: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        frames, times = super().timestamps(audio)
        return frames * torch.nan, times


@pytest.mark.parametrize(("kind", "text"), [(Growing, "vectors of 1 and 2 dimensions"), (Broken, "not finite")])
def test_an_encoder_that_breaks_the_rules_is_one_line(env: Path, tmp_path: Path, kind: type[Bands], text: str) -> None:
    report = run(env, tmp_path, kind("odd"), Bands())
    assert [result.encoder for result in report.results] == ["bands"]
    assert [(encoder, text in message) for _, encoder, message in report.failed] == [("odd", True)]


def test_folders_that_are_no_task_are_named(env: Path, tmp_path: Path) -> None:
    for name in ("librispeech", "photos"):
        (tmp_path / name).mkdir()
    with pytest.raises(ConfigError, match="holds no task"):
        choose_tasks(tmp_path)
    cremad(tmp_path)
    tasks, remarks = choose_tasks(tmp_path)
    assert [task.name for _, task in tasks] == ["cremad"] and len(remarks) == 2 and "language model" in remarks[0]
    with pytest.raises(ConfigError, match="no task esc50"):
        choose_tasks(tmp_path, ["esc50"])


def test_a_task_of_ones_own_is_described_by_a_file(tmp_path: Path) -> None:
    folder = cremad(tmp_path).rename(tmp_path / "moods")
    values = {"weight": 45, "label": "label", "splits": [f"wds-audio-{each}" for each in ("train", "valid", "test")]}
    (folder / OWN_TASK).write_text(json.dumps({**values, "classes": ["H", "S", "A"]}))
    report = run(tmp_path, tmp_path / "out")
    table = evaluation_table(report, [task for _, task in choose_tasks(tmp_path)[0]])
    assert [row[0] for row in table.rows][-1] == "weighted average over 1 own tasks" and not table.notes
    (folder / OWN_TASK).write_text(json.dumps({**values, "classes": ["H"], "colour": "red"}))
    with pytest.raises(DataError, match="unknown fields colour"):
        choose_tasks(tmp_path)


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"splits": ["a", "b", "ab"]}, "the shards of 'ab' would also be those of 'a'"),
        ({"splits": (), "folds": ["fold1", "fold2", "fold10"]}, "shards of 'fold10' would also be those of 'fold1'"),
        ({"classes": ["H", "S", "H"]}, "classes, each once"),
        ({"kind": "frames"}, "the metric of the kind 'frames' is segmentf1_macro or segmentf1_micro"),
        ({"kind": "multi", "metric": "mAP"}, "set knn to false"),
        ({"weight": 0}, "weight is 0; it must be a whole number of at least 1"),
        ({"epochs": 0}, "epochs is 0; it must be a whole number of at least 1"),
    ],
)
def test_a_task_that_would_be_scored_wrongly_is_refused(fields: dict[str, object], text: str, tmp_path: Path) -> None:
    (folder := tmp_path / "moods").mkdir()
    values = {"weight": 1, "label": "label", "splits": ["a", "b", "b"], "classes": ["H", "S"]}
    (folder / OWN_TASK).write_text(json.dumps(values))
    assert [task.splits for _, task in choose_tasks(tmp_path)[0]] == [("a", "b", "b")]
    (folder / OWN_TASK).write_text(json.dumps({**values, **fields}))
    with pytest.raises(DataError, match=text):
        choose_tasks(tmp_path)


class Undeclared(Bands):
    """An encoder that declares no hop."""

    hop_ms = None  # type: ignore[assignment]

    def timestamps(self, audio: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.zeros(len(audio), 8, 4), torch.arange(8).expand(len(audio), -1) * 250.0


def test_the_hop_is_declared_or_measured() -> None:
    assert hop_of(Bands()) == 0.1 and hop_of(Undeclared()) == 0.25  # type: ignore[arg-type]
