"""The list of runs, and the page that compares two."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

import unheard
from unheard.cli import main
from unheard.errors import ConfigError, DataError
from unheard.outputs import in_use, locked_folder

TINY = [
    *("model.frames=32", "model.embed_dim=24", "model.depth=1", "model.num_heads=2", "model.decoder_embed_dim=16"),
    *("model.decoder_depth=1", "model.decoder_num_heads=2", "training.batch_size=4", "training.log_every=2"),
]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two pre-training runs and two fine-tuned ones."""
    folder, rng = tmp_path_factory.mktemp("runs"), np.random.default_rng(0)
    (folder / "sounds").mkdir()
    for number in range(12):
        wav = 0.2 * np.sin(np.arange(8000) * (0.1, 1.2)[number % 2]) + 0.01 * rng.standard_normal(8000)
        soundfile.write(folder / "sounds" / f"{number}.wav", wav, 16000)
    rows = [f"sounds/{k}.wav,{'ab'[k % 2]},{'test' if k < 4 else 'valid' if k < 6 else 'train'}" for k in range(12)]
    (folder / "labels.csv").write_text("path,label,split\n" + "\n".join(rows) + "\n")
    for name, steps, extra in (("one", 6, []), ("two", 4, ["model.mask_ratio=0.5"])):
        out = folder / "runs" / name
        unheard.pretrain(folder / "sounds", out, settings=[*TINY, *extra], steps=steps, device="cpu")
        tuned = folder / "runs" / f"tuned-{name}"
        settings = ["training.batch_size=4", f"training.steps={steps}"]
        unheard.finetune(out, folder / "labels.csv", tuned, settings=settings, device="cpu")
    return folder


def test_runs_are_listed_with_progress_and_state(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found, unreadable = unheard.runs(place)
    assert unreadable == [] and {run.path.name for run in found} == {"one", "two", "tuned-one", "tuned-two"}
    runs = {run.path.name: run for run in found}
    assert (runs["one"].kind, runs["one"].steps, runs["one"].total, runs["one"].state) == ("pretrain", 6, 6, "finished")
    assert runs["one"].loss is not None and runs["one"].score is None and runs["one"].recipe == "msm-mae"
    tuned = runs["tuned-two"]
    assert tuned.kind == "finetune" and tuned.state == "finished" and tuned.score is not None
    assert tuned.score.metric == "balanced_accuracy" and Path(tuned.data).name == "labels.csv"
    assert main(["runs", str(place / "runs"), "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["runs"]) == 4
    assert main(["runs", str(place / "sounds")]) == 0
    assert "no runs below" in capsys.readouterr().out


def test_a_run_that_is_written_is_running(place: Path) -> None:
    assert not in_use(place / "runs" / "one")
    with locked_folder(place / "runs" / "one"):
        states = {run.path.name: run.state for run in unheard.runs(place)[0]}
    assert states["one"] == "running" and states["two"] == "finished"
    assert not in_use(place / "runs" / "one") and not in_use(place / "missing")


def test_a_run_without_its_last_mark_is_stopped(place: Path) -> None:
    mark = place / "runs" / "two" / "finished.json"
    content = mark.read_bytes()
    mark.unlink()
    try:
        assert next(run.state for run in unheard.runs(place)[0] if run.path.name == "two") == "stopped"
    finally:
        mark.write_bytes(content)


def test_a_damaged_run_is_named_and_the_others_are_listed(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = place / "runs" / "two" / "config.json"
    content = config.read_text()
    config.write_text(content.replace("0.5", "0.6"))
    try:
        assert main(["runs", str(place), "--strict"]) == 1
        assert "unreadable" in (out := capsys.readouterr().out) and "tuned-two" in out and "checksum" in out
    finally:
        config.write_text(content)
    with pytest.raises(DataError, match="there is no folder"):
        unheard.runs(place / "missing")


def test_clips_with_other_labels_have_no_difference(place: Path, tmp_path: Path) -> None:
    (tmp_path / "sounds").symlink_to(place / "sounds")
    rows = (place / "labels.csv").read_text().splitlines()
    rows[1] = rows[1].replace(",a,", ",b,")
    rows[4] = rows[4].replace("test", "train")
    (tmp_path / "labels.csv").write_text("\n".join(rows) + "\n")
    settings, runs = ["training.batch_size=4", "training.steps=4"], place / "runs"
    tuned = unheard.finetune(runs / "two", tmp_path / "labels.csv", tmp_path / "tuned", settings=settings, device="cpu")
    found = unheard.compare(runs / "tuned-two", tuned.folder, tmp_path / "page.html", audio=["a.wav"])
    assert [score.text for score in found.scores] == ["not compared: 1 of 3 clips have different labels"]
    assert any("no curves of valid/" in note for note in found.notes)
    (tmp_path / "labels.csv").write_text((tmp_path / "labels.csv").read_text().replace("0.wav,b,", "0.wav,a,", 1))
    tuned = unheard.finetune(runs / "two", tmp_path / "labels.csv", tmp_path / "more", settings=settings, device="cpu")
    found = unheard.compare(runs / "tuned-two", tuned.folder, tmp_path / "more.html", audio=["a.wav"])
    assert found.scores[0].text.endswith(", 3 clips, 1 clips of one run left out")


def test_curves_of_other_watched_tables_are_left_out(place: Path, tmp_path: Path) -> None:
    for name in ("x", "y"):
        (tmp_path / f"{name}.csv").write_text(
            "path,label\n"
            + "".join(f"{place}/sounds/{k}.wav,{'ab'[k % 2 if name == 'x' else k // 6]}\n" for k in range(12))
        )
    for run, table in (("x", "x"), ("same", "x"), ("y", "y")):
        unheard.pretrain(
            place / "sounds", tmp_path / run, settings=TINY, steps=2, device="cpu", watch=tmp_path / f"{table}.csv"
        )
    same = unheard.compare(tmp_path / "x", tmp_path / "same", tmp_path / "same.html", device="cpu")
    assert same.notes == []
    other = unheard.compare(tmp_path / "x", tmp_path / "y", tmp_path / "other.html", device="cpu")
    assert len(other.notes) == 1 and "no curves of probe/" in other.notes[0]


def test_two_runs_are_compared_on_one_page(place: Path, tmp_path: Path) -> None:
    found = unheard.compare(place / "runs" / "one", place / "runs" / "two", tmp_path / "page.html", device="cpu")
    assert ("recipe.model.mask_ratio", "0.75", "0.5") in found.settings
    assert ("recipe.training.steps", "6", "4") in found.settings
    assert not any("fingerprint" in name or "frontend" in name for name, *_ in found.settings)
    page = (tmp_path / "page.html").read_text()
    assert page.count("data:image/png") == 4  # curves, and three sounds
    assert "mask_ratio" in page and "http" not in page.split("</style>")[1]
    with pytest.raises(ConfigError, match="exists"):
        unheard.compare(place / "runs" / "one", place / "runs" / "two", tmp_path / "page.html")


def test_fine_tuned_runs_have_a_paired_difference(place: Path, tmp_path: Path) -> None:
    runs = place / "runs"
    found = unheard.compare(runs / "tuned-one", runs / "tuned-two", tmp_path / "page.html", audio=["a.wav"])
    (score,) = found.scores
    assert (score.name, score.clips) == ("test clips", 4) and score.difference is not None
    assert score.low is not None and score.high is not None and score.low <= score.difference <= score.high
    assert score.difference == pytest.approx(score.second.value - score.first.value)
    assert "test clips" in (tmp_path / "page.html").read_text()
    assert found.notes == ["no reconstructions: a fine-tuned run has no decoder"]


@pytest.mark.parametrize(
    ("other", "out", "message"),
    [("one", "page.html", "are one run"), ("two", "page.pdf", r"must end in \.html"), ("", "page.html", "no run")],
)
def test_what_cannot_be_compared_is_refused(place: Path, tmp_path: Path, other: str, out: str, message: str) -> None:
    with pytest.raises(unheard.UnheardError, match=message):
        unheard.compare(place / "runs" / "one", place / "runs" / other, tmp_path / out)
    assert not (tmp_path / out).exists()


@pytest.mark.parametrize("kind", ["file", "table"])
def test_sounds_of_a_corpus_that_is_no_folder_are_reconstructed(kind: str, place: Path, tmp_path: Path) -> None:
    data = place / "sounds" / "3.wav"
    if kind == "table":
        data = tmp_path / "few.csv"
        data.write_text("path\n" + "".join(f"{place / 'sounds' / f'{k}.wav'}\n" for k in (1, 2)))
    unheard.pretrain(data, tmp_path / "alone", settings=TINY, steps=2, device="cpu")
    found = unheard.compare(tmp_path / "alone", place / "runs" / "one", tmp_path / "page.html", device="cpu")
    assert found.notes == []
    page = (tmp_path / "page.html").read_text()
    assert page.count("data:image/png") == (2 if kind == "file" else 3)  # curves and the sounds
    if kind == "table":
        data.write_text("name\n1.wav\n")
        found = unheard.compare(tmp_path / "alone", place / "runs" / "one", tmp_path / "other.html", device="cpu")
        assert "no reconstructions" in found.notes[0] and (tmp_path / "other.html").is_file()
