"""A GPU gives the results of the CPU. Every test also runs on the CPU, to verify the test itself."""

from __future__ import annotations

import copy
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor

from unheard.config import override
from unheard.devices import bf16_on_cpu
from unheard.embedding.loading import load
from unheard.errors import ConfigError
from unheard.evaluation.hear.head import Head, HyperParams
from unheard.evaluation.hear.head_ensemble import BatchedHeads, SequentialHeads
from unheard.model import transformer
from unheard.objectives.base import Batch
from unheard.objectives.teacher_schedules import TrainingProgress
from unheard.recipes import find_recipe
from unheard.recipes.learner import PretrainModule, build
from unheard.training.checkpoints import checkpoints
from unheard.training.engine import Engine
from unheard.training.pretrain import pretrain
from unheard.training.resume import resume

DEVICES = pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
SIZES = (
    "frames=64",
    "embed_dim=48",
    "depth=2",
    "num_heads=3",
    "decoder_embed_dim=32",
    "decoder_depth=2",
    "decoder_num_heads=2",
)
SETTINGS = [
    *(f"model.{size}" for size in SIZES), "training.precision=float32", "training.batch_size=8", "training.steps=6",
    "training.log_every=1", "training.checkpoint_every=3", "training.learning_rate=1e-3", "training.warmup=0",
]  # fmt: skip
LATENT = ["objectives.latents.weight=0.5", "objectives.prototypes.weight=0.5", "teacher.momentum_start=0.9"]
EAGER = "training.compile=false"


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sounds")
    generator = np.random.default_rng(0)
    for index in range(8):
        length = 16000 if index % 2 else 5000
        soundfile.write(
            folder / f"{index:02d}.wav", (0.1 * generator.standard_normal(length)).astype(np.float32), 16000
        )
    return folder


def losses(run: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (run / "metrics.jsonl").read_text().splitlines()]


def on(batch: Batch, device: torch.device) -> Batch:
    given = {field.name: getattr(batch, field.name) for field in fields(batch)}
    moved = {name: values.to(device) for name, values in given.items() if isinstance(values, Tensor)}
    return Batch(**moved, targets=None if batch.targets is None else tuple(each.to(device) for each in batch.targets))


def batch_of(learner: PretrainModule) -> Batch:
    """Windows of which some are padded, with what every objective reads."""
    generator, grid, count = torch.Generator().manual_seed(3), learner.grid, 8
    frames = torch.randint(9, grid.frames + 1, (count,), generator=generator)
    spec = (
        torch.randn(count, grid.n_mels, grid.frames, generator=generator)
        * (torch.arange(grid.frames) < frames[:, None])[:, None]
    )
    return Batch(
        spec=spec, valid=grid.valid(frames), clips=torch.arange(count), frames=frames, start_seconds=torch.zeros(count),
        noise=torch.rand(count, grid.num_patches, generator=generator),
        targets=(torch.randn(count, grid.num_patches, 6, generator=generator),),
        labels=(torch.randn(count, 3, generator=generator) > 0).float(), has_labels=torch.arange(count) > 4,
        text=torch.randn(count, 7, generator=generator), captions=torch.arange(count) % 5,
    )  # fmt: skip


Found = tuple[dict[str, float], dict[str, Tensor], dict[str, Tensor]]
"""Losses, gradients and weights after a step."""


def one_step(name: str, device: str, *extra: str) -> Found:
    found = [
        "objectives.distill.teachers.0.dim=6",
        "objectives.contrast.text_dim=7",
        'objectives.supervise.classes=["a","b","c"]',
    ]
    recipe = override(find_recipe(name), [*SETTINGS, EAGER, *found, *extra])
    recipe = replace(recipe, training=replace(recipe.training, accumulate=1 if name == "clap-mini" else 2))
    learner = build(recipe)
    for module in learner.modules():  # its dropout takes other random numbers on another device
        if type(module).__name__ == "PositionBias":
            module.eval()
    engine = Engine(recipe.training, device)
    engine.setup(learner)
    now = TrainingProgress(3, 6)
    learner.begin_step(now)
    values = engine.losses_and_gradients(on(batch_of(learner), engine.device), 3)
    gradients = {key: p.grad.detach().cpu().clone() for key, p in learner.named_parameters() if p.grad is not None}
    learner.before_step(now)
    engine.step(1e-3)
    learner.after_step(replace(now, step=4))
    losses = {key: float(value) for key, value in values.items()}
    return losses, gradients, {key: value.detach().cpu() for key, value in learner.state_dict().items()}


def assert_same_step(found: Found, wanted: Found) -> None:
    values, gradients, weights = found
    expected, expected_gradients, expected_weights = wanted
    for key in expected:
        if key.startswith("loss"):
            assert values[key] == pytest.approx(expected[key], rel=1e-3), key
    assert error_of(gradients, expected_gradients) < 1e-3
    for key, value in expected_weights.items():
        # Adam's first step is the sign of a gradient: where that is rounding, two rates apart
        if value.is_floating_point():
            assert float((weights[key] - value).abs().max()) <= 2.1e-3, key


def error_of(gradients: dict[str, Tensor], wanted: dict[str, Tensor]) -> float:
    """Norm of the difference of all gradients, relative to the norm of the wanted ones."""
    whole = torch.cat([value.flatten() for value in wanted.values()]).norm()
    parted = torch.cat([(gradients[key] - value).flatten() for key, value in wanted.items()]).norm()
    return float(parted / whole)


@DEVICES
@pytest.mark.parametrize("name", ["msm-mae", "audiomae", "m2d", "matpac++", "sup-mam-clap", "clap-mini"])
def test_one_step_is_that_of_the_cpu(name: str, device: str) -> None:
    assert_same_step(one_step(name, device), one_step(name, "cpu"))


@DEVICES
@pytest.mark.parametrize("name", ["audiomae", "matpac++"])
def test_one_step_with_activation_checkpointing_is_that_of_the_cpu(
    name: str, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, calls, checkpoint = one_step(name, "cpu"), [], transformer.checkpoint

    def counted(function: Callable[..., Any], *inputs: Any, **options: Any) -> Any:
        calls.append(function)
        return checkpoint(function, *inputs, **options)

    monkeypatch.setattr(transformer, "checkpoint", counted)
    found = one_step(name, device, "training.activation_checkpointing=true")
    assert calls
    assert_same_step(found, expected)


@DEVICES
@pytest.mark.parametrize("name", ["msm-mae", "matpac++"])
def test_a_step_in_bf16_is_near_one_in_float32(name: str, device: str) -> None:
    if device == "cpu" and not bf16_on_cpu():
        pytest.skip("this processor has no bf16")
    values, gradients, weights = one_step(name, device, "training.precision=bf16")
    expected, expected_gradients, expected_weights = one_step(name, "cpu")
    for key in expected:
        if key.startswith("loss"):
            assert values[key] == pytest.approx(expected[key], rel=2e-2), key
    assert 0 < error_of(gradients, expected_gradients) < 0.1
    assert {key: value.dtype for key, value in weights.items()} == {
        key: value.dtype for key, value in expected_weights.items()
    }


@DEVICES
def test_a_resumed_run_repeats_the_uninterrupted_one(device: str, sounds: Path, tmp_path: Path) -> None:
    recipe = override(find_recipe("msm-mae"), [*SETTINGS, *LATENT, EAGER])
    pretrain(sounds, tmp_path / "run", recipe, device=device)
    whole = losses(tmp_path / "run")
    shutil.rmtree(checkpoints(tmp_path / "run")[-1])
    assert resume(tmp_path / "run", device=device).finished
    assert losses(tmp_path / "run") == pytest.approx(whole, rel=1e-3 if device == "cuda" else 0)


@DEVICES
def test_a_run_learns_what_it_learns_on_the_cpu(device: str, sounds: Path, tmp_path: Path) -> None:
    recipe = override(find_recipe("msm-mae"), [*SETTINGS, EAGER])
    pretrain(sounds, tmp_path / "cpu", recipe, device="cpu")
    pretrain(sounds, tmp_path / "here", recipe, device=device)
    assert losses(tmp_path / "here") == pytest.approx(losses(tmp_path / "cpu"), rel=1e-3)


@DEVICES
@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_a_compiled_run_learns_what_an_eager_one_does(device: str, sounds: Path, tmp_path: Path) -> None:
    """In processes of their own: the type checks of the tests would be compiled, too."""
    for name, compiled in (("compiled", "true"), ("eager", "false")):
        asked = [
            part
            for setting in [*SETTINGS, *LATENT, f"training.compile={compiled}", "model.depth=1"]
            for part in ("--set", setting)
        ]
        command = [
            sys.executable,
            "-m",
            "unheard",
            "pretrain",
            str(sounds),
            "-o",
            str(tmp_path / name),
            "--device",
            device,
            *asked,
        ]
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"}
        )
        assert done.returncode == 0, done.stderr
    assert losses(tmp_path / "compiled") == pytest.approx(losses(tmp_path / "eager"), rel=1e-3)


@DEVICES
@pytest.mark.parametrize("hop", [None, 0.04])
def test_an_embedding_is_that_of_the_cpu(hop: float | None, device: str) -> None:
    rng = np.random.default_rng(0)
    sounds = [((0.1 * rng.standard_normal(samples)).astype(np.float32), 16000) for samples in (500, 16000, 50000)]
    for here, expected in zip(
        load("random-tiny", device).embed(sounds, hop=hop), load("random-tiny").embed(sounds, hop=hop), strict=True
    ):
        np.testing.assert_allclose(here.frames, expected.frames, atol=1e-3, rtol=1e-3)
        np.testing.assert_allclose(here.scene, expected.scene, atol=1e-3, rtol=1e-3)
        np.testing.assert_array_equal(here.times_ms, expected.times_ms)


@pytest.fixture
def double() -> Iterator[None]:
    """float64, in which rounding does not decide about Adam's first steps."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@DEVICES
@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("multilabel", [True, False])
def test_stacked_heads_learn_what_heads_one_by_one_do(multilabel: bool, device: str) -> None:
    torch.manual_seed(0)
    rates, place = (1e-2, 3e-3, 1e-3), torch.device(device)
    heads = [Head(6, 3, HyperParams(hidden_layers=2, hidden_dim=8)) for _ in rates]
    stacked, sequential = (
        BatchedHeads(heads, rates, [None] * 3, place),
        SequentialHeads(copy.deepcopy(heads), rates, [None] * 3),
    )
    x, y = torch.randn(20, 6), torch.eye(3)[torch.arange(20) % 3]
    for step in range(8):
        if step == 4:
            stacked.select([0, 2])
            sequential.select([0, 2])
        stacked.step(x.to(place), y.to(place), multilabel)
        sequential.step(x, y, multilabel)
    for one, other in zip(stacked.predict(x.to(place), 7), sequential.predict(x, 7), strict=True):
        assert one.device.type == "cpu"
        torch.testing.assert_close(one, other, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize(("device", "message"), [("tpu", "usable: auto"), ("meta", "CUDA_VISIBLE_DEVICES")])
def test_training_takes_kinds_of_devices(sounds: Path, tmp_path: Path, device: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        pretrain(sounds, tmp_path / "run", override(find_recipe("msm-mae"), SETTINGS), device=device)
    assert not (tmp_path / "run").exists()


@pytest.mark.gpu
def test_a_corpus_in_the_memory_of_the_gpu_gives_the_same_losses(sounds: Path, tmp_path: Path) -> None:
    for kept in ("true", "false"):
        recipe = override(find_recipe("msm-mae"), [*SETTINGS, EAGER, f"data.on_device={kept}"])
        pretrain(sounds, tmp_path / kept, recipe, device="cuda")
    assert losses(tmp_path / "true") == pytest.approx(losses(tmp_path / "false"), rel=1e-5)


def test_a_corpus_is_not_kept_on_a_cpu_and_nothing_is_left_behind(sounds: Path, tmp_path: Path) -> None:
    recipe = override(find_recipe("msm-mae"), [*SETTINGS, "data.on_device=true"])
    with pytest.raises(ConfigError, match="needs a CUDA GPU, .* the device is cpu, .* set data.on_device=null"):
        pretrain(sounds, tmp_path / "run", recipe, device="cpu")
    pretrain(sounds, tmp_path / "run", override(recipe, ["data.on_device=null"]), device="cpu")
