"""A classifier on labelled clips: its own table, another one, tables that do not fit; and as an encoder."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

import unheard
from unheard.cli import main
from unheard.errors import CheckpointError, ConfigError, DataError, UnheardError
from unheard.evaluation.encoders.choose import encoders
from unheard.files import read_json
from unheard.finetuning.ensemble import open_finetuned
from unheard.finetuning.scores import score_labelled
from unheard.metrics import accuracy
from unheard.view.finetuned import draw

QUICK = ["training.batch_size=8", "training.learning_rate=5e-3", "training.log_every=20", "augment.spec_mixup_prob=0"]


def table(file: Path, rows: list[tuple[object, ...]], header: str = "path,label") -> Path:
    file.write_text("\n".join([header, *(",".join([f"{row[0]}.wav", *map(str, row[1:])]) for row in rows)]) + "\n")
    return file


def read(file: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(file.read_text().splitlines()))


def test_a_table_of_other_clips_is_scored_in_the_words_of_the_model(run: Path, folder: Path, tmp_path: Path) -> None:
    scored = score_labelled(run, folder / "fresh.csv", tmp_path / "out")
    assert scored.metric == "balanced_accuracy" and scored.mean > 0.9 and not scored.notes and not scored.skipped
    assert [row["class"] for row in scored.classes] == ["a", "b", "c"] and [row["clips"] for row in scored.classes] == [
        4,
        0,
        4,
    ]
    predicted = open_finetuned(run).predict([folder / row["path"] for row in read(folder / "fresh.csv")])
    truth = np.array(["abc".index(row["label"]) for row in read(folder / "fresh.csv")])
    named = np.array(["abc".index(next(iter(scores))) for scores in predicted])
    assert scored.means["accuracy"] == accuracy(truth, named) and np.sum(scored.confusion) == 8
    for name, (low, high) in scored.intervals.items():
        assert low is not None and high is not None and low <= scored.means[name] <= high
    assert set(scored.intervals) == {"balanced_accuracy", "accuracy"} and scored.intervals[scored.metric] == (
        scored.low,
        scored.high,
    )


def test_what_is_written_says_the_same(run: Path, folder: Path, tmp_path: Path) -> None:
    scored = score_labelled(run, folder / "fresh.csv", tmp_path / "out")
    stored = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert stored["means"] == scored.means and stored["confusion"] == scored.confusion
    counts = [[int(row[f"predicted {name}"]) for name in "abc"] for row in read(tmp_path / "out" / "confusion.csv")]
    assert counts == scored.confusion
    (first, *_, last) = read(tmp_path / "out" / "classes.csv")
    assert (
        float(first["recall low"]) < float(first["recall"]) <= float(first["recall high"]) + 1e-9
        and last["class"] == "c"
    )
    assert [row["score"] for row in read(tmp_path / "out" / "scores.csv")] == ["balanced_accuracy", "accuracy"]
    assert {Path(row["path"]).name for row in read(tmp_path / "out" / "predictions.csv")} == {
        row["path"] for row in read(folder / "fresh.csv")
    }
    with pytest.raises(ConfigError, match="exists"):
        score_labelled(run, folder / "fresh.csv", tmp_path / "out")
    score_labelled(run, folder / "fresh.csv", tmp_path / "out", overwrite=True)


def test_intervals_draw_whole_groups_where_the_table_has_them(run: Path, folder: Path, tmp_path: Path) -> None:
    rows = [(i, "abc"[(i + i // 12 % 2) % 3]) for i in range(30)]  # clips 12 to 23, one group, are labelled wrongly
    alone = score_labelled(run, table(folder / "alone.csv", rows), tmp_path / "alone")
    rows = [(*row, f"take{row[0] // 12}") for row in rows]
    grouped = score_labelled(run, table(folder / "takes.csv", rows, "path,label,group"), tmp_path / "grouped")
    assert grouped.means == alone.means and (alone.resample, grouped.resample) == ("clips", "groups")
    widths = [np.ptp(np.array(scored.intervals["accuracy"], float)) for scored in (alone, grouped)]
    assert widths[1] > 1.5 * widths[0]


def test_only_the_split_test_is_scored_where_there_is_one(run: Path, folder: Path, tmp_path: Path) -> None:
    file = table(
        folder / "split.csv", [(i, "abc"[i % 3], "test" if i > 23 else "train") for i in range(30)], "path,label,split"
    )
    assert score_labelled(run, file, tmp_path / "out").parts[0]["clips"] == 6
    file = table(folder / "nothing.csv", [(i, "abc"[i % 3], "train") for i in range(30)], "path,label,split")
    with pytest.raises(DataError, match="without the value test"):
        score_labelled(run, file, tmp_path / "other")


def test_folds_hear_only_what_they_never_saw(folds: Path, folder: Path, tmp_path: Path) -> None:
    scored = score_labelled(folds, folder / "folds.csv", tmp_path / "own")
    kept = json.loads((folds / "scores.json").read_text())
    assert scored.means == kept["means"] and [part["part"] for part in scored.parts] == ["fold-0", "fold-1"]
    other = score_labelled(folds, folder / "fresh.csv", tmp_path / "other")
    assert len(other.parts) == 1 and not other.notes


def test_a_table_that_changed_since_is_no_test_of_the_run(folder: Path, tmp_path: Path) -> None:
    file = table(folder / "moving.csv", [(i, "abc"[i % 3]) for i in range(15)])
    settings = [*QUICK, "training.steps=1"]
    moved = unheard.finetune(folder / "model", file, tmp_path / "run", settings=settings, device="cpu")
    table(file, [(i, "abc"[i % 3]) for i in range(18)])
    with pytest.raises(DataError, match="has changed since"):
        moved.evaluate(file, tmp_path / "out")
    (note,) = moved.evaluate(folder / "fresh.csv", tmp_path / "out").notes
    assert "could not check" in note


@pytest.mark.parametrize("column", ["label", "end"])
def test_names_of_classes_and_ends_of_clips_belong_to_the_table(folder: Path, tmp_path: Path, column: str) -> None:
    rows = [(i, "abc"[i % 3], 0.2) for i in range(15)]
    file = table(tmp_path / "labels.csv", rows, "path,label,end")
    for row in rows:
        (tmp_path / f"{row[0]}.wav").write_bytes((folder / f"{row[0]}.wav").read_bytes())
    settings = [*QUICK, "training.steps=1"]
    moved = unheard.finetune(folder / "model", file, tmp_path / "run", settings=settings, device="cpu")
    table(
        file, [(i, f"{name}a", end) if column == "label" else (i, name, 0.1) for i, name, end in rows], "path,label,end"
    )
    with pytest.raises(DataError, match="has changed since"):
        moved.evaluate(file, tmp_path / "out")


@pytest.mark.parametrize(
    ("rows", "header", "hint"),
    [
        ([(0, "a"), (1, "dog")], "path,label", "labels that are not classes of the model, the first 'dog'"),
        ([(0, "a|b"), (1, "b")], "path,label", "row 2 has 2 labels, but this model predicts one"),
        ([(0, "a"), (1, "b")], "path,class", "lacks the column label"),
        ([(0, "a"), (99, "b")], "path,label", "do not exist, the first 99.wav"),
        ([(0, ""), (1, "")], "path,label", "has 0 class"),
    ],
)
def test_tables_that_do_not_fit_are_named(
    run: Path, folder: Path, tmp_path: Path, rows: list[tuple[object, ...]], header: str, hint: str
) -> None:
    with pytest.raises(DataError, match=hint):
        score_labelled(run, table(folder / "wrong.csv", rows, header), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_table_of_one_class_is_scored_by_what_needs_no_other(run: Path, folder: Path, tmp_path: Path) -> None:
    scored = score_labelled(
        run,
        table(folder / "alike.csv", [(i, "b", 0.1, "") for i in range(19, 30, 3)], "path,label,start,end"),
        tmp_path / "out",
    )
    assert (
        scored.metric == "accuracy"
        and set(scored.means) == {"accuracy", "loss"}
        and set(scored.intervals) == {"accuracy"}
    )
    assert scored.mean == scored.classes[1]["recall"] and np.sum(scored.confusion) == 4
    assert "all clips have the same class, b" in scored.notes[0]
    assert [(row["start"], "end" in row) for row in read(tmp_path / "out" / "predictions.csv")] == [("0.1", False)] * 4


def test_files_that_cannot_be_read_are_left_out_and_reported(run: Path, folder: Path, tmp_path: Path) -> None:
    (folder / "98.wav").write_bytes(b"no sound")
    soundfile.write(folder / "97.wav", np.zeros(0), 16000)
    file = table(folder / "bad.csv", [(18, "a"), (19, "b"), (97, "a"), (98, "b")])
    scored = score_labelled(run, file, tmp_path / "out")
    assert scored.parts[0]["clips"] == 2 and len(scored.skipped) == 2 and "98.wav" in "".join(scored.skipped)
    with pytest.raises(DataError, match="none of the 2 test clips"):
        score_labelled(run, table(folder / "worse.csv", [(97, "a"), (98, "b")]), tmp_path / "other")


def test_a_model_without_classes_or_without_clips_to_test_says_so(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no classifier"):
        score_labelled(folder / "model", folder / "fresh.csv", tmp_path / "out")
    file = table(folder / "all.csv", [(i, "abc"[i % 3], "train") for i in range(12)], "path,label,split")
    settings = [*QUICK, "training.steps=1"]
    whole = unheard.finetune(folder / "model", file, tmp_path / "run", settings=settings, device="cpu")
    with pytest.raises(DataError, match="has no test clips"):
        whole.evaluate(file, tmp_path / "out")
    assert whole.evaluate(folder / "fresh.csv", tmp_path / "out").parts[0]["clips"] == 8


def test_on_the_command_line(run: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["evaluate", str(run), str(folder / "fresh.csv"), "-o", str(tmp_path / "out"), "--device", "cpu"]
    assert main([*command, "--json"]) == 0
    stored = read_json(tmp_path / "out" / "scores.json")
    assert set(stored.pop("files")) >= {"scores.csv", "classes.csv", "predictions.csv"}
    assert json.loads(capsys.readouterr().out) == stored
    assert (tmp_path / "out" / "figures" / "confusion.png").stat().st_size > 1000
    assert main([*command, "--overwrite"]) == 0
    assert "95 % interval" in capsys.readouterr().out
    assert (
        main([*command, "--overwrite", "--mode", "robust"]) == 2 and "need a folder of tasks" in capsys.readouterr().err
    )


def test_a_figure_of_an_earlier_table_does_not_stay(run: Path, folder: Path, tmp_path: Path) -> None:
    table(tmp_path / "own.csv", [(folder / "1", "b"), (folder / "2", "c")])
    scored = score_labelled(run, tmp_path / "own.csv", tmp_path / "out")
    draw(scored, tmp_path / "out", print)
    assert (tmp_path / "out" / "figures" / "confusion.png").is_file()
    draw(replace(scored, confusion=[]), tmp_path / "out", print)
    assert not (tmp_path / "out" / "figures" / "confusion.png").exists()


def test_a_run_of_several_models_names_them_where_one_is_wanted(folds: Path) -> None:
    with pytest.raises(CheckpointError, match=r"2 models \(fold-0, fold-1\).*unheard predict"):
        unheard.load(folds)
    assert unheard.load(folds / "members" / "fold-0").labels == ("a", "b", "c")
    assert len(open_finetuned(folds).members) == 2


def test_a_fine_tuned_run_is_an_encoder_like_any_other(run: Path, folds: Path) -> None:
    wav = 0.1 * torch.randn(2, 16000, generator=torch.Generator().manual_seed(0))
    tuned, blank, _ = encoders(str(run))
    assert tuned.name == "run" and tuned.scenes(wav).shape == (2, 24 * 5)
    assert not torch.allclose(tuned.scenes(wav), blank.scenes(wav))
    assert torch.allclose(
        tuned.scenes(wav)[0], torch.from_numpy(unheard.load(run).embed((wav[0].numpy(), 16000)).scene), atol=1e-4
    )
    with pytest.raises(UnheardError, match="otherwise give one of them"):
        encoders(str(folds))
