"""A batch whose loss is not finite: named, recorded, taken again, and skipped where that is allowed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from unheard.cli import main
from unheard.config import override
from unheard.data.loader import PretrainLoader
from unheard.errors import CheckpointError, DataError
from unheard.files import read_json
from unheard.objectives.base import Batch
from unheard.recipes import find_recipe
from unheard.recipes.recipe import Recipe
from unheard.remote.writing import upload_folder
from unheard.training.callbacks import Callbacks
from unheard.training.checkpoints import checkpoints
from unheard.training.pretrain import pretrain
from unheard.training.replay import replay
from unheard.training.resume import resume
from unheard.training.session import read_session, write_session
from unheard.weights.checkpoint import load_model

SIZES = (
    "frames=48",
    "embed_dim=24",
    "depth=1",
    "num_heads=2",
    "decoder_embed_dim=16",
    "decoder_depth=1",
    "decoder_num_heads=2",
)
SETTINGS = [
    *(f"model.{size}" for size in SIZES),
    *(
        "training.batch_size=4",
        "training.steps=9",
        "training.log_every=1",
        "training.checkpoint_every=3",
        "training.seed=5",
    ),
]
LATENT = ["objectives.latents.weight=1", "objectives.prototypes.weight=1", "teacher.momentum_start=0.9"]
PROGRAM = """
import sys
from dataclasses import replace
from pathlib import Path
sys.path.insert(0, str(Path(sys.argv.pop(1)).parent))
import test_bad_batches
test_bad_batches.poison(None)
from unheard.cli import main
sys.exit(main(sys.argv[1:]))
"""


def recipe(*extra: str) -> Recipe:
    return override(find_recipe("msm-mae"), [*SETTINGS, *extra])


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sounds")
    generator = np.random.default_rng(0)
    for index in range(8):
        soundfile.write(folder / f"{index:02d}.wav", (0.1 * generator.standard_normal(9000)).astype(np.float32), 16000)
    return folder


def poison(monkeypatch: pytest.MonkeyPatch | None, steps: tuple[int, ...] = (4, 7)) -> None:
    """Put a NaN into the second window of the batches of some steps, counted from 0, in whichever process has it."""
    plain = PretrainLoader.batch

    def batch(self: PretrainLoader, step: int) -> Batch:
        made = plain(self, step)
        mine = range(self.share.batch_size)[self.share.local_slice]
        if step in steps and 1 in mine:
            made.spec[1 - mine.start, 0, 0] = torch.nan
        return made

    if monkeypatch is None:
        PretrainLoader.batch = batch
    else:
        monkeypatch.setattr(PretrainLoader, "batch", batch)


def rows(run: Path) -> dict[int, float]:
    found = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return {row["step"]: row["loss"] for row in found}


def test_a_bad_batch_ends_the_run_and_can_be_taken_again(
    sounds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    poison(monkeypatch)
    run = tmp_path / "run"
    with pytest.raises(
        DataError, match=r"the loss became nan at step 5, in a batch of .*\.wav.*unheard debug replay .*run"
    ):
        pretrain(sounds, run, recipe(*LATENT), device="cpu")
    assert [folder.name for folder in checkpoints(run)] == ["step-00000003"]
    assert read_json(run / "bad-step-00000005/state.json")["checkpoint_step"] == 3
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    found = replay(run, device="cpu")
    assert found.step == 5 and found.weights_finite and not np.isfinite(found.losses["loss"])
    assert [window.finite for window in found.windows] == [True, False, True, True]
    assert found.windows[1].file.endswith(".wav") and not np.isfinite(found.windows[1].largest)
    assert set(found.windows[0].losses) == {"loss/reconstruct", "loss/latents", "loss/prototypes"}
    assert main(["debug", "replay", str(run), "--device", "cpu"]) == 0
    out = capsys.readouterr().out
    assert "step 5: loss nan" in out and f"not finite: {found.windows[1].file}" in out
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    pytest.importorskip("fsspec")
    address, names = f"memory://{tmp_path.name}", [path.relative_to(run).as_posix() for path in before]
    upload_folder(run, address, [name for name in names if not name.startswith("corpus/")])  # as a mirrored run
    assert main(["debug", "replay", address, "--device", "cpu"]) == 0
    assert capsys.readouterr().out == out


def test_a_step_of_a_run_with_its_corpus_on_a_gpu_is_taken_again_on_a_cpu(
    sounds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison(monkeypatch)
    run = tmp_path / "run"
    with pytest.raises(DataError, match="became nan"):
        pretrain(sounds, run, recipe(), device="cpu")
    session = read_session(run)
    write_session(run, replace(session, recipe=override(session.recipe, ["data.on_device=true"])))
    assert replay(run, device="cpu").step == 5


def test_a_step_taken_again_has_the_losses_it_had(
    sounds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as poisoned:
        poison(poisoned)
        with pytest.raises(DataError):
            pretrain(sounds, tmp_path / "bad", recipe(*LATENT), device="cpu")
    pretrain(sounds, tmp_path / "good", recipe(*LATENT), device="cpu")
    assert replay(tmp_path / "bad", device="cpu").losses["loss"] == rows(tmp_path / "good")[5]


def test_bad_batches_are_skipped_named_and_change_nothing(
    sounds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison(monkeypatch)
    lines: list[str] = []
    run = pretrain(
        sounds,
        tmp_path / "run",
        recipe(*LATENT, "training.skip_bad_batches=2"),
        device="cpu",
        report=Callbacks(log=lines.append),
    )
    skips = [line for line in lines if "the update is skipped" in line]
    assert (
        run.finished
        and len(skips) == 2
        and "step 5" in skips[0]
        and "(2 of at most 2)" in skips[1]
        and ".wav" in skips[1]
    )
    assert set(rows(run.folder)) == {1, 2, 3, 4, 6, 7, 9} and all(
        np.isfinite(value) for value in rows(run.folder).values()
    )
    weights = load_model(run.folder).learner.state_dict()
    assert all(bool(value.isfinite().all()) for value in weights.values())
    with pytest.raises(
        DataError,
        match=r"not finite at step 8.*1 bad batches were already skipped, the limit set by training\.skip_bad_batches",
    ):
        pretrain(sounds, tmp_path / "one", recipe("training.skip_bad_batches=1"), device="cpu")


def test_a_resumed_run_skips_what_the_uninterrupted_one_does(
    sounds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison(monkeypatch)
    pretrain(sounds, tmp_path / "whole", recipe(*LATENT, "training.skip_bad_batches=2"), device="cpu")
    with pytest.raises(DataError):
        pretrain(sounds, tmp_path / "broken", recipe(*LATENT), device="cpu")
    resume(tmp_path / "broken", skip_bad_batches=2, device="cpu")
    assert rows(tmp_path / "broken") == rows(tmp_path / "whole")
    shutil.rmtree(checkpoints(tmp_path / "broken")[-1])  # as if killed after step 6: one of two was skipped then
    resume(tmp_path / "broken", device="cpu")
    assert rows(tmp_path / "broken") == rows(tmp_path / "whole")
    ours, theirs = (load_model(tmp_path / name).learner.export_state_dict() for name in ("broken", "whole"))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_all_processes_skip_what_is_bad_in_one(sounds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "poisoned.py").write_text(PROGRAM)
    settings = [part for setting in SETTINGS for part in ("--set", setting)]
    start = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    asked = [
        "pretrain",
        str(sounds),
        "-o",
        str(tmp_path / "two"),
        "--device",
        "cpu",
        "--skip-bad-batches",
        "2",
        *settings,
    ]
    command = [*start, str(tmp_path / "poisoned.py"), __file__, *asked]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("the update is skipped") == 2
    poison(monkeypatch)
    pretrain(sounds, tmp_path / "one", recipe("training.skip_bad_batches=2"), device="cpu")
    assert rows(tmp_path / "two") == pytest.approx(rows(tmp_path / "one"), rel=1e-4)


def test_without_a_record_there_is_nothing_to_take_again(sounds: Path, tmp_path: Path) -> None:
    pretrain(sounds, tmp_path / "run", recipe("training.steps=1"), device="cpu")
    with pytest.raises(CheckpointError, match="recorded steps: none"):
        replay(tmp_path / "run", device="cpu")
    with pytest.raises(CheckpointError, match="there is no run at"):
        replay(tmp_path / "nowhere", device="cpu")
