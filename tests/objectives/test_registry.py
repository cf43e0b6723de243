"""An objective from a file outside the package, that of docs/guide/extend.md, is trained, resumed and embedded with."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

import unheard
from unheard.cli import main
from unheard.config import override, to_json
from unheard.errors import CheckpointError
from unheard.files import FILES, file_checksums, read_json, write_json
from unheard.objectives.registry import REGISTERED
from unheard.recipes import find_recipe
from unheard.recipes.learner import build
from unheard.training.checkpoints import checkpoints
from unheard.weights.checkpoint import load_model
from unheard.weights.tensors import read_tensors, write_tensors

DOCS = Path(__file__).parents[2] / "docs" / "guide" / "extend.md"
SIZES = (
    "frames=48",
    "embed_dim=24",
    "depth=2",
    "num_heads=2",
    "decoder_embed_dim=16",
    "decoder_depth=1",
    "decoder_num_heads=2",
)
SETTINGS = [
    *(f"model.{size}" for size in SIZES),
    "training.batch_size=4",
    "training.log_every=1",
    "training.checkpoint_every=3",
]
HEAD = "objectives.level.head.weight"


def forget() -> None:
    """Leave the objectives of the package only, as in a new process."""
    for name in [name for name, entry in REGISTERED.items() if not entry.config.__module__.startswith("unheard.")]:
        del REGISTERED[name]


@pytest.fixture(autouse=True)
def _new_process() -> Iterator[None]:
    forget()
    yield
    forget()


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tones")
    for number in range(6):
        tone = 0.3 * np.sin(np.arange(16000) * (0.05 + 0.04 * number)) * np.linspace(1, 0.1, 16000)
        soundfile.write(folder / f"{number}.wav", tone.astype(np.float32), 16000)
    (folder / "labels.csv").write_text(
        "path,label\n" + "".join(f"{number}.wav,{'ab'[number % 2]}\n" for number in range(6))
    )
    return folder


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """The recipe file of the docs."""
    section = DOCS.read_text().split("## Write your own objective")[1]
    found = re.search(r"```python[^\n]*\n(.*?)```", section, re.DOTALL)
    assert found is not None
    (tmp_path / "my.py").write_text(found[1])
    return tmp_path / "my.py"


@pytest.fixture
def train(sounds: Path, mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Pre-train with the file; no figures are plotted, which would take most of the time."""
    monkeypatch.setattr("unheard.view.run.finish", lambda run, store, say: None)

    def run(name: str, *options: str, steps: int = 8, recipe: Path = mine) -> Path:
        forget()
        settings = [f"--set={setting}" for setting in SETTINGS]
        asked = [
            str(sounds),
            "-o",
            str(tmp_path / name),
            "--recipe",
            str(recipe),
            "--steps",
            str(steps),
            "--device",
            "cpu",
        ]
        assert main(["pretrain", *asked, *settings, *options]) == 0
        return tmp_path / name

    return run


def interrupt(run: Path) -> Path:
    """Leave a run as it was killed after an earlier checkpoint."""
    shutil.rmtree(checkpoints(run)[-1])
    (run / "finished.json").unlink()
    forget()
    return run


def rows(run: Path) -> list[dict[str, float]]:
    found = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in row.items() if name == "step" or name.startswith("loss")} for row in found]


def error_of(capsys: pytest.CaptureFixture[str], *command: str) -> str:
    capsys.readouterr()
    assert main(list(command)) == 2
    return capsys.readouterr().err


def test_its_loss_is_logged_and_weighted(train: Callable[..., Path]) -> None:
    for row in rows(train("run", "--set", "objectives.level.weight=0.25")):
        assert row["loss/level"] > 0
        assert row["loss"] == pytest.approx(row["loss/reconstruct"] + 0.25 * row["loss/level"], rel=1e-5)


def test_a_resumed_run_repeats_the_uninterrupted_one_number_by_number(
    train: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    whole, broken = train("whole"), interrupt(train("broken"))
    capsys.readouterr()
    assert main(["pretrain", "--resume", str(broken), "--device", "cpu"]) == 0
    assert "executing the recipe file" in capsys.readouterr().err
    assert rows(broken) == rows(whole) and len(rows(whole)) == 8
    ours, theirs = (read_tensors(run / "model" / "model.safetensors") for run in (broken, whole))
    assert HEAD in ours and ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_set_changes_it_and_a_wrong_key_is_named(
    train: Callable[..., Path], sounds: Path, mine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = train("run", "--set", "objectives.level.power=2", steps=1)
    assert read_json(run / "config.json")["recipe"]["objectives"]["level"] == {"weight": 0.5, "power": 2.0}
    command = ("pretrain", str(sounds), "-o", str(tmp_path / "other"), "--recipe", str(mine), "--set")
    assert "no setting 'objectives.level.powr'; did you mean objectives.level.power?" in error_of(
        capsys, *command, "objectives.level.powr=2"
    )
    assert "objectives.level.power: got 'x'" in error_of(capsys, *command, "objectives.level.power=x")
    assert "objectives.level.weight: got -1" in error_of(capsys, *command, "objectives.level.weight=-1")


def test_at_weight_0_it_is_not_built(train: Callable[..., Path], mine: Path) -> None:
    run = train("run", "--set", "objectives.level.weight=0", steps=2)
    assert "loss/level" not in rows(run)[0] and HEAD not in read_tensors(run / "model" / "model.safetensors")
    assert (
        "level"
        not in build(override(find_recipe(str(mine)), ["model.size=tiny", "objectives.level.weight=0"])).objectives
    )


def test_embedding_needs_no_file_and_no_code(
    train: Callable[..., Path], sounds: Path, mine: Path, tmp_path: Path
) -> None:
    run = train("run", "--set", "objectives.reconstruct.weight=0")
    before = unheard.load(run).embed(sounds / "1.wav").scene
    mine.unlink()
    forget()
    loaded = unheard.load(run)
    assert np.array_equal(loaded.embed(sounds / "1.wav").scene, before)
    assert "level" not in REGISTERED and loaded.config.objectives["level"] == {"weight": 0.5, "power": 1.0}
    assert to_json(loaded.config) == read_json(run / "model" / "config.json")["recipe"]
    assert main(["embed", str(run), str(sounds), "-o", str(tmp_path / "emb.npz")]) == 0
    tuned = ["-o", str(tmp_path / "tuned"), "--steps", "1", "--device", "cpu"]
    assert main(["finetune", str(run), str(sounds / "labels.csv"), *tuned]) == 0
    assert unheard.load(tmp_path / "tuned").config.objectives["level"]["weight"] == 0.5


@pytest.mark.parametrize(
    ("section", "message"),
    [(3, "objectives.level must be a JSON object of settings"), ({"weight": "much", "items": [1]}, None), ({}, None)],
)
def test_a_section_of_a_stranger_s_model_folder_is_kept_or_refused(
    section: object, message: str | None, train: Callable[..., Path], sounds: Path
) -> None:
    folder = train("run", steps=1) / "model"
    forget()
    config = read_json(folder / "config.json")
    config["recipe"]["objectives"]["level"] = section
    write_json(folder / "config.json", config)
    if message is None:
        assert unheard.load(folder).config.objectives["level"] == section
        return
    with pytest.raises(CheckpointError, match=message):
        unheard.load(folder)


def test_weights_of_it_that_are_no_numbers_are_refused(train: Callable[..., Path]) -> None:
    folder = train("run", steps=1) / "model"
    tensors = read_tensors(folder / "model.safetensors")
    write_tensors(folder / "model.safetensors", tensors | {HEAD: tensors[HEAD] * float("nan")})
    write_json(
        folder / "config.json",
        read_json(folder / "config.json") | {FILES: file_checksums(folder, ["model.safetensors"])},
    )
    forget()
    with pytest.raises(CheckpointError, match=f"hold NaN or infinity in {HEAD}"):
        unheard.load(folder)


def test_init_takes_its_weights_too(train: Callable[..., Path]) -> None:
    first = train("first")
    second = train("second", "--init", str(first), "--set", "training.learning_rate=0", steps=1)
    ours, theirs = (read_tensors(run / "model" / "model.safetensors") for run in (second, first))
    assert HEAD in theirs and all(torch.equal(ours[name], theirs[name]) for name in theirs)
    forget()
    plain = train("plain", "--init", str(first), "--set", "training.learning_rate=0", steps=1, recipe=Path("msm-mae"))
    ours = read_tensors(plain / "model" / "model.safetensors")
    assert HEAD not in ours and all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_missing_or_changed_file_is_refused_on_resume(
    train: Callable[..., Path], mine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = interrupt(train("run"))
    text, marker = mine.read_text(), tmp_path / "ran"
    resume = ("pretrain", "--resume", str(run), "--device", "cpu")
    assert f"needs to execute {mine}, which --no-code forbids" in error_of(capsys, *resume, "--no-code")
    mine.write_text(text + f"import pathlib\npathlib.Path({str(marker)!r}).touch()\n")
    assert f"the recipe file {mine} has changed since {run} began" in error_of(capsys, *resume)
    mine.unlink()
    assert f"the recipe file {mine} of {run} is missing" in error_of(capsys, *resume)
    stored = read_json(run / "config.json")
    (run / "my.py").write_text(text)
    write_json(run / "config.json", stored | {"code": stored["code"] | {"path": str(run / "my.py")}})
    assert "files of a run folder are never executed" in error_of(capsys, *resume)
    write_json(run / "config.json", stored | {"code": None})
    assert "objectives that are not registered: level" in error_of(capsys, *resume)
    assert not marker.exists() and "level" not in REGISTERED
    write_json(run / "config.json", stored)
    mine.write_text(text)
    assert main(list(resume)) == 0


def test_recipes_prints_a_file_and_runs_none_without_leave(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipes", str(mine), "--json"]) == 0
    values = {each["name"]: each["value"] for each in json.loads(capsys.readouterr().out)}
    assert values["name"] == "msm-mae-level" and values["objectives.level.weight"] > 0
    forget()
    assert "--no-code forbids executing" in error_of(capsys, "recipes", str(mine), "--no-code")
    assert "give only one of them" in error_of(capsys, "recipes", "m2d", "--published", "esc50")
    assert "level" not in REGISTERED


def test_its_needs_are_met(sounds: Path, mine: Path) -> None:
    """Labels and the EMA teacher for objectives that say so; their folder loads without the file."""
    text = mine.read_text().replace('"""1 for the absolute', 'classes: tuple[str, ...] = ()\n    """1 for the absolute')
    text = text.replace("decoder.embed_dim))", "decoder.embed_dim), teacher=True, labels=True)")
    text = text.replace(
        "        hidden = out",
        "        assert batch.labels.shape[1] == 2 and out.target is not None\n        hidden = out",
    )
    (mine.parent / "needs.py").write_text(text)
    run = mine.parent / "run"
    settings = [f"--set={setting}" for setting in SETTINGS]
    asked = [
        str(sounds / "labels.csv"),
        "-o",
        str(run),
        "--recipe",
        str(mine.parent / "needs.py"),
        "--steps",
        "2",
        "--device",
        "cpu",
    ]
    assert main(["pretrain", *asked, *settings]) == 0
    assert read_json(run / "config.json")["recipe"]["objectives"]["level"]["classes"] == ["a", "b"]
    forget()
    loaded = load_model(run)
    assert loaded.learner.model.predictor is None and {HEAD, "model.predictor.project.weight"} <= loaded.others.keys()
