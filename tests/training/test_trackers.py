"""Rows of a run in other programs: real TensorBoard, wandb (offline) and MLflow (files)."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

import unheard
from unheard.errors import UnheardError
from unheard.trackers import flattened, open_tracker, require_tracker

SETTINGS = [
    *("model.size=tiny", "model.frames=32", "model.embed_dim=24", "model.depth=1", "model.num_heads=1"),
    *("model.decoder_embed_dim=24", "model.decoder_depth=1", "model.decoder_num_heads=1"),
    *("training.batch_size=2", "training.steps=2", "training.log_every=1"),
]


@pytest.fixture
def sounds(tmp_path: Path) -> Path:
    (tmp_path / "sounds").mkdir()
    for number in range(4):
        wav = np.random.default_rng(number).normal(0, 0.1, 8000)
        soundfile.write(tmp_path / "sounds" / f"{number}.wav", wav, 16000)
    return tmp_path / "sounds"


def rows(run: Path) -> list[dict[str, float]]:
    return [json.loads(line)["row"] if "row" in json.loads(line) else json.loads(line) for line in
            (run / "metrics.jsonl").read_text().splitlines()]  # fmt: skip


def test_rows_have_the_norm_of_the_gradients(sounds: Path, tmp_path: Path) -> None:
    unheard.pretrain(sounds, tmp_path / "run", settings=SETTINGS, device="cpu")
    norms = [row["gradient_norm"] for row in rows(tmp_path / "run")]
    assert len(norms) == 2 and all(0 < norm < 100 for norm in norms)


def test_wandb_without_a_network(sounds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    run = tmp_path / "run"
    unheard.pretrain(sounds, run, settings=SETTINGS, log="wandb", device="cpu")
    name = (run / "wandb" / "run.txt").read_text().strip()
    files = list(run.rglob(f"*{name}.wandb"))
    assert len(files) == 1 and b"gradient_norm" in files[0].read_bytes()


def test_mlflow_continues_its_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    for step in (1, 2):
        tracker = open_tracker("mlflow", tmp_path, step - 1, {"model": {"size": "tiny"}})
        assert tracker is not None
        tracker.write(step, {"loss": 1 / step, "gradient_norm": 0.5})
        tracker.close()
    client = mlflow.MlflowClient((tmp_path / "mlflow").absolute().as_uri())
    found = client.search_runs([client.get_experiment_by_name("unheard").experiment_id])
    assert len(found) == 1 and found[0].data.params == {"model.size": "tiny"}
    assert [(each.step, each.value) for each in client.get_metric_history(found[0].info.run_id, "loss")] == [
        (1, 1.0),
        (2, 0.5),
    ]


def test_a_server_that_does_not_answer_ends_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    tracker = open_tracker("mlflow", tmp_path, 0, {})
    assert tracker is not None

    def refused(*_: object, **__: object) -> None:
        raise mlflow.exceptions.MlflowException("connection refused")

    monkeypatch.setattr("mlflow.MlflowClient.log_metric", refused)
    with pytest.warns(UserWarning, match="connection refused.*metrics.jsonl only"):
        tracker.write(1, {"loss": 1.0, "gradient_norm": 0.5})
    tracker.write(2, {"loss": 1.0})
    tracker.close()


@pytest.mark.parametrize("name", ["wandb", "mlflow", "tensorboard"])
def test_a_missing_package_is_named_before_the_run(
    name: str, sounds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UnheardError, match=rf"{name}.*pip install"):
        unheard.pretrain(sounds, tmp_path / "run", settings=SETTINGS, log=name, device="cpu")
    assert not (tmp_path / "run").exists()


def test_settings_by_their_names() -> None:
    assert flattened({"model": {"size": "tiny"}, "name": "a"}) == [("model.size", "tiny"), ("name", "a")]
    require_tracker(None)
