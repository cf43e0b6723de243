"""A fine-tuning run from start to finish: what it learns and writes, how it selects, stops and continues."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from unheard.audio.frontend import Statistics
from unheard.config import override
from unheard.errors import CheckpointError, ConfigError, DataError
from unheard.files import json_line, read_json_lines
from unheard.finetuning.model_selection import BestModelTracker, scores
from unheard.finetuning.recipe import FinetuneRecipe
from unheard.finetuning.run import Storage, finetune, resume
from unheard.finetuning.session import finished, read_session
from unheard.recipes import find_recipe
from unheard.recipes.learner import build
from unheard.training.callbacks import Callbacks
from unheard.training.checkpoints import checkpoints, read_progress
from unheard.weights.checkpoint import Provenance, load_model, save_model

SIZES = (
    "frames=64",
    "embed_dim=24",
    "depth=2",
    "num_heads=2",
    "decoder_embed_dim=16",
    "decoder_depth=1",
    "decoder_num_heads=2",
)
BASE = override(find_recipe("msm-mae"), [f"model.{size}" for size in SIZES])
QUICK = override(
    FinetuneRecipe(),
    [
        "training.batch_size=8",
        "training.steps=12",
        "training.learning_rate=2e-3",
        "training.checkpoint_every=5",
        "training.log_every=2",
        "adapt.drop_path=0.1",
        "augment.gain_db=[-3,3]",
        "augment.wave_mixup_prob=0.3",
        "augment.mask_time=0.2",
        "augment.patchout=0.2",
    ],
)
CLOCKS = ("time", "seconds", "clips_per_second", "loader_wait")
FINDS = (0.1, 0.35, 1.1)  # radians a sample; tones that a few steps tell apart


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place, rng = tmp_path_factory.mktemp("tones"), np.random.default_rng(0)
    for number in range(30):
        time = np.arange([6000, 10240, 16000][number // 3 % 3])
        wav = 0.2 * np.sin(time * FINDS[number % 3] * rng.uniform(0.95, 1.05)) + 0.02 * rng.standard_normal(len(time))
        soundfile.write(place / f"{number}.wav", np.stack([wav, rng.normal(0, 0.01, len(time))], axis=1), 16000)
    save_model(place / "model", build(BASE), BASE, Statistics((-9.0,), (4.0,)), Provenance())
    sides = ["train"] * 18 + ["valid"] * 6 + ["test"] * 6
    write(place / "labels.csv", "path,label,split", [f"{i}.wav,{'abc'[i % 3]},{sides[i]}" for i in range(30)])
    return place


def write(file: Path, header: str, rows: Sequence[str]) -> Path:
    file.write_text("\n".join([header, *rows]) + "\n")
    return file


def rows(run: Path) -> list[dict[str, float]]:
    return read_json_lines(run / "metrics.jsonl")[0]


def curve(run: Path) -> list[tuple[float, ...]]:
    return [tuple(value for name, value in row.items() if name not in CLOCKS) for row in rows(run)]


def tune(
    folder: Path, run: Path, recipe: FinetuneRecipe = QUICK, table: str = "labels.csv", **options: Storage
) -> Path:
    assert finetune(folder / "model", folder / table, run, recipe, device="cpu", **options)
    return run


def test_it_learns_and_keeps_the_best_weights_by_validation(folder: Path, tmp_path: Path) -> None:
    run = tune(folder, tmp_path / "run", override(QUICK, ["training.steps=60", "augment.wave_mixup_prob=0"]))
    found = rows(run)
    scored = [row for row in found if "valid/balanced_accuracy" in row]
    assert found[-1]["loss"] < 0.7 * found[0]["loss"] and scored[-1]["valid/balanced_accuracy"] > 0.8
    model = load_model(run)
    assert model.classifier is not None and model.classifier.config.labels == ("a", "b", "c")
    best = max(scored, key=lambda row: (row["valid/balanced_accuracy"], -row["valid/loss"]))
    assert model.provenance.trained["steps"] == f"{best['step']} of 60"
    store = {
        name: value
        for name, value in load_model(folder / "model").learner.export_state_dict().items()
        if ".encoder." in name
    }
    assert any(
        not torch.equal(model.learner.export_state_dict()[name], value)
        for name, value in store.items()
        if "blocks" in name
    )
    assert {"config.json", "environment.json", "metrics.jsonl", "model", "checkpoints"} <= {
        file.name for file in run.iterdir()
    }


@pytest.mark.parametrize("average", ["none", "ema", "swa"])
def test_a_resumed_run_repeats_the_uninterrupted_one_number_by_number(
    folder: Path, tmp_path: Path, average: str
) -> None:
    recipe = override(QUICK, [f"adapt.weight_averaging={average}"])
    whole, broken = tune(folder, tmp_path / "whole", recipe), tune(folder, tmp_path / "broken", recipe)
    for place in checkpoints(broken)[1:]:  # as if it had been killed some steps after the checkpoint at step 10
        shutil.rmtree(place)
    with (broken / "metrics.jsonl").open("a") as file:
        file.write('{"step": 15, "lo')
    assert resume(broken, device="cpu")
    assert curve(broken) == curve(whole) and len(curve(whole)) >= 6
    ours, theirs = load_model(broken), load_model(whole)
    assert ours.provenance.trained == theirs.provenance.trained
    assert same(ours.learner.export_state_dict(), theirs.learner.export_state_dict())
    assert ours.classifier and theirs.classifier and same(ours.classifier.state_dict(), theirs.classifier.state_dict())


def same(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(ours[name], value) for name, value in theirs.items())


def test_test_clips_choose_nothing_and_train_nothing(folder: Path, tmp_path: Path) -> None:
    lines = (folder / "labels.csv").read_text().splitlines()
    wrong = [line.replace(",a,", ",b,") if line.endswith("test") else line for line in lines[1:]]
    write(folder / "wrong.csv", lines[0], wrong)
    ours, theirs = tune(folder, tmp_path / "ours"), tune(folder, tmp_path / "theirs", table="wrong.csv")
    assert curve(ours) == curve(theirs)


def test_each_fold_and_channel_has_a_model_of_its_own(folder: Path, tmp_path: Path) -> None:
    write(folder / "folds.csv", "path,label,fold", [f"{i}.wav,{'abc'[i % 3]},{i // 3 % 2}" for i in range(30)])
    recipe = override(QUICK, ["training.steps=2", 'task.channels=["left","right"]'])
    run = tune(folder, tmp_path / "run", recipe, "folds.csv")
    session = read_session(run)
    folders = [session.folder(run, *member) for member in session.members]
    assert [place.name for place in folders] == ["fold-0-left", "fold-1-left", "fold-0-right", "fold-1-right"]
    assert finished(run, session)
    losses = [rows(place)[0]["loss"] for place in folders]
    assert losses[0] != losses[2]  # the right channel is noise
    shutil.rmtree(folders[3])
    assert not finished(run, session) and resume(run, device="cpu") and (folders[3] / "model").is_dir()


def test_patience_stops_early_and_stays_stopped(folder: Path, tmp_path: Path) -> None:
    recipe = override(QUICK, ["training.learning_rate=0", "task.patience=2", "training.steps=40"])
    run = tune(folder, tmp_path / "run", recipe)
    progress = read_progress(checkpoints(run)[-1])
    assert progress.step == progress.total < 40
    before = (run / "metrics.jsonl").read_text()
    assert resume(run, device="cpu") and (run / "metrics.jsonl").read_text() == before


def test_several_labels_a_clip_and_classes_without_annotation(folder: Path, tmp_path: Path) -> None:
    names = ["a", "b", "a|b", ""]
    table = [f"{i}.wav,{names[i % 4]},{'' if i % 2 else 'a'},{'test' if i > 20 else 'train'}" for i in range(30)]
    write(folder / "several.csv", "path,label,known,split", table)
    run = tune(folder, tmp_path / "run", table="several.csv")
    assert "valid/mAP" in rows(run)[-1] and read_session(run).activation == "sigmoid"
    assert load_model(run).classifier.config.activation == "sigmoid"  # type: ignore[union-attr]
    with pytest.raises(ConfigError, match=r"one class per clip.*task\.loss=bce"):
        tune(folder, tmp_path / "other", override(QUICK, ["task.loss=cross-entropy"]), "several.csv")


def test_weights_that_stop_being_numbers_are_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"(?s)at step .*wav.*training\.learning_rate"):
        tune(folder, tmp_path / "run", override(QUICK, ["training.learning_rate=1e18", "training.warmup=0"]))


def test_a_norm_over_the_batch_needs_a_batch(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="at least two"):
        tune(folder, tmp_path / "run", override(QUICK, ["task.norm=batch", "training.batch_size=1"]))
    run = tune(folder, tmp_path / "run", override(QUICK, ["task.norm=batch", "adapt.weight_averaging=ema"]))
    model = load_model(run)
    assert model.classifier is not None and int(model.classifier.state_dict()["norm.num_batches_tracked"]) > 0


def test_more_parts_of_a_batch_give_the_same_curve(folder: Path, tmp_path: Path) -> None:
    still = override(QUICK, ["adapt.drop_path=0", "augment.patchout=0", "training.steps=4"])
    whole = tune(folder, tmp_path / "whole", still)
    parts = tune(folder, tmp_path / "parts", override(still, ["training.accumulate=2"]))
    assert np.allclose([row["loss"] for row in rows(whole)], [row["loss"] for row in rows(parts)], rtol=1e-4)


def test_what_is_there_is_not_replaced_unasked(folder: Path, tmp_path: Path) -> None:
    run = tune(folder, tmp_path / "run", override(QUICK, ["training.steps=1"]))
    with pytest.raises(ConfigError, match="not empty"):
        tune(folder, run)
    tune(folder, run, override(QUICK, ["training.steps=2"]), storage=Storage(overwrite=True))
    with pytest.raises(CheckpointError, match="no run"):
        resume(tmp_path / "nothing")


def test_a_changed_table_is_refused_on_resume(folder: Path, tmp_path: Path) -> None:
    table = shutil.copy(folder / "labels.csv", folder / "changing.csv")
    run = tune(folder, tmp_path / "run", override(QUICK, ["training.steps=2"]), "changing.csv")
    shutil.rmtree(run / "checkpoints")
    Path(table).write_text(Path(table).read_text().replace("0.wav,a", "0.wav,b", 1))
    with pytest.raises(DataError, match="has changed since"):
        resume(run)


def test_the_best_of_a_journal_is_found_again(tmp_path: Path) -> None:
    found = enumerate([(0.5, 1.0), (0.7, 1.0), (0.6, 0.1)])
    lines = [json_line({"step": step, "valid/accuracy": score, "valid/loss": loss}) for step, (score, loss) in found]
    (tmp_path / "metrics.jsonl").write_text("".join(lines))
    best = BestModelTracker(tmp_path, patience=2)
    assert best.best == (0.7, -1.0) and best.waited == 1 and not best.exhausted
    assert not best.update({"accuracy": 0.7, "loss": 1.0}) and best.exhausted
    assert best.update({"accuracy": 0.7, "loss": 0.9}) and not best.exhausted
    assert best.update({})  # without validation clips the latest weights are kept


def test_scores_of_validation_clips() -> None:
    logits = np.array([[2.0, 0.0], [1.0, 0.0], [0.0, 3.0], [1.0, 0.0]])
    found = scores(logits, np.array([[1.0, 0], [1, 0], [0, 1], [0, 1]]), np.ones((4, 2)), "softmax")
    assert found["balanced_accuracy"] == 0.75 and next(iter(found)) == "balanced_accuracy"
    known = np.array([[1.0, 1], [1, 1], [1, 0], [0, 1]])
    assert scores(logits, np.array([[1.0, 0], [0, 0], [0, 1], [1, 1]]), known, "sigmoid")["mAP"] == pytest.approx(
        (1 + 1 / 3) / 2, abs=0.34
    )


def test_damaged_packed_clips_end_a_run_by_name(folder: Path, tmp_path: Path) -> None:
    place, recipe = tmp_path / "shared", override(QUICK, ["training.steps=2"])
    finetune(
        folder / "model", folder / "labels.csv", tmp_path / "first", recipe, storage=Storage(corpus=place), device="cpu"
    )
    (shard,) = place.glob("*/*.bin")
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    with pytest.raises(DataError, match=f"{shard.name}.*differ"):
        finetune(
            folder / "model",
            folder / "labels.csv",
            tmp_path / "second",
            recipe,
            storage=Storage(corpus=place),
            device="cpu",
        )
    assert not list((tmp_path / "second" / "checkpoints").glob("step-*"))


def test_runs_share_packed_clips_and_find_them_on_resume(folder: Path, tmp_path: Path) -> None:
    place, recipe = tmp_path / "shared", override(QUICK, ["training.steps=2"])
    own = tune(folder, tmp_path / "own", recipe)
    lines: list[str] = []
    for name in ("first", "second"):
        report = Callbacks(log=lines.append)
        assert finetune(
            folder / "model",
            folder / "labels.csv",
            tmp_path / name,
            recipe,
            storage=Storage(corpus=place),
            device="cpu",
            report=report,
        )
        assert read_session(tmp_path / name).corpus == str(place) and curve(tmp_path / name) == curve(own)
    assert sum("uses the packed clips in" in line for line in lines) == 1 and len(list(place.iterdir())) == 1
    shutil.rmtree(tmp_path / "second" / "checkpoints")
    shutil.rmtree(place)  # whoever deletes it makes the next run pack again
    assert resume(tmp_path / "second", device="cpu") and len(list(place.iterdir())) == 1
