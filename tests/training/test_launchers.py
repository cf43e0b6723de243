"""Who started a process, how processes find each other, and what remains when one is lost."""

from __future__ import annotations

import dataclasses
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import soundfile

from unheard.config import override
from unheard.errors import ConfigError
from unheard.recipes import find_recipe
from unheard.recipes.recipe import Recipe
from unheard.training.checkpoints import checkpoints
from unheard.training.pretrain import pretrain
from unheard.training.processes import OWN_LAUNCHER, first_process, launch

SIZES = (
    "frames=48",
    "embed_dim=24",
    "depth=1",
    "num_heads=2",
    "decoder_embed_dim=16",
    "decoder_depth=1",
    "decoder_num_heads=2",
)
SETTINGS = [*(f"model.{size}" for size in SIZES), "training.batch_size=8", "training.steps=6", "training.log_every=1"]


def recipe(extra: list[str] | None = None) -> Recipe:
    return override(find_recipe("msm-mae"), [*SETTINGS, *(extra or [])])


def settings(extra: list[str]) -> list[str]:
    return [part for setting in [*SETTINGS, *extra] for part in ("--set", setting)]


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sounds")
    generator = np.random.default_rng(0)
    for index in range(4):
        soundfile.write(folder / f"{index:02d}.wav", (0.1 * generator.standard_normal(9000)).astype(np.float32), 16000)
    return folder


LAUNCHERS = (
    "RANK",
    "WORLD_SIZE",
    "LOCAL_RANK",
    "LOCAL_WORLD_SIZE",
    "NODE_RANK",
    "GROUP_RANK",
    "MASTER_ADDR",
    "MASTER_PORT",
    OWN_LAUNCHER,
)
TORCHRUN = {"WORLD_SIZE": "8", "MASTER_ADDR": "node0", "MASTER_PORT": "29500"}
SRUN = {
    "SLURM_JOB_ID": "1234567",
    "SLURM_STEP_ID": "0",
    "SLURM_STEP_NUM_TASKS": "4",
    "SLURM_NTASKS": "4",
    "SLURM_STEP_NODELIST": "gpu[03,05]",
}
SBATCH = {
    "SLURM_JOB_ID": "7",
    "SLURM_NTASKS": "4",
    "SLURM_PROCID": "0",
    "SLURM_LOCALID": "0",
    "SLURM_NNODES": "2",
    "SLURM_NTASKS_PER_NODE": "2",
}


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, str]], None]:
    """Set the variables of a launcher, and no others."""
    for name in [*LAUNCHERS, *(name for name in os.environ if name.startswith("SLURM_"))]:
        monkeypatch.delenv(name, raising=False)

    def use(variables: dict[str, str]) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return use


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, None),
        ({"RANK": "3", "LOCAL_RANK": "3", "WORLD_SIZE": "1"}, None),
        (
            {**TORCHRUN, "RANK": "0", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "4", "GROUP_RANK": "0"},
            ("torchrun", 0, 8, 0, 0, 4, 2),
        ),
        (
            {**TORCHRUN, "RANK": "5", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4", "GROUP_RANK": "1"},
            ("torchrun", 5, 8, 1, 1, 4, 2),
        ),
        ({**TORCHRUN, "RANK": "5"}, ("torchrun", 5, 8, 0, 5, 1, 8)),  # a Kubernetes job sets no LOCAL_RANK
        (
            {**TORCHRUN, OWN_LAUNCHER: "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "NODE_RANK": "0"},
            ("unheard", 1, 2, 1, 0, 2, 1),
        ),
        (
            {
                **SRUN,
                "SLURM_PROCID": "3",
                "SLURM_LOCALID": "1",
                "SLURM_NODEID": "1",
                "SLURM_STEP_TASKS_PER_NODE": "2(x2)",
            },
            ("srun", 3, 4, 1, 1, 2, 2),
        ),
        (
            {
                **SRUN,
                "SLURM_PROCID": "2",
                "SLURM_LOCALID": "2",
                "SLURM_NODEID": "0",
                "SLURM_STEP_TASKS_PER_NODE": "3,1",
            },
            ("srun", 2, 4, 2, 0, 3, 2),
        ),
        (SBATCH, None),  # sbatch or salloc without srun
        ({**SBATCH, "SLURM_STEP_ID": "4294967291", "SLURM_STEP_NUM_TASKS": "4"}, None),  # the step of the batch script
        ({**SRUN, "SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"}, None),  # srun --pty bash
        (
            {**SRUN, "SLURM_PROCID": "0", **TORCHRUN, "RANK": "7", "LOCAL_WORLD_SIZE": "8", "LOCAL_RANK": "7"},
            ("torchrun", 7, 8, 7, 0, 8, 1),
        ),
    ],
)
def test_who_started_this_process(
    variables: dict[str, str], expected: tuple[object, ...] | None, environment: Callable[[dict[str, str]], None]
) -> None:
    environment(variables)
    found = launch()
    assert (None if found is None else dataclasses.astuple(found)[:7]) == expected
    assert first_process() == (found is None or found.rank == 0)
    if found is not None and found.launcher == "srun":
        assert (found.address, found.port) == ("gpu03", 19567)


def test_left_over_variables_of_a_launcher_are_refused(
    environment: Callable[[dict[str, str]], None], sounds: Path, tmp_path: Path
) -> None:
    environment({"WORLD_SIZE": "4"})
    with pytest.raises(
        ConfigError, match=r"WORLD_SIZE=4 is set, but not RANK, MASTER_ADDR, MASTER_PORT; .*unset WORLD_SIZE"
    ):
        pretrain(sounds, tmp_path / "run", recipe(), device="cpu")


@pytest.mark.parametrize("variables", [SBATCH, {"LOCAL_RANK": "1", "RANK": "1", "MASTER_PORT": "1"}])
def test_one_process_trains_alone_in_an_allocation(
    variables: dict[str, str], environment: Callable[[dict[str, str]], None], sounds: Path, tmp_path: Path
) -> None:
    environment(variables)
    assert pretrain(sounds, tmp_path / "run", recipe(["training.steps=1"]), device="cpu").finished


@pytest.mark.parametrize("rank", [0, 1])
def test_a_process_whose_others_never_come_ends_and_names_what_it_waited_for(
    rank: int,
    environment: Callable[[dict[str, str]], None],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    sounds: Path,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr("unheard.training.processes.JOINING", timedelta(seconds=3))
    monkeypatch.setattr("unheard.training.processes.NOTICE_SECONDS", 0.5)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment(
        {"RANK": str(rank), "LOCAL_RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    )
    with pytest.raises(
        ConfigError,
        match=rf"process {rank} of 2 waits for the others at 127\.0\.0\.1:{port} .*"
        r"not all connected within 3 s.*unset RANK",
    ):
        pretrain(sounds, tmp_path / "run", recipe(), device="cpu")
    assert f"process {rank} of 2 waits for the others" in capfd.readouterr().err


def two_processes(sounds: Path, run: Path) -> list[subprocess.Popen[str]]:
    """Start a long run in two processes, and return them after its first checkpoint."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-W", "ignore", "-m", "unheard", "pretrain", str(sounds), "-o", str(run)]
    command += ["--device", "cpu", *settings(["training.steps=100000", "training.checkpoint_every=20"])]
    both = []
    for rank in (0, 1):
        place = {
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "LOCAL_WORLD_SIZE": "2",
            "WORLD_SIZE": "2",
            "MASTER_ADDR": "127.0.0.1",
        }
        env = {**os.environ, "OMP_NUM_THREADS": "1", **place, "MASTER_PORT": str(port)}
        both.append(subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env))
    deadline = time.monotonic() + 120
    while not checkpoints(run) and time.monotonic() < deadline:
        time.sleep(0.1)
    return both


def test_the_others_end_with_one_line_when_a_process_is_killed(sounds: Path, tmp_path: Path) -> None:
    both = two_processes(sounds, tmp_path / "run")
    both[1].kill()
    _, err = both[0].communicate(timeout=120)
    both[1].communicate()
    assert both[0].returncode == 2, err
    assert "Traceback" not in err and len([line for line in err.splitlines() if line.startswith("unheard: ")]) == 1
    assert "process 0 lost another process of this run" in err and "--resume" in err


def test_signals_until_the_end_leave_one_checkpoint_and_the_code_75(sounds: Path, tmp_path: Path) -> None:
    both = two_processes(sounds, tmp_path / "run")
    while any(each.poll() is None for each in both):
        for each in both:
            each.send_signal(signal.SIGTERM)  # does nothing if the process has ended
        time.sleep(0.01)
    found = [each.communicate() for each in both]
    assert [each.returncode for each in both] == [75, 75], found
    assert not any("Traceback" in err or "unheard: " in err for _, err in found)
    assert "stopped; continue with: unheard pretrain --resume" in found[0][0] and not found[1][0]
    saved = checkpoints(tmp_path / "run")[-1].name
    assert f"step {int(saved.rpartition('-')[2])} of 100000" in found[0][0]
