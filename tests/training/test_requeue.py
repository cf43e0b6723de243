"""A job that a batch system stops and starts again with the same command is one run."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from unheard.api.pretraining import pretrain
from unheard.api.storing import targets
from unheard.cli import main
from unheard.errors import ConfigError, DataError
from unheard.objectives.base import Batch
from unheard.training.callbacks import Run
from unheard.training.checkpoints import checkpoints
from unheard.training.engine import Engine, Losses
from unheard.training.loop import take_step
from unheard.training.session import Session, read_session

SIZES = ("frames=48", "embed_dim=24", "depth=1", "num_heads=2", "decoder_embed_dim=16", "decoder_depth=1")
SETTINGS = [
    *(f"model.{size}" for size in (*SIZES, "decoder_num_heads=2")),
    *("training.batch_size=8", "training.log_every=1", "training.checkpoint_every=5", "training.seed=5"),
]
ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sounds")
    generator = np.random.default_rng(0)
    for index in range(6):
        soundfile.write(folder / f"{index:02d}.wav", (0.1 * generator.standard_normal(9000)).astype(np.float32), 16000)
    return folder


def losses(run: Path) -> list[tuple[int, float]]:
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [(row["step"], row["loss"]) for row in rows]


@pytest.fixture(autouse=True)
def _no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """The figures of a complete run take longer than the run."""
    monkeypatch.setattr("unheard.view.run.finish", lambda *_: None)


def begin(sounds: Path, run: Path, steps: int, extra: tuple[str, ...] = ()) -> Run:
    """Start or continue a run."""
    return pretrain(sounds, run, settings=[*SETTINGS, *extra], steps=steps, resume_or_start=True, device="cpu")


def killed(monkeypatch: pytest.MonkeyPatch, number: int, sounds: Path, run: Path) -> Run:
    """Start a run of 12 steps that gets a signal in its seventh."""

    def step(session: Session, engine: Engine, batch: Batch, done: int) -> Losses | None:
        if done == 6:
            os.kill(os.getpid(), number)
            os.kill(os.getpid(), signal.SIGTERM)  # a second signal does not end the step
        return take_step(session, engine, batch, done)

    with monkeypatch.context() as patched:
        patched.setattr("unheard.training.loop.take_step", step)
        return begin(sounds, run, 12)


def test_it_starts_continues_and_leaves_a_complete_run(
    sounds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, run = tmp_path / "whole", tmp_path / "run"
    assert begin(sounds, whole, 12).finished and not begin(sounds, whole, 12).requeue
    stopped = killed(monkeypatch, signal.SIGUSR1, sounds, run)
    assert stopped.requeue and stopped.step == 7 and checkpoints(run)[-1].name.endswith("07")
    assert begin(sounds, run, 12).finished
    assert losses(run) == losses(whole) and len(losses(run)) == 12
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file()}
    assert begin(sounds, run, 12).finished
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file()} == before


def test_the_command_ends_with_75_only_if_it_is_to_be_started_again(
    sounds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for requeue, code in ((True, 75), (False, 130)):
        stopped = Run(tmp_path / "run", 7, 12, requeue=requeue)
        monkeypatch.setattr("unheard.api.pretrain", lambda *_, stopped=stopped, **__: stopped)
        assert main(["pretrain", str(sounds), "-o", str(tmp_path / "run"), "--resume-or-start"]) == code
        assert "stopped; continue with: unheard pretrain --resume" in capsys.readouterr().out


def test_settings_that_may_change_are_taken_from_the_command(
    monkeypatch: pytest.MonkeyPatch, sounds: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    assert not killed(monkeypatch, signal.SIGTERM, sounds, run).finished
    asked = ("training.skip_bad_batches=3", "data.on_device=false")
    pretrain(sounds, run, settings=[*SETTINGS, *asked], steps=12, resume_or_start=True, device="cpu")
    recipe = read_session(run).recipe
    assert recipe.training.skip_bad_batches == 3 and recipe.data.on_device is False


def test_a_run_with_stored_targets_is_continued(sounds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    targets(sounds, "random-tiny", tmp_path / "targets", pca=8, device="cpu")
    monkeypatch.chdir(tmp_path)
    asked = [*SETTINGS, "objectives.distill.teachers.0.name=targets"]
    for _ in range(2):
        run = pretrain(sounds, tmp_path / "run", "distill", asked, steps=2, resume_or_start=True, device="cpu")
        assert run.finished
    other = [*asked, "objectives.distill.teachers.0.standardise=none"]
    with pytest.raises(ConfigError, match=r"standardise is 'stored', given 'none'"):
        pretrain(sounds, tmp_path / "run", "distill", other, steps=2, resume_or_start=True, device="cpu")


def test_other_options_than_those_of_the_run_are_refused(sounds: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    begin(sounds, run, 2)
    with pytest.raises(ConfigError, match=r"training\.steps is 2, given 3; training\.batch_size is 8, given 4"):
        begin(sounds, run, 3, ("training.batch_size=4",))
    assert begin(sounds, run, 2, ("training.devices=2",)).finished  # updates do not depend on it
    with pytest.raises(ConfigError, match="--init is None, given 'random-tiny'"):
        pretrain(sounds, run, "msm-mae", SETTINGS, steps=2, resume_or_start=True, init="random-tiny", device="cpu")
    with pytest.raises(ConfigError, match="--overwrite deletes it"):
        pretrain(sounds, run, settings=SETTINGS, resume_or_start=True, overwrite=True, device="cpu")
    assert len(losses(run)) == 2


def test_another_corpus_is_refused_and_a_packed_one_is_kept(sounds: Path, tmp_path: Path) -> None:
    run, other = tmp_path / "run", tmp_path / "other"
    other.mkdir()
    soundfile.write(other / "a.wav", np.full(9000, 0.1, np.float32), 16000)
    (run / "corpus").mkdir(parents=True)
    (run / "corpus" / "kept").write_text("what a stopped run has packed")
    begin(sounds, run, 2)
    assert (run / "corpus" / "kept").is_file()
    (run / "finished.json").unlink()
    with pytest.raises(DataError, match="is not the one that"):
        begin(other, run, 2)
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "notes.txt").write_text("not a run")
    with pytest.raises(ConfigError, match="exists and is not empty"):
        begin(sounds, mine, 2)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_while_the_corpus_is_read_ends_with_the_same_code(
    number: int, sounds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = signal.getsignal(number)
    with monkeypatch.context() as patched:
        patched.setattr("unheard.training.pretrain.open_corpus_store", lambda *_: os.kill(os.getpid(), number))
        asked = [part for setting in SETTINGS for part in ("--set", setting)]
        command = ["pretrain", str(sounds), "-o", str(tmp_path / "run"), "--steps", "2", "--device", "cpu", *asked]
        assert main([*command, "--resume-or-start"]) == 75
    assert "start the same command again" in capsys.readouterr().err and signal.getsignal(number) == before
    assert main([*command, "--resume-or-start"]) == 0
    assert main([*command, "--resume-or-start"]) == 0


STUBS = {
    "srun": """#!/bin/bash
while [ "$1" != python ]; do shift; done
shift
exec {python} "$@"
""",
    "scontrol": """#!/bin/bash
echo "$@" >>{calls}
""",
}


def batch_script() -> str:
    """The batch script of the guide."""
    guide = (ROOT / "docs" / "guide" / "scale.md").read_text()
    scripts = [block for block in re.findall(r"```bash\n(.*?)```", guide, re.DOTALL) if "--resume-or-start" in block]
    return next(block for block in scripts if "#SBATCH" in block)


@pytest.mark.slow
def test_the_batch_script_of_the_guide_requeues_the_job_until_the_run_is_complete(sounds: Path, tmp_path: Path) -> None:
    calls, run = tmp_path / "calls", tmp_path / "run"
    for name, text in STUBS.items():
        (tmp_path / name).write_text(text.format(python=sys.executable, calls=calls))
        (tmp_path / name).chmod(0o755)
    asked = " ".join(f"--set {setting}" for setting in SETTINGS)
    command = f"pretrain {sounds} -o {run} --resume-or-start --steps 150 --device cpu {asked}"
    script = re.sub(r"pretrain .*--resume-or-start", command, batch_script())
    (tmp_path / "job.sh").write_text(script)
    env = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_JOB_ID": "7", "OMP_NUM_THREADS": "1"}
    job = subprocess.Popen(["bash", str(tmp_path / "job.sh")], env=env, stderr=subprocess.PIPE, text=True)
    assert job.stderr is not None
    for line in job.stderr:
        if "step" in line and "150" in line and (run / "metrics.jsonl").is_file():
            job.send_signal(signal.SIGUSR1)
            break
    job.communicate()
    assert job.returncode == 75 and calls.read_text() == "requeue 7\n"
    assert 0 < len(losses(run)) < 150
    subprocess.run(["bash", str(tmp_path / "job.sh")], env=env, check=True, capture_output=True)
    assert [step for step, _ in losses(run)] == list(range(1, 151)) and calls.read_text() == "requeue 7\n"
    whole = ["pretrain", str(sounds), "-o", str(tmp_path / "whole"), "--steps", "150", "--device", "cpu"]
    assert main([*whole, *(part for setting in SETTINGS for part in ("--set", setting))]) == 0
    assert losses(tmp_path / "whole") == losses(run)
