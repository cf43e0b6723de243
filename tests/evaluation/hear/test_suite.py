"""An evaluation from audio to tables: adapters, resampling, resuming, what goes wrong, files."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from tests.evaluation.made import RATE, Levels, make_task

from unheard.api import evaluate
from unheard.cli import main
from unheard.errors import ConfigError, DataError
from unheard.evaluation.encoders.choose import encoders
from unheard.evaluation.hear import robust
from unheard.evaluation.hear.embeddings import DONE, batch_size, embed_task
from unheard.evaluation.hear.results import markdown, published
from unheard.evaluation.hear.rows import read_splits, shuffled
from unheard.evaluation.hear.task_folder import read_task
from unheard.evaluation.report import Report, Result
from unheard.teachers.hear_module import HearEncoder


def test_any_hear_module_is_evaluated_and_broken_tasks_do_not_stop_the_others(levels: Levels, tmp_path: Path) -> None:
    make_task(tmp_path / "tasks" / "noise-v1")
    make_task(tmp_path / "tasks" / "onsets-v1", event=True)
    (make_task(tmp_path / "tasks" / "ruined-v1") / "test.json").write_text("{")
    next((make_task(tmp_path / "tasks" / "short-v1") / "16000" / "valid").glob("*.wav")).unlink()
    messages: list[str] = []
    report = evaluate("hear:levels", tmp_path / "tasks", tmp_path / "out", log=messages.append)
    assert {(task, encoder) for task, encoder, _ in report.failed} == {
        ("ruined-v1", ""),
        *(("short-v1", e) for e in ("levels", "random", "log-mel")),
    }
    assert len(messages) == 4
    found = {(result.task, result.encoder): result for result in report.results}
    one, other = (found["noise-v1", encoder].protocol for encoder in ("levels", "random"))
    assert one == other and one["clips"] != found["onsets-v1", "levels"].protocol["clips"]
    assert {key: one[key] for key in ("seeds", "grid points")} == {"seeds": 1, "grid points": 8}
    assert set(found) == {
        (task, encoder) for task in ("noise-v1", "onsets-v1") for encoder in ("levels", "random", "log-mel")
    }
    best = found["noise-v1", "log-mel"]
    assert 0 <= best.low <= best.value <= best.high <= 1
    rows = list(csv.DictReader((tmp_path / "out" / "results-heareval.csv").read_text().splitlines()))
    assert {row["score"] for row in rows if row["task"] == "noise-v1"} == {"top1_acc", "mAP", "loss"}
    kept = json.loads((tmp_path / "out" / "results-heareval.json").read_text())
    assert len(kept["results"]) == 6 and len(kept["failed"]) == 4
    for name in ("results-heareval.md", "results-heareval.html"):
        assert "ruined-v1" in (tmp_path / "out" / name).read_text()


def test_what_is_done_is_not_done_again(levels: Levels, tmp_path: Path) -> None:
    make_task(tmp_path / "tasks" / "noise-v1")
    first = evaluate("hear:levels", tmp_path / "tasks", tmp_path / "out")
    calls = levels.calls
    with pytest.raises(ConfigError, match="--resume"):
        evaluate("hear:levels", tmp_path / "tasks", tmp_path / "out")
    again = evaluate("hear:levels", tmp_path / "tasks", tmp_path / "out", resume=True)
    assert levels.calls == calls
    assert again == first
    evaluate("hear:levels", tmp_path / "tasks", tmp_path / "out", mode="robust", seeds=2, resume=True)
    assert levels.calls == calls  # another protocol scores the same embeddings
    assert not list((tmp_path / "out" / "fits").rglob("*.safetensors"))


def test_heads_of_the_fixed_protocol_train_on_the_device(
    levels: Levels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_task(tmp_path / "tasks" / "noise-v1")
    evaluate("hear:levels", tmp_path / "tasks", tmp_path / "out")
    left, asked, make = f"embeddings:{tmp_path / 'out' / 'embeddings' / 'levels'}", [], robust.make_ensemble

    def recorded(heads: Any, hypers: Any, seeds: Any, device: torch.device) -> Any:
        asked.append(device.type)
        return make(heads, hypers, seeds, torch.device("cpu"))

    monkeypatch.setattr(robust, "make_ensemble", recorded)
    evaluate(left, tmp_path / "tasks", tmp_path / "again", mode="robust", seeds=1, device="meta")
    assert set(asked) == {"meta"}


def test_embeddings_that_are_there_are_scored_without_audio(levels: Levels, tmp_path: Path) -> None:
    make_task(tmp_path / "tasks" / "noise-v1")
    first = evaluate("hear:levels", tmp_path / "tasks", tmp_path / "out")
    left = tmp_path / "out" / "embeddings" / "levels"
    again = evaluate(f"embeddings:{left}", left, tmp_path / "again")
    assert [(result.task, result.scores) for result in again.results] == [("noise-v1", first.results[0].scores)]
    (left / "noise-v1" / "test.embeddings.npy").write_bytes(b"1234")
    (left / "noise-v1" / "checksums.json").unlink()  # heareval writes none
    (left / "noise-v1" / "embedded-by.json").unlink()
    assert "holds no complete embeddings" in evaluate(f"embeddings:{left}", left, tmp_path / "third").failed[0][2]


def test_an_interrupted_embedding_continues(levels: Levels, tmp_path: Path) -> None:
    task = read_task(make_task(tmp_path / "noise-v1", clips=400))
    encoder = HearEncoder("levels", levels, levels, "levels")
    assert batch_size(task, RATE) == 168

    def stop(items: Any, total: int, description: str) -> Any:
        for index, item in enumerate(items):
            if "valid" in description and index == 2:
                raise KeyboardInterrupt
            yield item

    with pytest.raises(KeyboardInterrupt):
        embed_task(task, encoder, tmp_path / "out", stop)
    assert not (tmp_path / "out" / DONE).exists()
    assert levels.calls == 5
    embed_task(task, encoder, tmp_path / "out")
    assert levels.calls == 9
    rows = read_splits(tmp_path / "out", task)["valid"]
    loud = (rows.x[:, 0] > 0.05).long()
    assert rows.y.argmax(dim=1).tolist() == (1 - loud).tolist()  # rows and labels are in the same, shuffled order
    assert shuffled(task)["valid"] != list(task.clips["valid"])
    with pytest.raises(DataError, match="another model"):
        embed_task(task, HearEncoder("levels", levels, levels, "other"), tmp_path / "out")


def test_a_folder_of_embeddings_is_a_task_folder_for_heareval(levels: Levels, tmp_path: Path) -> None:
    task = read_task(make_task(tmp_path / "onsets-v1", event=True))
    embed_task(task, HearEncoder("levels", levels, levels, "levels"), tmp_path / "out")
    assert np.fromfile(tmp_path / "out" / "test.embeddings.npy", np.float32).shape == (12 * 10 * 2,)
    assert json.loads((tmp_path / "out" / "test.embedding-dimensions.json").read_text()) == [120, 2]
    stamps = json.loads((tmp_path / "out" / "test.filename-timestamps.json").read_text())
    assert [Path(path).name for path, _ in stamps[::10]] == shuffled(task)["test"]
    assert stamps[0][1] == 25.0
    alone = read_splits(tmp_path / "out", read_task(tmp_path / "out"))["test"]
    assert len(alone.events) == 12 and alone.y.sum() == 120


def test_missing_rates_are_resampled_and_wrong_lengths_refused(levels: Levels, tmp_path: Path) -> None:
    folder, messages = make_task(tmp_path / "tasks" / "noise-v1", rate=48000), list[str]()
    report = evaluate("hear:levels", tmp_path / "tasks", tmp_path / "out", log=messages.append)
    assert not report.failed
    assert "noise-v1: resampling from 48000 Hz, there is no audio of 16000 Hz" in messages
    soundfile.write(folder / "48000" / "test" / "test3.wav", np.zeros(100), 48000)
    failed = evaluate("hear:levels", tmp_path / "tasks", tmp_path / "again").failed
    assert len(failed) == 3 and "test3.wav lasts 0.002 s" in failed[0][2]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda x: x * np.nan, "not finite"),
        (lambda x: x[:, None], r"shape \(\d+, 1, 2\)"),
        (lambda x: x[:1], "must be floats"),
    ],
)
def test_embeddings_of_no_use_are_named(levels: Levels, tmp_path: Path, wrong: Any, message: str) -> None:
    task = read_task(make_task(tmp_path / "noise-v1"))
    plain = levels.get_scene_embeddings
    levels.get_scene_embeddings = lambda audio, model: wrong(plain(audio, model))  # type: ignore[method-assign]
    with pytest.raises(DataError, match=message):
        embed_task(task, HearEncoder("levels", levels, levels, "levels"), tmp_path / "out")


def test_the_command_line_tells_failures_by_its_exit_code(
    levels: Levels, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_task(tmp_path / "tasks" / "noise-v1")
    (make_task(tmp_path / "tasks" / "ruined-v1") / "test.json").write_text("{")
    command = ["evaluate", "hear:levels", str(tmp_path / "tasks"), "-o", str(tmp_path / "out")]
    assert main([*command, "--strict", "--json"]) == 1
    assert len(json.loads(capsys.readouterr().out)["results"]) == 3
    assert main([*command, "--resume", "--tasks", "noise", "--strict"]) == 0
    assert main([*command, "--overwrite", "--tasks", "unicorns"]) == 2
    assert "there is no task unicorns" in capsys.readouterr().err
    assert main(command) == 2
    (tmp_path / "mine").mkdir()
    assert main([*command[:-1], str(tmp_path / "mine"), "--overwrite"]) == 2
    assert "is not an evaluation" in capsys.readouterr().err


def test_published_numbers_are_next_to_ours() -> None:
    rows = published()
    assert len(rows) > 500 and all(0 < row.percent <= 100 and row.source for row in rows)
    result = {"mode": "heareval", "score": "top1_acc", "scores": {}, "splits": [], "chosen": {}, "options": {}}
    ours = [
        Result(
            task="esc50-v2.0.0-full",
            encoder=name,
            value=v,
            low=v - 0.1,
            high=v + 0.1,
            replicates=values * 100,
            **result,
        )
        for name, v, values in (("a", 0.5, [0.4, 0.6]), ("b", 0.45, [0.42, 0.48]), ("c", 0.2, [0.1, 0.3]))
    ]
    table = markdown(Report(ours, []))
    assert "| a | **0.500 [0.400, 0.600]** |" in table
    assert "| b | 0.450 [0.350, 0.550] ≈ |" in table
    assert "| c | 0.200 [0.100, 0.300] |" in table
    assert "| PaSST base | 0.947 | HEAR, MSM-MAE paper (arXiv 2204.12260) |" in table


def test_several_models_share_a_table_and_its_baselines(
    levels: Levels, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tasks, out = make_task(tmp_path / "tasks" / "noise-v1").parent, tmp_path / "out"
    command = ["evaluate", "random-tiny", str(tasks), "-o", str(out), "--compare", "hear:levels"]
    assert main(command) == 0
    assert [result["encoder"] for result in json.loads((out / "results-heareval.json").read_text())["results"]] == [
        "random-tiny", "levels", "random", "log-mel",
    ]  # fmt: skip
    calls = levels.calls
    assert main([*command, "--resume"]) == 0
    assert levels.calls == calls
    before = (out / "results-heareval.csv").read_text()
    assert main([*command, "--resume", "--mode", "robust", "--seeds", "1"]) == 0
    assert (out / "results-robust.csv").is_file() and (out / "results-heareval.csv").read_text() == before
    assert main([*command, "--resume", "--compare", "hear:levels"]) == 2
    assert "2 models have the name levels; rename the folder or the weights of one" in capsys.readouterr().err


def test_another_first_model_brings_baselines_of_its_own(levels: Levels, tmp_path: Path) -> None:
    tasks, out = make_task(tmp_path / "tasks" / "noise-v1").parent, tmp_path / "out"
    evaluate("hear:levels", tasks, out)
    report = evaluate(["random-small", "hear:levels"], tasks, out, resume=True)
    assert not report.failed
    assert [result.encoder for result in report.results] == ["random-small", "levels", "random", "log-mel"]
    names = sorted(folder.name for folder in (out / "embeddings").iterdir())
    assert [name[:-9] if name[:3] in ("log", "ran") and name != "random-small" else name for name in names] == [
        "levels", "log-mel", "random", "random", "random-small",
    ]  # fmt: skip
    assert sorted(folder.name for folder in (out / "scores" / "heareval").iterdir()) == names
    assert len({encoders(name)[2].identity for name in ("random-tiny", "random-small", "hear:levels")}) == 1


def test_the_command_line_refuses_seeds_of_the_published_protocol(
    levels: Levels, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [
        "evaluate",
        "hear:levels",
        str(make_task(tmp_path / "tasks" / "noise-v1").parent),
        "-o",
        str(tmp_path / "out"),
    ]
    assert main([*command, "--seeds", "2"]) == main([*command, "--mode", "heareval", "--seeds", "3"]) == 2
    assert "--seeds needs --mode robust or xares; the mode heareval has one seed" in capsys.readouterr().err
    assert main([*command, "--mode", "robust", "--seeds", "0"]) == 2
    assert not (tmp_path / "out").exists()


def test_an_interrupted_command_says_how_to_go_on(
    levels: Levels, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(audio: torch.Tensor, model: Any) -> torch.Tensor:
        raise KeyboardInterrupt

    sys.modules["levels"].get_scene_embeddings = stop  # type: ignore[attr-defined]
    tasks, out = make_task(tmp_path / "tasks" / "noise-v1").parent, tmp_path / "out"
    assert main(["evaluate", "hear:levels", str(tasks), "-o", str(out)]) == 130
    assert f"finished results are kept in {out}; continue with the same command and --resume" in capsys.readouterr().err
