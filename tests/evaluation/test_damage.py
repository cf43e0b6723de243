"""Outputs of evaluations and probes are locked while they are written and verified when they are read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.evaluation.made import Levels, make_task
from tests.faults.inputs import make_model, make_sounds

import unheard
from unheard import api
from unheard.api import evaluate
from unheard.cli import main
from unheard.embedding.verify import verify
from unheard.errors import ConfigError, DamageWarning, DataError
from unheard.evaluation.encoders.choose import PrecomputedEmbeddings
from unheard.evaluation.hear import suite
from unheard.evaluation.hear.fit import FitResult
from unheard.evaluation.hear.fit_cache import DiskFitCache
from unheard.evaluation.hear.head import HyperParams
from unheard.evaluation.probe.cache import EmbeddingCache
from unheard.finetuning.scores import score_labelled
from unheard.outputs import locked_file, locked_folder
from unheard.teachers.hear_module import HearEncoder


def flip(file: Path, at: int = -1) -> None:
    content = bytearray(file.read_bytes())
    content[at] ^= 4
    file.write_bytes(content)


@pytest.fixture
def task(tmp_path: Path) -> Path:
    return make_task(tmp_path / "tasks" / "noise-v1")


def evaluated(task: Path, out: Path, levels: Levels) -> tuple[suite.Report, list[str]]:
    messages: list[str] = []
    return suite.evaluate([HearEncoder("levels", levels, levels, "levels")], [task], out, log=messages.append), messages


def test_damaged_embeddings_are_named_and_made_again(task: Path, tmp_path: Path) -> None:
    levels, out = Levels(), tmp_path / "out"
    first, _ = evaluated(task, out, levels)
    assert not verify([out])
    for name in ("train.embeddings.npy", "test.target-labels.pkl", "valid.json", "checksums.json", "embedded-by.json"):
        flip(out / "embeddings" / "levels" / "noise-v1" / name, at=5)
        levels.calls = 0
        again, messages = evaluated(task, out, levels)
        assert (
            again == first
            and levels.calls == 3
            and any(word in messages[0] for word in ("differ from their checksums", "have changed"))
        )
        assert not verify([out])
    flip(out / "embeddings" / "levels" / "noise-v1" / "train.embeddings.npy")
    assert "train.embeddings.npy is missing or differs" in verify([out])[0]
    stored = suite.evaluate([PrecomputedEmbeddings(out / "embeddings" / "levels")], [task], tmp_path / "stored")
    assert not stored.results and "train.embeddings.npy differ from their checksums" in stored.failed[0][2]


def test_a_damaged_batch_is_embedded_again(task: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    levels, out = Levels(), tmp_path / "out"
    monkeypatch.setattr("unheard.evaluation.hear.embeddings.batch_size", lambda *given: 4)
    first, _ = evaluated(task, tmp_path / "whole", levels)
    levels.get_scene_embeddings, embed = fails_after(2, levels), levels.get_scene_embeddings  # type: ignore[method-assign]
    assert evaluated(task, out, levels)[0].failed
    levels.get_scene_embeddings = embed  # type: ignore[method-assign]
    parts = sorted((out / "embeddings" / "levels" / "noise-v1" / "train.parts").iterdir())
    assert len(parts) == 2
    flip(parts[0], at=200)
    with pytest.warns(DamageWarning, match=f"{parts[0].name} is damaged"):
        assert evaluated(task, out, levels)[0] == first


def test_a_split_that_was_damaged_in_a_pause_is_embedded_again(task: Path, tmp_path: Path) -> None:
    levels, out = Levels(), tmp_path / "out"
    first, _ = evaluated(task, tmp_path / "whole", levels)
    levels.get_scene_embeddings, embed = fails_after(1, levels), levels.get_scene_embeddings  # type: ignore[method-assign]
    assert evaluated(task, out, levels)[0].failed  # the split train is complete, the others are not
    levels.get_scene_embeddings = embed  # type: ignore[method-assign]
    flip(out / "embeddings" / "levels" / "noise-v1" / "train.embeddings.npy")
    again, messages = evaluated(task, out, levels)
    assert (
        again == first
        and "train.embeddings.npy of levels differ from their checksums" in messages[0]
        and not verify([out])
    )


def fails_after(calls: int, levels: Levels) -> Callable[[torch.Tensor, Any], torch.Tensor]:
    embed, left = levels.get_scene_embeddings, iter(range(calls))

    def fails(audio: torch.Tensor, model: Any) -> torch.Tensor:
        if next(left, None) is None:
            raise OSError("no space left")
        return embed(audio, model)

    return fails


def test_damaged_scores_are_made_again(task: Path, tmp_path: Path) -> None:
    levels, out = Levels(), tmp_path / "out"
    first, _ = evaluated(task, out, levels)
    file = out / "scores" / "heareval" / "levels" / "noise-v1.json"
    file.write_text(file.read_text().replace('"value": ', '"value": 0'))
    again, messages = evaluated(task, out, levels)
    assert again == first and f"or {file} is damaged; scoring it again" in messages[0]


def test_a_damaged_fit_or_vector_counts_as_missing(tmp_path: Path) -> None:
    fits, vectors = DiskFitCache(tmp_path / "fits"), EmbeddingCache(tmp_path / "vectors", "model 1")
    fits.put(3, FitResult(HyperParams(), {"weight": torch.ones(4)}, float("nan"), 2))
    found = fits.get(3)
    assert found is not None and np.isnan(found.score) and found.state["weight"].tolist() == [1] * 4
    assert vectors("model", lambda: np.ones(3)).tolist() == vectors("model", lambda: np.zeros(3)).tolist() == [1] * 3
    assert EmbeddingCache(tmp_path / "vectors", "model 2")("other", lambda: np.zeros(3)).tolist() == [0] * 3
    flip(tmp_path / "fits" / "003.safetensors")
    flip(tmp_path / "vectors" / "model.npy")
    with pytest.warns(DamageWarning, match="003.safetensors is damaged: it differs from its checksum"):
        assert fits.get(3) is None
    with pytest.warns(DamageWarning, match="model.npy is damaged"):
        assert vectors("model", lambda: np.full(3, 2.0)).tolist() == [2] * 3
    flip(tmp_path / "fits" / "003.json", at=20)
    flip(tmp_path / "vectors" / "model.json", at=20)
    with pytest.warns(DamageWarning, match="003.json is damaged"):
        assert fits.get(3) is None
    with pytest.warns(DamageWarning, match="model.json is damaged"):
        assert vectors("model", lambda: np.full(3, 4.0)).tolist() == [4] * 3
    assert fits.get(4) is None


def test_an_output_that_is_being_written_is_refused(task: Path, tmp_path: Path) -> None:
    sounds, model = make_sounds(tmp_path / "sounds"), make_model(tmp_path / "model")
    out = tmp_path / "out"
    with locked_folder(out):
        (out / "something").touch()
        for write in (
            lambda: evaluate(model, task.parent, out, resume=True),
            lambda: evaluate(model, task.parent, out),
            lambda: api.probe(unheard.load(model), sounds / "labels.csv", out),
            lambda: score_labelled(model, sounds / "labels.csv", out),
            lambda: api.probe(unheard.load(model), sounds / "labels.csv", out, overwrite=True),
        ):
            with pytest.raises(ConfigError, match=r"out is being written by process \d+ on "):
                write()
    with pytest.raises(ConfigError, match="out exists; choose another -o"):
        evaluate(model, task.parent, out)


def test_predictions_that_are_being_written_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sounds, model, out = make_sounds(tmp_path / "sounds", 12), make_model(tmp_path / "model"), tmp_path / "out.csv"
    tune = [
        "finetune",
        model,
        sounds / "labels.csv",
        "-o",
        tmp_path / "run",
        "--steps",
        1,
        "--batch-size",
        2,
        "--device",
        "cpu",
    ]
    assert main([str(each) for each in tune]) == 0
    predict = ["predict", str(tmp_path / "run"), str(sounds / "00.wav"), "-o", str(out), "--device", "cpu"]
    with locked_file(out):
        assert main(predict) == 2
    assert "out.csv is being written by process" in capsys.readouterr().err
    assert main(predict) == 0 and out.is_file() and not list(tmp_path.glob(".out.csv*"))


def test_a_damaged_report_of_a_probe_is_refused_by_name(tmp_path: Path) -> None:
    sounds, model = make_sounds(tmp_path / "sounds"), make_model(tmp_path / "model")
    api.probe(unheard.load(model), sounds / "labels.csv", tmp_path / "probe", seeds=1)
    assert not verify([tmp_path / "probe"])
    flip(tmp_path / "probe" / "scores.csv")
    assert "scores.csv is missing or differs" in verify([tmp_path / "probe"])[0]
    flip(tmp_path / "probe" / "probe.json", at=40)
    with pytest.raises(DataError, match="probe again"):
        api.report(tmp_path / "probe")
