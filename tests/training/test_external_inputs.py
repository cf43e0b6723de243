"""Runs that learn from a frozen teacher, labels or captions: from a table to a model, resumed, in two processes, and
what is refused.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import save_file
from torch import Tensor

from unheard.config import override
from unheard.errors import CheckpointError, ConfigError, DataError
from unheard.recipes import find_recipe
from unheard.recipes.recipe import Recipe
from unheard.training.checkpoints import checkpoints
from unheard.training.pretrain import pretrain
from unheard.training.resume import resume
from unheard.weights.checkpoint import load_model
from unheard.weights.tensors import read_tensors

transformers = pytest.importorskip("transformers")

SIZES = (
    "frames=48",
    "embed_dim=24",
    "depth=2",
    "num_heads=2",
    "decoder_embed_dim=16",
    "decoder_depth=1",
    "decoder_num_heads=2",
)
LENGTH = ("batch_size=8", "steps=6", "log_every=1", "checkpoint_every=2", "epochs=null", "learning_rate=0.001")
SETTINGS = [*(f"model.{size}" for size in SIZES), "model.decoder=global", *(f"training.{length}" for length in LENGTH)]
RATE = 16000
TEACHER = "objectives.distill.teachers.0.name"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve clips with labels and captions; some have neither."""
    folder = tmp_path_factory.mktemp("corpus")
    generator = np.random.default_rng(0)
    rows = [["path", "label", "caption"]]
    for index in range(12):
        length = (16000, 5000, 7500)[index % 3]
        tone = np.sin(np.arange(length) * (0.05 + 0.03 * index)) * 0.3 + 0.01 * generator.standard_normal(length)
        soundfile.write(folder / f"{index:02d}.wav", tone.astype(np.float32), RATE)
        known = index % 4 != 3
        rows.append(
            [
                f"{index:02d}.wav",
                ("low", "high", "low|odd")[index % 3] if known else "",
                f"tone {index % 5}" if known else "",
            ]
        )
    with (folder / "table.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return folder / "table.csv"


@pytest.fixture(scope="module")
def clap(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny CLAP with random weights."""
    folder = tmp_path_factory.mktemp("clap")
    torch.manual_seed(0)
    sizes = {
        "patch_embeds_hidden_size": 16,
        "depths": [1, 1, 1, 1],
        "num_attention_heads": [1, 2, 4, 8],
        "hidden_size": 128,
    }
    text = {
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 16,
        "vocab_size": 50,
    }
    transformers.ClapModel(
        transformers.ClapConfig(audio_config=sizes, text_config=text, projection_dim=32)
    ).save_pretrained(folder)
    transformers.ClapFeatureExtractor(frequency_min=50, truncation="rand_trunc").save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BERT with random weights that reads digits."""
    folder = tmp_path_factory.mktemp("text")
    torch.manual_seed(0)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "tone", *(f"{i}" for i in range(10))]
    config = transformers.BertConfig(
        vocab_size=len(words),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=32,
    )
    transformers.BertModel(config).save_pretrained(folder)
    transformers.BertTokenizer(vocab={word: number for number, word in enumerate(words)}).save_pretrained(folder)
    return folder


@pytest.fixture
def settings(clap: Path, text: Path) -> dict[str, list[str]]:
    """Settings of each recipe, without its sizes."""
    teacher = [f"{TEACHER}={clap}"]
    return {
        "mam-clap": teacher,
        "sup-mam": [],
        "sup-mam-clap": teacher,
        "clap-mini": [f"objectives.contrast.text={text}", "objectives.contrast.dim=8"],
    }


def recipe(name: str, extra: list[str]) -> Recipe:
    return override(find_recipe(name), [*SETTINGS, *extra])


def rows(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def learner_state(run: Path) -> dict[str, Tensor]:
    return read_tensors(checkpoints(run)[-1] / "learner.safetensors")


@pytest.mark.parametrize("name", ["mam-clap", "sup-mam", "sup-mam-clap", "clap-mini"])
def test_a_resumed_run_is_the_uninterrupted_one(
    name: str, corpus: Path, settings: dict[str, list[str]], tmp_path: Path
) -> None:
    pretrain(corpus, tmp_path / "whole", recipe(name, settings[name]), device="cpu")
    shutil.copytree(tmp_path / "whole", tmp_path / "broken")
    shutil.rmtree(checkpoints(tmp_path / "broken")[-1])
    resume(tmp_path / "broken", device="cpu")
    ours, theirs = learner_state(tmp_path / "broken"), learner_state(tmp_path / "whole")
    assert ours.keys() == theirs.keys()
    for key, value in theirs.items():
        assert torch.equal(ours[key], value), key
    assert all(np.isfinite(row["loss"]) for row in rows(tmp_path / "whole"))


def test_the_saved_model_holds_no_teacher_and_knows_its_classes(
    corpus: Path, settings: dict[str, list[str]], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    pretrain(corpus, run, recipe("sup-mam-clap", settings["sup-mam-clap"]), device="cpu")
    saved = load_model(run)
    assert (
        saved.recipe.objectives.supervise.classes == ("high", "low", "odd")
        and saved.recipe.objectives.distill.teachers[0].dim == 128
    )
    weights = read_tensors(run / "model/model.safetensors")
    assert sum(value.numel() for value in weights.values()) < 1e5 and not [
        key for key in weights if "audio" in key or "projection" in key
    ]


def test_a_run_finds_its_teacher_from_another_folder(
    corpus: Path, clap: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(clap.parent)
    pretrain(corpus, tmp_path / "run", recipe("mam-clap", [f"{TEACHER}={clap.name}"]), device="cpu")
    shutil.rmtree(checkpoints(tmp_path / "run")[-1])
    monkeypatch.chdir(tmp_path)
    assert resume(tmp_path / "run", device="cpu").finished


def test_another_text_encoder_is_refused_at_resume(
    corpus: Path, settings: dict[str, list[str]], text: Path, tmp_path: Path
) -> None:
    run, file, weights = tmp_path / "run", text / "model.safetensors", read_tensors(text / "model.safetensors")
    pretrain(corpus, run, recipe("clap-mini", settings["clap-mini"]), device="cpu")
    shutil.rmtree(checkpoints(run)[-1])
    save_file({name: 1.1 * value for name, value in weights.items()}, file, {"format": "pt"})
    with pytest.raises(DataError, match=r"the text encoder of .* changed since the run started"):
        resume(run, device="cpu")
    save_file(weights, file, {"format": "pt"})


def test_any_model_of_ours_can_teach(corpus: Path, tmp_path: Path) -> None:
    pretrain(corpus, tmp_path / "teacher", recipe("msm-mae", ["training.steps=2"]), device="cpu")
    student = [
        "objectives.distill.weight=1",
        f"{TEACHER}={tmp_path / 'teacher'}",
        "data.input=wav",
        "training.steps=2",
    ]
    pretrain(corpus, tmp_path / "student", recipe("msm-mae", student), device="cpu")
    assert {"loss/distill", "loss/reconstruct"} <= rows(tmp_path / "student")[0].keys()
    assert load_model(tmp_path / "student").recipe.objectives.distill.teachers[0].dim == 24


def test_without_its_weights_the_student_is_audiomae(corpus: Path, tmp_path: Path) -> None:
    off = ["objectives.supervise.weight=0"]
    pretrain(corpus, tmp_path / "off", recipe("sup-mam", off), device="cpu")
    pretrain(corpus, tmp_path / "plain", recipe("audiomae", []), device="cpu")
    ours, theirs = learner_state(tmp_path / "off"), learner_state(tmp_path / "plain")
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in theirs)


@pytest.mark.parametrize("name", [pytest.param("clap-mini", marks=pytest.mark.slow), "sup-mam-clap"])
def test_two_processes_learn_what_one_does(
    name: str, corpus: Path, settings: dict[str, list[str]], tmp_path: Path
) -> None:
    options = [part for setting in [*SETTINGS, *settings[name]] for part in ("--set", setting)]
    start = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node",
        "2",
        "--master-port",
        "0",
        "--standalone",
    ]
    command = [
        *start,
        "-m",
        "unheard",
        "pretrain",
        str(corpus),
        "-o",
        str(tmp_path / "two"),
        "--recipe",
        name,
        "--device",
        "cpu",
        *options,
    ]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr
    pretrain(corpus, tmp_path / "one", recipe(name, settings[name]), device="cpu")
    ours, theirs = learner_state(tmp_path / "two"), learner_state(tmp_path / "one")
    for key, value in theirs.items():
        if not key.endswith("qkv.bias"):  # keys' biases have no gradient but rounding, which Adam makes a step of
            torch.testing.assert_close(
                ours[key], value, atol=1e-4, rtol=1e-3, msg=lambda text, key=key: f"{key}: {text}"
            )
    for two, alone in zip(rows(tmp_path / "two"), rows(tmp_path / "one"), strict=True):
        assert all(two[key] == pytest.approx(alone[key], rel=1e-4, abs=1e-6) for key in alone if key.startswith("loss"))


def test_what_a_recipe_lacks_is_reported_before_anything_is_read(corpus: Path, clap: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"objectives\.distill\.teachers\.0\.name"):
        pretrain(corpus, tmp_path / "run", recipe("mam-clap", []), device="cpu")
    with pytest.raises(CheckpointError, match="no model"):
        pretrain(corpus, tmp_path / "run", recipe("mam-clap", [f"{TEACHER}=nowhere"]), device="cpu")
    with pytest.raises(ConfigError, match=r"data\.input=wav"):
        pretrain(
            corpus,
            tmp_path / "run",
            recipe("mam-clap", [f"{TEACHER}={clap}", "data.input=spec"]),
            device="cpu",
        )
    with pytest.raises(ConfigError, match=r"data\.short_clips=pad"):
        pretrain(corpus, tmp_path / "run", recipe("sup-mam", ["data.short_clips=join"]), device="cpu")
    assert not (tmp_path / "run").exists()


def test_a_corpus_without_labels_or_captions_is_refused(
    corpus: Path, settings: dict[str, list[str]], tmp_path: Path
) -> None:
    for name, word in (("sup-mam", "label"), ("clap-mini", "caption")):
        with pytest.raises(DataError, match=word):
            pretrain(_plain(corpus, tmp_path), tmp_path / name, recipe(name, settings[name]), device="cpu")


def test_another_teacher_ends_a_run(corpus: Path, clap: Path, tmp_path: Path) -> None:
    mine = tmp_path / "clap"
    shutil.copytree(clap, mine)
    pretrain(corpus, tmp_path / "run", recipe("mam-clap", [f"{TEACHER}={mine}"]), device="cpu")
    shutil.rmtree(checkpoints(tmp_path / "run")[-1])
    model = transformers.ClapModel.from_pretrained(mine)
    with torch.no_grad():
        model.audio_model.audio_encoder.norm.weight.mul_(1.5)
    model.save_pretrained(mine)
    with pytest.raises(DataError, match="teacher"):
        resume(tmp_path / "run", device="cpu")


def _plain(corpus: Path, folder: Path) -> Path:
    """The same clips without labels and captions."""
    table = folder / "plain.csv"
    table.write_text("path\n" + "".join(f"{file}\n" for file in sorted(corpus.parent.glob("*.wav"))))
    return table
