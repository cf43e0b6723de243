"""Classifiers, evaluations and stored targets at addresses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from tests.evaluation.made import make_task
from tests.jobs.several import ENGINES, started
from tests.remote.store import BUCKET, Fault, Store

import unheard
from unheard import api
from unheard.addresses import named
from unheard.audio.frontend import Statistics
from unheard.cli import main
from unheard.config import override
from unheard.errors import CheckpointError, ConfigError, DataError, RemoteError
from unheard.finetuning.ensemble import open_finetuned
from unheard.finetuning.predicting import job as predicting
from unheard.recipes import find_recipe
from unheard.recipes.learner import build
from unheard.remote import access
from unheard.remote.listing import files_below, is_file
from unheard.remote.reading import open_file
from unheard.remote.writing import upload_folder, working_place
from unheard.teachers.stored import StoredTargets, open_targets
from unheard.teachers.storing import TargetsConfig, store_targets
from unheard.training.callbacks import Callbacks
from unheard.weights.checkpoint import Provenance, save_model

SIZES = ("frames=32", "embed_dim=24", "depth=1", "num_heads=2")
DECODER = ("decoder_embed_dim=16", "decoder_depth=1", "decoder_num_heads=2")
BASE = override(find_recipe("msm-mae"), [f"model.{size}" for size in (*SIZES, *DECODER)])
QUICK = ["training.batch_size=8", "training.steps=4", "training.checkpoint_every=2", "training.log_every=1"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tones with labels in two folds, and a model."""
    place, rng = tmp_path_factory.mktemp("tones"), np.random.default_rng(1)
    rows = ["path,label,fold"]
    for number in range(12):
        (place / "sounds").mkdir(exist_ok=True)
        tone = 0.2 * np.sin(np.arange(4000) * (0.1, 0.4)[number % 2]) + 0.01 * rng.standard_normal(4000)
        soundfile.write(place / "sounds" / f"{number:02d}.wav", tone, 16000)
        rows.append(f"sounds/{number:02d}.wav,{'ab'[number % 2]},{number // 2 % 2}")
    (place / "folds.csv").write_text("\n".join(rows) + "\n")
    save_model(place / "model", build(BASE), BASE, Statistics((-9.0,), (4.0,)), Provenance())
    return place


@pytest.fixture(scope="module")
def local(folder: Path) -> Path:
    """The classifier in a local folder."""
    unheard.finetune(folder / "model", folder / "folds.csv", folder / "run", settings=QUICK, device="cpu")
    return folder / "run"


class StoppedError(Exception):
    """Ends a run after a checkpoint."""


def stopping(name: str) -> Callbacks:
    """Stop when a model of a run has its first checkpoint."""

    def stop(model: Path) -> None:
        if model.name == name:
            raise StoppedError

    return Callbacks(on_save=stop)


def loaded(address: str) -> dict[str, object]:
    with open_file(address) as file:
        found: dict[str, object] = json.load(file)
    return found


def test_a_classifier_is_stopped_and_resumed_on_another_machine(
    folder: Path, local: Path, memory: str, place: Path
) -> None:
    out = f"{memory}/run"
    with pytest.raises(StoppedError):
        unheard.finetune(
            folder / "model", folder / "folds.csv", out, settings=QUICK, device="cpu", report=stopping("fold-1")
        )
    assert not is_file(f"{out}/scores.json")
    with pytest.raises(CheckpointError, match=rf"{out} has models that are not trained yet; continue with: .* {out}"):
        open_finetuned(out)
    shutil.rmtree(place)
    run = unheard.resume_finetune(out, device="cpu")
    assert run.finished and named(run.folder) == out and not working_place(out).exists()
    assert loaded(f"{out}/scores.json") == json.loads((local / "scores.json").read_text())
    sound = folder / "sounds/00.wav"
    assert run.predict(sound) == open_finetuned(local).predict(sound)
    with pytest.raises(ConfigError, match=rf"^{out} exists and is not empty"):
        unheard.finetune(folder / "model", folder / "folds.csv", out, settings=QUICK, device="cpu")


def test_predictions_have_paths_that_hold_at_the_address(
    folder: Path, local: Path, memory: str, tmp_path: Path
) -> None:
    sounds, out = str(folder / "sounds"), f"{memory}/scores.csv"
    assert main(["predict", str(local), sounds, "-o", out]) == 0
    assert main(["predict", str(local), sounds, "-o", str(tmp_path / "scores.csv")]) == 0
    with open_file(out) as file:
        assert file.read() == (tmp_path / "scores.csv").read_bytes()
    assert is_file(f"{out}.json") and main(["data", "verify", out]) == 0
    assert main(["predict", str(local), sounds, "-o", out]) == 2
    spans = f"{memory}/spans.csv"
    assert main(["predict", str(local), sounds, "-o", spans, "--spans", "--threshold", "0.01"]) == 0
    found = unheard.detect(local, folder / "sounds", spans, threshold=0.01, resume=True)
    assert named(found.out or "") == spans and found.resumed == 12
    with open_file(spans) as file:
        assert str(folder / "sounds" / "00.wav") in file.read().decode()


@pytest.fixture(scope="module")
def many(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Two groups of the files that are scored together."""
    sounds = tmp_path_factory.mktemp("many")
    for number in range(66):
        shutil.copy(folder / "sounds" / f"{number % 12:02d}.wav", sounds / f"{number}.wav")
    return str(sounds)


OUTPUTS = (("scores.csv", []), ("spans.csv", ["--spans", "--threshold", "0.01"]))


def test_predictions_in_tasks_are_those_of_one_process(
    many: str, local: Path, memory: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, options in OUTPUTS:
        command = ["predict", str(local), many, *options, "-o"]
        assert main([*command, f"{memory}/one/{name}"]) == 0
        for number in (2, 1):
            monkeypatch.setenv("UNHEARD_CACHE", str(tmp_path / f"machine-{number}"))
            assert main([*command, f"{memory}/tasks/{name}", "--task", f"{number}/2"]) == 0
        with open_file(f"{memory}/one/{name}") as one, open_file(f"{memory}/tasks/{name}") as joined:
            assert one.read() == joined.read()
    assert set(files_below(f"{memory}/tasks")) == set(files_below(f"{memory}/one"))
    assert not list(tmp_path.glob("machine-*/out/*"))


def content_of(address: str) -> bytes:
    with open_file(address) as file:
        return file.read()


@pytest.mark.usefixtures("inside")
def test_detections_that_are_replaced_are_continued(
    tmp_path: Path, store: Store, place: Path, folder: Path, local: Path
) -> None:
    out, sounds = f"s3://{BUCKET}/spans.csv", tmp_path / "sounds"
    shutil.copytree(folder / "sounds", sounds)
    given = {"engine": "ray", "threshold": 0.01, "device": "cpu"}
    unheard.detect(local, sounds, out, **given)
    old = content_of(out)
    for path in sorted(sounds.iterdir()):
        shutil.copy(folder / "sounds" / "00.wav", path)
    store.faults.append(Fault("503", "PUT", "spans.csv.json", times=10_000))
    with pytest.raises(RemoteError):
        unheard.detect(local, sounds, out, **given, overwrite=True)
    store.faults.clear()
    unheard.detect(local, sounds, out, **given, resume=True)
    assert store.keys() == ["spans.csv", "spans.csv.json"] and not list(place.glob("out/*"))
    unheard.detect(local, sounds, f"s3://{BUCKET}/one.csv", threshold=0.01, device="cpu")
    assert content_of(out) == content_of(f"s3://{BUCKET}/one.csv") != old


@pytest.mark.parametrize("engine", ENGINES)
def test_predictions_of_several_processes_are_those_of_one(
    many: str, local: Path, store: Store, place: Path, engine: str
) -> None:
    for name, options in OUTPUTS:
        command = ["predict", str(local), many, *options, "-o"]
        assert main([*command, f"s3://{BUCKET}/one/{name}"]) == 0
        spread = [f"s3://{BUCKET}/many/{name}", "--engine", engine, "--processes", "2"]
        assert started(lambda: main([*command, *spread])) == 0  # noqa: B023 - called at once
        with open_file(f"s3://{BUCKET}/one/{name}") as one, open_file(f"s3://{BUCKET}/many/{name}") as joined:
            assert one.read() == joined.read()
        assert main([*command, *spread]) == 2
    assert set(files_below(f"s3://{BUCKET}/many")) == set(files_below(f"s3://{BUCKET}/one"))
    assert not list(place.glob("out/*"))


@pytest.mark.usefixtures("inside")
def test_an_output_may_have_the_name_of_a_lock(many: str, local: Path, store: Store, place: Path) -> None:
    for name, spread in (("job", ["--engine", "ray"]), ("task", ["--task", "1/1"])):
        assert main(["predict", str(local), many, "-o", f"s3://{BUCKET}/p/{name}", *spread]) == 0
        assert is_file(f"s3://{BUCKET}/p/{name}")
    assert not list(place.glob("out/*"))


def test_predictions_that_were_interrupted_before_the_join_are_continued(
    many: str, local: Path, memory: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["predict", str(local), many, "-o", f"{memory}/scores.csv", "--processes", "1"]

    def interrupted(*given: object) -> object:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(predicting, "_join", interrupted)
        assert main(command) == 130
    assert main(command) == 2
    assert "scores.csv has parts of an interrupted job; continue it with --resume" in capsys.readouterr().err
    assert main([*command, "--resume"]) == 0
    assert "0 files predicted, 66 already done" in capsys.readouterr().out


@pytest.mark.parametrize("options", [[], ["--resume"]])
def test_predictions_whose_upload_failed_are_uploaded_by_the_same_command(
    many: str, local: Path, store: Store, place: Path, monkeypatch: pytest.MonkeyPatch, options: list[str]
) -> None:
    monkeypatch.setattr(access, "TRIES", 1)
    command = ["predict", str(local), many, "-o", f"s3://{BUCKET}/scores.csv", "--processes", "1"]
    store.faults.append(Fault("503", "PUT", "scores.csv", times=10_000))
    assert main(command) == 2
    store.faults.clear()
    assert main([*command, *options]) == 0 and is_file(f"s3://{BUCKET}/scores.csv")
    assert main([*command, *options]) == 2


def test_tasks_at_an_address_are_evaluated_into_another(folder: Path, memory: str, tmp_path: Path) -> None:
    make_task(tmp_path / "tasks" / "loudness")
    names = [path.relative_to(tmp_path).as_posix() for path in (tmp_path / "tasks").rglob("*") if path.is_file()]
    upload_folder(tmp_path, memory, names)
    tasks, out = f"{memory}/tasks", f"{memory}/scores"
    report = unheard.evaluate(folder / "model", tasks, out, device="cpu")
    assert not report.failed and len(report.results) == 3
    assert is_file(f"{out}/results-heareval.json") and not working_place(out, "evaluate").exists()
    with pytest.raises(ConfigError, match=rf"^{out} exists"):
        unheard.evaluate(folder / "model", tasks, out, device="cpu")
    with pytest.raises(ConfigError, match=rf"there is no task other in {tasks}; available: loudness"):
        unheard.evaluate(folder / "model", tasks, f"{memory}/new", names=["other"], device="cpu")
    before = files_below(out)
    again = unheard.evaluate(folder / "model", tasks, out, device="cpu", resume=True)
    assert again.results == report.results
    reused = [name for name in before if name.startswith("scores/")]
    assert reused and {name: files_below(out)[name] for name in reused} == {name: before[name] for name in reused}


def test_targets_of_several_sources_are_stored_and_read_by_a_run(folder: Path, memory: str, tmp_path: Path) -> None:
    sources = [folder / "sounds" / f"{number:02d}.wav" for number in range(4)]
    teacher, out = str(folder / "model"), f"{memory}/targets"
    stored = api.targets(sources, teacher, out, device="cpu")
    local = store_targets(sources, TargetsConfig(teacher), tmp_path / "targets")
    assert isinstance(stored, StoredTargets) and named(stored.folder) == out
    for targets in (stored, open_targets(out)):
        assert targets.fingerprint == local.fingerprint and targets.header.clips == 4
        targets.verify()
    before = files_below(out)
    assert api.targets(sources, teacher, out, device="cpu").fingerprint == local.fingerprint  # nothing is left to do
    assert files_below(out) == before
    with pytest.raises(DataError, match=rf"^{out} holds targets of another corpus or teacher"):
        api.targets(sources[:2], teacher, out, device="cpu")
    with pytest.raises(ConfigError, match=r"00.wav, .*01.wav, .*is not packed"):
        api.targets(sources, teacher, tmp_path / "other", processes=2, device="cpu")
    lines: list[str] = []
    settings = [f"model.{size}" for size in (*SIZES, *DECODER)]
    settings += [f"objectives.distill.teachers.0.name={out}", "training.steps=1", "training.batch_size=2"]
    run = unheard.pretrain(
        sources, tmp_path / "run", "distill", settings, device="cpu", report=Callbacks(log=lines.append)
    )
    assert run.finished and any(line.endswith(f"stored in {out}") for line in lines)
    with pytest.raises(DataError, match=rf"^{memory}/none holds no finished targets"):
        open_targets(f"{memory}/none")
