"""Broken tasks and models of other people: each is named in one line, and everything else is finished and kept."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from tests.evaluation.made import RATE, Levels, make_task

from unheard.api import evaluate
from unheard.cli import main
from unheard.errors import ConfigError
from unheard.evaluation.encoders.choose import encoders

Frames = tuple[torch.Tensor, torch.Tensor]


def failures(tmp_path: Path) -> dict[tuple[str, str], str]:
    """Evaluate; every message is one line, and the tables are there with what did work."""
    report = evaluate("hear:levels", tmp_path / "tasks", tmp_path / "out")
    assert all("\n" not in message for _, _, message in report.failed)
    kept = json.loads((tmp_path / "out" / "results-heareval.json").read_text())
    assert len(kept["results"]) == len(report.results) > 0
    return {(task, encoder): message for task, encoder, message in report.failed}


def drop_split(task: Path) -> None:
    (task / "valid.json").unlink()


def strange_label(task: Path) -> None:
    (task / "test.json").write_text(json.dumps({"test0.wav": ["unicorn"]}))


def one_class(task: Path) -> None:
    with_metadata = json.loads((task / "valid.json").read_text())
    (task / "valid.json").write_text(json.dumps({name: ["loud"] for name in with_metadata}))


def no_sound(task: Path) -> None:
    (task / "16000" / "test" / "test3.wav").write_bytes(b"no sound at all")


def no_audio(task: Path) -> None:
    (task / "16000").rename(task / "elsewhere")


def no_vocabulary(task: Path) -> None:
    (task / "labelvocabulary.csv").unlink()


def with_metadata(task: Path, **changed: object) -> None:
    file = task / "task_metadata.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changed))


def two_names(task: Path) -> None:
    (task / "labelvocabulary.csv").write_text("idx,label\n0,loud\n1,soft\n2,loud\n")


def elsewhere(task: Path) -> None:
    (task / "test.json").write_text(json.dumps({"../train/train0.wav": ["loud"], "test1.wav": ["soft"]}))


def half_a_grid(task: Path) -> None:
    with_metadata(task, evaluation_params={"event_postprocessing_grid": {"median_filter_ms": [250]}})


def no_grid(task: Path) -> None:
    with_metadata(task, evaluation_params=["event_postprocessing_grid"])


def fixes(**values: object) -> Callable[[Path], None]:
    return lambda task: with_metadata(task, evaluation_params={"task_specific_param_grid": values})


def post(**values: object) -> Callable[[Path], None]:
    return lambda task: with_metadata(
        task,
        evaluation_params={"event_postprocessing_grid": {"median_filter_ms": [250], "min_duration": [125]} | values},
    )


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (drop_split, "valid.json cannot be read"),
        (strange_label, "test0.wav do not fit the vocabulary"),
        (one_class, "all clips of valid have the same class"),
        (no_sound, "test3.wav"),
        (no_audio, "holds no audio"),
        (no_vocabulary, "is no vocabulary"),
        (two_names, "names 'loud' twice"),
        (elsewhere, "names ../train/train0.wav; files of a split lie in one folder"),
        (
            lambda task: with_metadata(task, use_scoring_for_early_stopping="false"),
            "use_scoring_for_early_stopping is 'false'",
        ),
        (half_a_grid, "lacks 'min_duration'"),
        (no_grid, "has a value of the wrong type"),
        (fixes(lr=["x"]), "fixes lr to 'x'; it must be a number above 0"),
        (fixes(batch_size=[0]), "fixes batch_size to 0"),
        (fixes(dropout=[1]), "fixes dropout to 1"),
        (fixes(hidden_dim=[8.5]), "fixes hidden_dim to 8.5"),
        (fixes(initialization=[["zeros_"]]), "fixes initialization to ['zeros_']"),
        (fixes(max_epochs=[2]), "check_val_every_n_epoch 3 above max_epochs 2; nothing would be validated"),
        (post(median_filter_ms=["250"]), "median_filter_ms ['250']; it must be a list of milliseconds"),
        (post(median_filter_ms="250"), "median_filter_ms '250'"),
        (post(min_duration=[]), "min_duration []"),
        (lambda task: with_metadata(task, evaluation_params={"task_specific_param_grid": ["lr"]}), "grid is ['lr']"),
        (lambda task: with_metadata(task, splits=[["train"], "valid", "test"]), "has the split ['train']"),
        (lambda task: with_metadata(task, sample_duration=float("nan")), "sample_duration is nan"),
    ],
)
def test_a_broken_task_is_named_and_the_others_are_kept(
    levels: Levels, tmp_path: Path, spoil: Callable[[Path], None], message: str
) -> None:
    make_task(tmp_path / "tasks" / "noise-v1")
    spoil(make_task(tmp_path / "tasks" / "spoiled-v1"))
    found = failures(tmp_path)
    assert {task for task, _ in found} == {"spoiled-v1"}
    assert all(message in each for each in found.values())


def test_labels_that_nothing_trains_are_reported(levels: Levels, tmp_path: Path) -> None:
    task, messages = make_task(tmp_path / "tasks" / "noise-v1"), list[str]()
    with_metadata(task, prediction_type="multilabel", evaluation=["mAP"])
    labels = json.loads((task / "train.json").read_text())
    (task / "train.json").write_text(
        json.dumps({name: ["loud"] if label == ["loud"] else [] for name, label in labels.items()})
    )
    tested = json.loads((task / "test.json").read_text())
    evaluate("hear:levels", tmp_path / "tasks", tmp_path / "out", log=messages.append)
    assert "noise-v1: no training file has the label soft, which test has" in messages
    (task / "test.json").write_text(json.dumps({name: label for name, label in tested.items() if label == ["loud"]}))
    remarks = evaluate("hear:levels", tmp_path / "tasks", tmp_path / "again").remarks
    assert f"- {remarks[0]}" in (tmp_path / "again" / "results-heareval.md").read_text()
    assert remarks[0] == "noise-v1: the files of test have one label of 2"


def seconds(frames: Frames) -> Frames:
    return frames[0], frames[1] / 1000


def backwards(frames: Frames) -> Frames:
    return frames[0], frames[1].flip(1)


def too_few_times(frames: Frames) -> Frames:
    return frames[0], frames[1][:, 1:]


def one_clip(frames: Frames) -> Frames:
    return frames[0][:1], frames[1][:1]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (seconds, "times must be milliseconds"),
        (backwards, "times must increase"),
        (too_few_times, "times have the shape"),
        (one_clip, "must be floats"),
        (lambda frames: frames[0], "must return embeddings and times"),
        (lambda frames: (frames[0].numpy(), frames[1]), "returned ndarray; expected a torch tensor"),
        (lambda frames: 1 / 0, "failed with ZeroDivisionError"),
    ],
)
def test_frames_of_no_use_are_named(
    levels: Levels, tmp_path: Path, spoil: Callable[[Frames], Any], message: str
) -> None:
    make_task(tmp_path / "tasks" / "onsets-v1", event=True)
    plain = levels.get_timestamp_embeddings
    levels.get_timestamp_embeddings = lambda audio, model: spoil(plain(audio, model))  # type: ignore[method-assign]
    found = failures(tmp_path)
    assert set(found) == {("onsets-v1", "levels")}
    assert message in found["onsets-v1", "levels"]


def test_a_model_that_changes_its_size_is_named(levels: Levels, tmp_path: Path) -> None:
    make_task(tmp_path / "tasks" / "noise-v1", clips=10)
    plain = levels.get_scene_embeddings
    levels.get_scene_embeddings = lambda audio, model: plain(audio, model)[:, : 1 + (levels.calls < 3)]  # type: ignore[method-assign]
    assert "of the splits differ in size" in failures(tmp_path)["noise-v1", "levels"]


@pytest.mark.parametrize("rate", [np.int64(RATE), np.float32(RATE), float(RATE)])
def test_a_sample_rate_may_be_a_number_of_numpy(levels: Levels, rate: Any) -> None:
    levels.sample_rate = rate
    found = encoders("hear:levels")[0].sample_rate
    assert found == RATE and type(found) is int


@pytest.mark.parametrize("rate", [None, "16k", 0, -RATE, 16000.5, np.float64(16000.5), float("nan"), float("inf")])
def test_a_sample_rate_that_is_none_is_named(levels: Levels, rate: Any) -> None:
    levels.sample_rate = rate
    with pytest.raises(ConfigError, match="sample_rate"):
        encoders("hear:levels")


@pytest.mark.parametrize("wrong", [RuntimeError, ImportError])
def test_a_model_that_does_not_load_is_named(levels: Levels, wrong: type[Exception]) -> None:
    def fail(weights: str = "") -> Levels:
        raise wrong("no\nweights")

    levels.load_model = fail  # type: ignore[method-assign]
    with pytest.raises(ConfigError, match=f"load_model of levels failed with {wrong.__name__}: no weights"):
        encoders("hear:levels")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("hear:", "the module name is missing"),
        ("hear:broken_encoder", "importing broken_encoder failed with RuntimeError: no driver"),
        ("xares:broken_encoder", "importing broken_encoder failed with RuntimeError: no driver"),
        ("xares:wrapped_encoder:Demanding", "Demanding of wrapped_encoder failed with TypeError"),
        ("xares:wrapped_encoder:Hopless", "hop_size_in_ms '40 ms'; it must be a number of milliseconds"),
        ("xares:wrapped_encoder:Missing", "wrapped_encoder has 0 encoders named Missing"),
    ],
)
def test_a_module_that_cannot_be_used_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, message: str
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "broken_encoder.py").write_text("raise RuntimeError('no\\ndriver')\n")
    (tmp_path / "wrapped_encoder.py").write_text("from inner_encoder import Demanding, Hopless\n")
    (tmp_path / "inner_encoder.py").write_text(
        "import torch\nclass Demanding(torch.nn.Module):\n    def __init__(self, weights): ...\n"
        "class Hopless(torch.nn.Module):\n    sampling_rate, output_dim, hop_size_in_ms = 16000, 2, '40 ms'\n"
    )
    with pytest.raises(ConfigError, match=message):
        encoders(name)


def test_times_that_are_no_numbers_are_named(levels: Levels, tmp_path: Path) -> None:
    make_task(tmp_path / "tasks" / "onsets-v1", event=True)
    plain = levels.get_timestamp_embeddings

    def one_frame(audio: torch.Tensor, model: object) -> Frames:
        frames, times = plain(audio, model)
        return frames[:, :1], times[:, :1] * torch.nan

    levels.get_timestamp_embeddings = one_frame  # type: ignore[method-assign]
    assert "and be finite" in failures(tmp_path)["onsets-v1", "levels"]


def test_exit_codes_say_what_failed(levels: Levels, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "tasks").mkdir()
    command = ["evaluate", "hear:levels", str(tmp_path / "tasks"), "-o", str(tmp_path / "out")]
    assert main(command) == 2
    assert "holds no task" in capsys.readouterr().err
    no_audio(make_task(tmp_path / "tasks" / "spoiled-v1"))
    assert main(command) == 2
    assert "nothing could be scored" in capsys.readouterr().err
    make_task(tmp_path / "tasks" / "noise-v1")
    assert main([*command, "--resume"]) == 0
    assert main([*command, "--resume", "--strict"]) == 1


def test_changed_labels_are_noticed(levels: Levels, tmp_path: Path) -> None:
    task = make_task(tmp_path / "tasks" / "noise-v1")
    first = evaluate("hear:levels", tmp_path / "tasks", tmp_path / "out")
    with_metadata = json.loads((task / "test.json").read_text())
    swapped = {name: ["soft" if label == ["loud"] else "loud"] for name, label in with_metadata.items()}
    (task / "test.json").write_text(json.dumps(swapped))
    messages: list[str] = []
    again = evaluate("hear:levels", tmp_path / "tasks", tmp_path / "out", resume=True, log=messages.append)
    assert "labels or files have changed" in messages[0]
    assert [result.value for result in again.results] == pytest.approx([1 - result.value for result in first.results])
    left = tmp_path / "out" / "embeddings" / "levels"
    for folder in (task, left / "noise-v1"):
        (folder / "test.json").write_text(json.dumps(with_metadata))
    for name in ("checksums.json", "embedded-by.json"):  # heareval writes none
        (left / "noise-v1" / name).unlink()
    stored = [evaluate(f"embeddings:{left}", tmp_path / "tasks", tmp_path / "stored", resume=True) for _ in range(2)]
    assert stored[0] == stored[1]
    assert stored[0].results[0].value == first.results[0].value
    assert RATE == levels.sample_rate


def test_changed_audio_is_noticed_where_it_is_on_record(levels: Levels, tmp_path: Path) -> None:
    task, out = make_task(tmp_path / "tasks" / "noise-v1"), tmp_path / "out"
    first = evaluate("hear:levels", tmp_path / "tasks", out)
    calls, messages = levels.calls, list[str]()
    soundfile.write(task / "16000" / "test" / "test3.wav", np.zeros(RATE // 2), RATE)
    again = evaluate("hear:levels", tmp_path / "tasks", out, resume=True, log=messages.append)
    assert "labels or files have changed" in messages[0] and levels.calls > calls
    assert again.results[0].scores != first.results[0].scores
    for record in out.rglob("*.audio-files.sha256"):
        record.unlink()
    calls = levels.calls
    assert evaluate("hear:levels", tmp_path / "tasks", out, resume=True) == again
    assert levels.calls > calls  # files of the embeddings are missing: they are made again
