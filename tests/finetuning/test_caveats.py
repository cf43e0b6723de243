"""Caveats of the scores of a classifier: clips or groups that trained it, and weights that one class chose."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import unheard
from unheard.cli import main
from unheard.data import leakage
from unheard.data.label_table import read_labels
from unheard.data.leakage import same_as_others, shared_content
from unheard.data.partitions import make_folds
from unheard.finetuning.scores import score_labelled

QUICK = ["training.batch_size=8", "training.learning_rate=5e-3", "training.log_every=20", "augment.spec_mixup_prob=0"]


def table(file: Path, rows: list[tuple[object, ...]], header: str = "path,label") -> Path:
    file.write_text("\n".join([header, *(",".join([f"{row[0]}.wav", *map(str, row[1:])]) for row in rows)]) + "\n")
    return file


def test_clips_that_trained_the_run_are_reported(run: Path, folder: Path, tmp_path: Path) -> None:
    (part,) = make_folds(read_labels(folder / "labels.csv"), 0, 0.0)
    file = table(folder / "mixed.csv", [(i, "abc"[i % 3]) for i in range(24)])
    (note,) = score_labelled(run, file, tmp_path / "out").notes
    assert note.startswith(f"{len(part.train)} of 24 clips")


def test_copies_of_clips_that_trained_the_run_are_reported(run: Path, folder: Path, tmp_path: Path) -> None:
    (part,) = make_folds(read_labels(folder / "labels.csv"), 0, 0.0)
    for i in range(24):
        (tmp_path / f"{i}.wav").write_bytes((folder / f"{i}.wav").read_bytes())
    file = table(tmp_path / "copied.csv", [(i, "abc"[i % 3]) for i in range(24)])
    (note,) = score_labelled(run, file, tmp_path / "out").notes
    assert note.startswith(f"{len(part.train)} of 24 clips") and "copies" in note


@pytest.fixture(scope="module")
def leaking(folder: Path) -> Path:
    """A run with a copy of a training clip and a part of a training group among its test clips."""
    (folder / "90.wav").write_bytes((folder / "0.wav").read_bytes())
    rows = [(i, "abc"[i % 3], "train", f"g{i % 9}") for i in range(18)]
    rows += [(i, "abc"[i % 3], "test", "g1" if i < 20 else f"h{i}") for i in range(18, 30)]
    file = table(folder / "leaking.csv", [*rows, (90, "a", "test", "h")], "path,label,split,group")
    settings = [*QUICK, "training.steps=2"]
    return unheard.finetune(folder / "model", file, folder / "leaking", settings=settings, device="cpu").folder


def test_files_of_a_size_of_their_own_have_no_copies(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("a", "b", "c", "d")]
    for file, content in zip(files, (b"one", b"two", b"one", b"longer"), strict=True):
        file.write_bytes(content)
    first, second, copy, alone = shared_content(files)
    assert first == copy != second and alone is None
    assert shared_content([files[3], files[3]])[0] is not None  # a file that is named twice is its own copy


def test_clips_and_groups_on_both_sides_of_a_split_are_reported(
    leaking: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    notes = json.loads((leaking / "scores.json").read_text())["notes"]
    (copy,) = [text for text in notes if "with the same bytes as training files" in text]
    (group,) = [text for text in notes if "group that is also used in training" in text]
    assert copy.startswith("1 of 13 test clips (without them balanced_accuracy is 0.") and group.startswith(
        "2 of 13 test clips"
    )
    assert main(["finetune", "--resume", str(leaking)]) == 0
    assert all(f"note       {text}" in capsys.readouterr().out for text in notes[:1])


def test_weights_that_one_class_chose_are_reported(folder: Path) -> None:
    rows = [(i, "abc"[i % 3], "train") for i in range(12)] + [(i, "a", "valid") for i in (12, 15)]
    file = table(
        folder / "chosen.csv", [*rows, *((i, "abc"[i % 3], "test") for i in range(18, 30))], "path,label,split"
    )
    report = unheard.finetune(
        folder / "model", file, folder / "chosen", settings=[*QUICK, "training.steps=2"], device="cpu"
    ).scores
    assert report is not None
    assert (
        "all validation clips have the same class, and the weights were selected on them; put clips of every class into"
        " the split valid" in report.notes
    )


def test_each_file_is_read_once_to_find_copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Clips of one length have files of one size, as in many corpora of commands."""
    own, theirs = ([tmp_path / f"{name}{number}" for number in range(20)] for name in "ab")
    for number, path in enumerate([*own, *theirs]):
        path.write_bytes(bytes([number]) * 100)
    theirs[7].write_bytes(own[3].read_bytes())
    own[4].write_bytes(b"another size")
    read: list[Path] = []
    real = leakage.content_of
    monkeypatch.setattr(leakage, "content_of", lambda paths: read.extend(paths) or real(paths))
    assert same_as_others(own, theirs) == [own[3]]
    assert len(read) == len(set(read)) == 39
