"""Tables and sounds that fine-tuning cannot use are named in one line; odd lengths just work."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from unheard.audio.frontend import Statistics
from unheard.cli import main
from unheard.config import override
from unheard.embedding.loading import load
from unheard.errors import ConfigError, DataError
from unheard.finetuning.named_recipes import find_finetune_recipe
from unheard.finetuning.recipe import FinetuneRecipe
from unheard.finetuning.run import finetune
from unheard.recipes import find_recipe
from unheard.recipes.learner import build
from unheard.weights.checkpoint import Provenance, save_model

SIZES = (
    "frames=32",
    "embed_dim=24",
    "depth=1",
    "num_heads=2",
    "decoder_embed_dim=16",
    "decoder_depth=1",
    "decoder_num_heads=2",
)
BASE = override(find_recipe("msm-mae"), [f"model.{size}" for size in SIZES])
SHORT = ["training.batch_size=4", "training.steps=2"]
QUICK = override(FinetuneRecipe(), SHORT)
GOOD = [f"{i}.wav,{'ab'[i % 2]},{side}" for i, side in enumerate(["train"] * 6 + ["valid"] * 2 + ["test"] * 2)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place, rng = tmp_path_factory.mktemp("odd"), np.random.default_rng(0)
    for number in range(10):
        soundfile.write(place / f"{number}.wav", rng.normal(0, 0.1, 4000), 16000)
    for name, samples in (("none", 0), ("one", 1), ("ten", 10), ("long", 160_000)):
        soundfile.write(place / f"{name}.wav", rng.normal(0, 0.1, samples), 16000)
    (place / "broken.wav").write_bytes(b"no sound")
    save_model(place / "model", build(BASE), BASE, Statistics((-9.0,), (4.0,)), Provenance())
    return place


def tune(
    folder: Path, run: Path, rows: list[str], header: str = "path,label,split", recipe: FinetuneRecipe = QUICK
) -> Path:
    (folder / "labels.csv").write_text("\n".join([header, *rows]) + "\n")
    assert finetune(folder / "model", folder / "labels.csv", run, recipe, device="cpu")
    return run


@pytest.mark.parametrize(
    ("rows", "header", "hint"),
    [
        (GOOD, "path,class,split", "lacks the column label; it has path, class, split"),
        ([], "path,label", "has no rows"),
        ([f"{i}.wav,a" for i in range(4)], "path,label", "1 class"),
        (
            [row.replace(",b,train", ",a,train") for row in GOOD],
            "path,label,split",
            "test.*missing from the training clips: b",
        ),
        ([*GOOD[:6], "6.wav,c,valid"], "path,label,split", "the split valid has classes without training clips: c"),
        ([*GOOD[:8], "8.wav,c,test"], "path,label,split", "missing from the training clips: c"),
        (
            ["0.wav,a,train", "1.wav,a,train", "2.wav,b,valid", "3.wav,a,test"],
            "path,label,split",
            r"all of one class \(a\)",
        ),
        (
            [f"{i}.wav,{'ab'[i > 4]},{int(i > 4)}" for i in range(10)],
            "path,label,fold",
            "missing from the training clips: a",
        ),
        (["gone.wav,a,train", *GOOD], "path,label,split", "1 files that do not exist, the first gone.wav"),
        ([row.replace("test", "tset") for row in GOOD], "path,label,split", "has the split 'tset'"),
        (
            ["none.wav,a,train", "broken.wav,b,train", "8.wav,a,test", "9.wav,b,test"],
            "path,label,split",
            "none of the training clips",
        ),
        (["none.wav,a,train", "broken.wav,b,train"], "path,label,split", "none of the 2 clips.*no samples"),
        (
            ["none.wav,a,train", *[row for row in GOOD if ",a,train" not in row]],
            "path,label,split",
            "no clip of the classes a.*no samples",
        ),
        (
            ["0.wav,a,train,5,9", "1.wav,b,train,,"],
            "path,label,split,start,end",
            "no clip of the classes a.*no samples after 5 s",
        ),
    ],
)
def test_what_cannot_train_is_named(folder: Path, tmp_path: Path, rows: list[str], header: str, hint: str) -> None:
    with pytest.raises(DataError, match=hint) as raised:
        tune(folder, tmp_path / "run", rows, header)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ["small", "esc50", "audiomae-scv2", "passt-esc50"])
def test_clips_of_one_sample_and_of_many_windows_train_and_choose(folder: Path, tmp_path: Path, name: str) -> None:
    rows = [
        *GOOD,
        "one.wav,a,train",
        "ten.wav,b,train",
        "long.wav,a,train",
        "one.wav,a,valid",
        "long.wav,a,valid",
        "ten.wav,b,test",
    ]
    run = tune(
        folder, tmp_path / "run", rows, recipe=override(find_finetune_recipe(name), [*SHORT, "training.batch_size=9"])
    )
    losses = [json.loads(line)["loss"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert np.isfinite(losses).all()
    for file in ("one.wav", "ten.wav", "long.wav"):
        assert np.isfinite(load(run).classify(folder / file)).all()


def test_files_that_cannot_be_read_are_left_out_of_every_side(folder: Path, tmp_path: Path) -> None:
    rows = [*GOOD, "none.wav,a,train", "broken.wav,a,valid", "none.wav,a,test"]
    run = tune(folder, tmp_path / "run", rows)
    assert load(run).provenance.trained["clips"] == 6


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["task.label_smoothing=0.1", "task.loss=bce"], "belongs to tables with one label a clip"),
        (["task.asymmetric=true"], "task.asymmetric belongs to binary cross-entropy"),
    ],
)
def test_settings_of_another_loss_are_refused(folder: Path, tmp_path: Path, settings: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        tune(folder, tmp_path / "run", GOOD, recipe=override(QUICK, settings))
    assert not (tmp_path / "run").exists()


def test_samples_above_full_scale_are_named(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    loud = np.full(4000, 0.1, np.float32)
    loud[:40] = 1.7
    soundfile.write(folder / "loud.wav", loud, 16000, subtype="FLOAT")
    (folder / "labels.csv").write_text("\n".join(["path,label,split", *GOOD, "loud.wav,a,train"]) + "\n")
    settings = [each for name in SHORT for each in ("--set", name)]
    command = ["finetune", str(folder / "model"), str(folder / "labels.csv"), "-o", str(tmp_path / "run")]
    assert main([*command, "--device", "cpu", *settings]) == 0
    text = "".join(capsys.readouterr())
    assert "note       40 samples were above full scale and were clipped; scores are computed from" in text


def test_a_loss_that_is_no_number_names_step_and_files(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"at step \d+, in a batch of .*\.wav.*training\.learning_rate"):
        tune(
            folder, tmp_path / "run", GOOD, recipe=override(QUICK, ["training.learning_rate=1e18", "training.warmup=0"])
        )
