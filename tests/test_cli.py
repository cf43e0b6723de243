"""The command line as people meet it: help, a whole life of a model, and one clear line for everything that can go
wrong.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import soundfile

from unheard.cli import main
from unheard.cli.shell import table

RATE = 16000
SMALL = [f"--set=model.{field}" for field in ("size=tiny", "depth=1", "decoder_depth=1", "frames=32")]


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "sounds"
    assert main(["data", "generate", "-o", str(folder), "--clips", "12"]) == 0
    return folder


@pytest.fixture(scope="module")
def run(sounds: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("trained") / "run"
    assert main(["pretrain", str(sounds), "-o", str(out), "--steps", "6", "--batch-size", "4", *SMALL]) == 0
    return out


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs a command that must be refused; gives the one line that says why."""

    def call(*arguments: object) -> str:
        capsys.readouterr()
        assert main([str(argument) for argument in arguments]) == 2
        output = capsys.readouterr()
        lines = [line for line in output.err.splitlines() if line.startswith("unheard: ")]
        assert output.out == "" and len(lines) == 1 and output.err.splitlines()[-1] == lines[0]
        return lines[0]

    return call


@pytest.fixture
def document(capsys: pytest.CaptureFixture[str]) -> Callable[..., object]:
    """Runs a command with ``--json``; gives what stdout held, which must be one JSON document."""

    def call(*arguments: object, code: int = 0) -> object:
        capsys.readouterr()
        assert main([*(str(argument) for argument in arguments), "--json"]) == code
        return json.loads(capsys.readouterr().out)

    return call


def write(path: Path, wav: np.ndarray, **kind: str) -> Path:
    soundfile.write(path, wav, RATE, **kind)
    return path


def tone(samples: int = RATE) -> np.ndarray:
    return 0.3 * np.sin(np.arange(samples) * 0.2)


def test_the_life_of_a_model(sounds: Path, run: Path, tmp_path: Path, document: Callable[..., object]) -> None:
    table = document("embed", run, sounds, "-o", tmp_path / "e.parquet", "--device", "cpu")
    assert table == {"out": str(tmp_path / "e.parquet"), "rows": 12, "embedded": 12, "resumed": 0, "skipped": []}
    scores = document("probe", run, sounds / "labels.csv", "-o", tmp_path / "probe", "--seeds", "1")
    assert {score["embedding"] for score in scores["scores"]} >= {"model"} and (
        tmp_path / "probe" / "probe.png"
    ).is_file()
    assert document("pretrain", "--resume", run) == {"run": str(run), "step": 6, "total": 6, "finished": True}
    wav = next((sounds / "voice").glob("*.wav"))
    predicted = document(
        "reconstruct", run, wav, "-o", tmp_path / "r.png", "--mask", "chessboard", "--wav", tmp_path / "r.wav"
    )
    assert predicted["model"] > 0 and (tmp_path / "r.png").is_file() and (tmp_path / "r.wav").is_file()
    document("attention", run, wav, "-o", tmp_path / "a.png", "--at", "1,1", "--at", "0,0")
    assert (tmp_path / "a.png").is_file()
    assert Path(document("report", run)["report"]).is_file()


def test_settings_reach_the_run_and_set_wins(sounds: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = [
        "pretrain",
        str(sounds),
        "-o",
        str(tmp_path / "run"),
        "--epochs",
        "0.1",
        "--batch-size",
        "8",
        "--set",
        "training.batch_size=4",
        "--device",
        "cpu",
    ]
    code = main([*command, *SMALL, "--set", "training.seed=7"])
    assert code == 0, capsys.readouterr().err
    training = json.loads((tmp_path / "run" / "config.json").read_text())["recipe"]["training"]
    assert (training["epochs"], training["steps"], training["batch_size"], training["seed"]) == (0.1, None, 4, 7)


def test_a_packed_corpus_is_trained_on_and_stays(
    sounds: Path, tmp_path: Path, document: Callable[..., object], refused: Callable[..., str]
) -> None:
    packed = document("data", "pack", sounds, "-o", tmp_path / "packed")
    assert packed["clips"] == 12 and packed["skipped"] == [] and packed["statistics"]["std"] > 0
    assert (
        main(
            [
                "pretrain",
                str(tmp_path / "packed"),
                "-o",
                str(tmp_path / "run"),
                "--steps",
                "1",
                "--batch-size",
                "2",
                *SMALL,
            ]
        )
        == 0
    )
    assert "another packed corpus" in refused("data", "pack", sounds, "-o", tmp_path / "packed", "--dtype", "uint8")


def test_lists_say_what_can_be_chosen(document: Callable[..., object]) -> None:
    named = {recipe["name"]: recipe for recipe in document("recipes")}
    assert named["msm-mae-304-80x4"]["patch_size"] == [80, 4] and named["m2d"]["objectives"] == ["latents"]
    listed = document("models")
    assert "random-tiny" in [model["name"] for model in listed["built_in"]]
    assert {"msm-mae", "m2d", "maskspec", "audiomae", "matpac", "eat", "sslam", "bat"} == {
        layout["layout"] for layout in listed["layouts"]
    }
    assert all(layout["licence"] for layout in listed["layouts"])


def test_doctor_finds_this_machine_well(document: Callable[..., object]) -> None:
    health = document("doctor")
    assert health["well"] and health["versions"]["torch"] == version("torch") and health["formats"][".mp3"]


def test_tables_are_aligned() -> None:
    assert table(("a", "b"), [("long", "x"), ("c", "")]) == ["a     b", "long  x", "c"]


def test_bad_files_are_skipped_and_counted(sounds: Path, tmp_path: Path, document: Callable[..., object]) -> None:
    folder = tmp_path / "mixed"
    folder.mkdir()
    write(folder / "good.wav", tone())
    write(folder / "short.wav", tone(20))
    write(folder / "nan.wav", np.full(RATE, np.nan), subtype="FLOAT")
    write(folder / "none.wav", np.zeros(0))
    flac = write(folder / "cut.flac", np.random.default_rng(0).normal(0, 0.1, RATE))
    flac.write_bytes(flac.read_bytes()[:90])  # its header
    (folder / "text.mp3").write_text("this is not music")
    (folder / "notes.txt").write_text("ignored")
    bad = {"nan.wav", "none.wav", "cut.flac", "text.mp3"}

    found = document("data", "check", folder)["findings"]
    assert set(found["unreadable"]) | set(found["empty"]) == bad and "short.wav" in found["odd"]
    made = document("embed", "random-tiny", folder, "-o", tmp_path / "e.csv", "--device", "cpu")
    assert made["rows"] == 2 and {Path(item["path"]).name for item in made["skipped"]} == bad
    packed = document("data", "pack", folder, "-o", tmp_path / "packed")
    assert packed["clips"] == 2 and {Path(item["path"]).name for item in packed["skipped"]} == bad
    for verb in (
        ["data", "check", folder],
        ["data", "pack", folder, "-o", tmp_path / "packed"],
        ["embed", "random-tiny", folder, "-o", tmp_path / "s.csv"],
    ):
        document(*verb, "--strict", code=1)


@pytest.mark.parametrize(
    ("command", "hint"),
    [
        ("embd", "Did you mean embed"),
        ("data chek .", "Did you mean check"),
        ("embed m a.wav -o e.csv --pol max", "Did you mean --pool"),
        ("embed m a.wav -o e.csv --pool median", "mean+std"),
        ("embed m a.wav", "--out"),
        ("embed m a.wav -o", "-o requires an argument"),
        ("pretrain . -o run --steps many", "--steps"),
        ("pretrain", "pretrain DATA... -o RUN"),
        ("pretrain . -o run --steps 2 --epochs 1", "give only one of them"),
        ("pretrain . --resume run", "takes its settings from the run"),
        ("pretrain . -o run --recipe msm-may", "did you mean msm-mae?"),
        ("pretrain . -o run --set model.mask_ration=0.5", "did you mean model.mask_ratio?"),
        ("pretrain . -o run --set model.depth", "section.key=value"),
        ("pretrain --resume nowhere", "there is no run at nowhere; give the folder"),
        ("data check nowhere", "no such file or folder"),
        ("data pack nowhere -o packed", "no such file or folder"),
        ("data pack . -o packed --recipe my.py --no-code", "--no-code forbids executing my.py"),
        ("data fetch XXL -o x", "XXL"),
        ("data generate -o x --clips 0", "clips >= 1"),
        ("pretrain nowhere -o run", "no such file or folder"),
        ("embed random-tny . -o e.csv", "did you mean random-tiny?"),
        ("embed random-tiny nowhere -o e.csv", "there is no file or folder nowhere"),
        ("probe random-tiny nowhere.csv -o p", "nowhere.csv"),
        ("probe random-tiny labels.csv -o p --seeds 0", "at least 1"),
        ("attention random-tiny a.wav -o a.png --at 3", "FREQ,TIME"),
        ("convert nowhere.pth -o m --layout msm-mae --name 80x512p16x16", "nowhere.pth"),
        ("convert nowhere.pth -o m --layout mae --name 80x512p16x16", "choose one of msm-mae"),
        ("report nowhere", "there is no run at nowhere; give the folder"),
    ],
)
def test_one_clear_line(
    command: str, hint: str, refused: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert hint in refused(*command.split()).replace('"', "")  # versions of cyclopts quote differently
    assert not any(tmp_path.iterdir())


def test_nothing_usable_is_refused(refused: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for verb in (
        ["data", "check"],
        ["data", "pack", "-o", tmp_path / "k"],
        ["pretrain", "-o", tmp_path / "r"],
        ["embed", "random-tiny", "-o", tmp_path / "e.csv"],
    ):
        assert any(word in refused(*verb, tmp_path / "empty") for word in ("no sound files", "no audio"))
    write(tmp_path / "empty" / "none.wav", np.zeros(0))
    assert "none.wav" in refused("embed", "random-tiny", tmp_path / "empty", "-o", tmp_path / "e.csv")


def test_wrong_columns_name_the_right_ones(sounds: Path, refused: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "bad.csv").write_text("file,class\na.wav,dog\n")
    line = refused("probe", "random-tiny", tmp_path / "bad.csv", "-o", tmp_path / "p")
    assert "file, class" in line and "path, label" in line


def test_what_exists_is_kept(sounds: Path, run: Path, refused: Callable[..., str], tmp_path: Path) -> None:
    table = tmp_path / "e.csv"
    table.write_text("precious")
    assert "exists" in refused("embed", "random-tiny", sounds, "-o", table) and table.read_text() == "precious"
    assert "must end in" in refused("embed", "random-tiny", sounds, "-o", tmp_path / "e.txt")
    assert "--overwrite" in refused("pretrain", sounds, "-o", run)
    assert "exists" in refused("probe", run, sounds / "labels.csv", "-o", tmp_path)
    assert "exists" in refused("reconstruct", run, next(sounds.rglob("*.wav")), "-o", table)


def _full(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_is_one_line(
    sounds: Path, refused: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetensors import SafetensorError

    from unheard.embedding import table_files
    from unheard.weights import tensors

    def full(*_: object, **__: object) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(tensors, "save_file", full)
    assert "No space left" in refused(
        "pretrain", sounds, "-o", tmp_path / "run", "--steps", "1", "--batch-size", "2", *SMALL
    )
    monkeypatch.setattr(table_files, "_write_csv", _full)
    assert "--resume" in refused("embed", "random-tiny", sounds, "-o", tmp_path / "e.csv", "--device", "cpu")
    assert not (tmp_path / "e.csv").exists()
    monkeypatch.setattr(Path, "mkdir", _full)
    assert "No space left" in refused("data", "generate", "-o", tmp_path / "sounds")


def test_interrupts_and_our_own_faults(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def raising(error: BaseException) -> Callable[..., None]:
        def fail(*_: object, **__: object) -> None:
            raise error

        return fail

    monkeypatch.setattr("unheard.data.check.check", raising(KeyboardInterrupt()))
    assert main(["data", "check", "."]) == 130
    monkeypatch.setattr("unheard.data.check.check", raising(OSError(errno.EIO, "Input/output error", "disk")))
    assert main(["data", "check", "."]) == 2
    assert "disk: Input/output error" in capsys.readouterr().err
    monkeypatch.setattr("unheard.data.check.check", raising(ZeroDivisionError("a fault of ours")))
    with pytest.raises(ZeroDivisionError):
        main(["data", "check", "."])
