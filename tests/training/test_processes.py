"""Many processes are one run: the same numbers, one voice, and compiled or not they learn the same."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from unheard.config import override
from unheard.errors import ConfigError
from unheard.recipes import find_recipe
from unheard.recipes.recipe import Recipe
from unheard.training.pretrain import pretrain
from unheard.training.resume import resume

SIZES = (
    "frames=48",
    "embed_dim=24",
    "depth=2",
    "num_heads=2",
    "decoder_embed_dim=16",
    "decoder_depth=1",
    "decoder_num_heads=2",
)
SETTINGS = [
    *(f"model.{size}" for size in SIZES),
    *(
        "training.batch_size=8",
        "training.steps=6",
        "training.log_every=1",
        "training.checkpoint_every=3",
        "training.seed=5",
    ),
]
PIXELS: list[str] = []
LATENTS = ["objectives.reconstruct.weight=0", "objectives.latents.weight=1", "teacher.momentum_start=0.9"]
BOTH = ["objectives.latents.weight=0.5", "training.accumulate=2", "training.clip_norm=1"]


def recipe(extra: list[str] = PIXELS) -> Recipe:
    return override(find_recipe("msm-mae"), [*SETTINGS, *extra])


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve clips, most of them shorter than the window, so that processes see unequal padding."""
    folder = tmp_path_factory.mktemp("sounds")
    generator = np.random.default_rng(0)
    for index in range(12):
        length = (16000, 3000, 6500)[index % 3]
        tone = np.sin(np.arange(length) * (0.05 + 0.03 * index)) * 0.3 + 0.01 * generator.standard_normal(length)
        soundfile.write(folder / f"{index:02d}.wav", tone.astype(np.float32), 16000)
    return folder


def unheard(*arguments: object, processes: int = 1) -> subprocess.CompletedProcess[str]:
    """Run the command line, in processes started by torchrun when there is more than one."""
    start = ["-m", "torch.distributed.run", "--nproc-per-node", str(processes), "--master-port", "0", "--standalone"]
    command = [sys.executable, *(start if processes > 1 else []), "-m", "unheard", *(str(each) for each in arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )


def losses(run: Path) -> list[float]:
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(1, len(rows) + 1))
    return [row["loss"] for row in rows]


def settings(extra: list[str] = PIXELS) -> list[str]:
    return [part for setting in [*SETTINGS, *extra] for part in ("--set", setting)]


@pytest.mark.parametrize("extra", [PIXELS, LATENTS], ids=["pixels", "latents"])
def test_two_processes_learn_what_one_does_and_speak_once(extra: list[str], sounds: Path, tmp_path: Path) -> None:
    done = unheard(
        "pretrain", sounds, "-o", tmp_path / "two", "--device", "cpu", "--json", *settings(extra), processes=2
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"run": str(tmp_path / "two"), "step": 6, "total": 6, "finished": True}
    assert done.stderr.count("float32 on cpu x 2") == done.stderr.count("packing: 12/12") == 1
    assert not [word for word in ("distributed", "warning", "site-packages") if word in done.stderr.lower()]
    pretrain(sounds, tmp_path / "one", recipe(extra), device="cpu")
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=1e-4)
    assert len(list((tmp_path / "two" / "tensorboard").iterdir())) == 1
    assert not list((tmp_path / "two").rglob(".*"))
    assert not (tmp_path / "one" / "corpus").exists()


COUNTED = """
import sys
import unheard.data.packing.shards as pack
from unheard.cli import main
from unheard.training.processes import first_process
real = pack.transformed
def transformed(*arguments):
    print("decodes", "first" if first_process() else "another", file=sys.stderr, flush=True)
    return real(*arguments)
pack.transformed = transformed
sys.exit(main(sys.argv[1:]))
"""


def test_two_processes_decode_a_small_corpus_once(sounds: Path, tmp_path: Path) -> None:
    (tmp_path / "counted.py").write_text(COUNTED)
    start = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    run = ["pretrain", str(sounds), "-o", str(tmp_path / "two"), "--device", "cpu", *settings()]
    done = subprocess.run(
        [*start, str(tmp_path / "counted.py"), *run],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("decodes first") == 1 and "decodes another" not in done.stderr


ENDED = """
import sys
from pathlib import Path
from unheard.cli import main
code = main(sys.argv[1:])
names = [(thread / "comm").read_text() for thread in Path("/proc/self/task").iterdir()]
print("threads of gloo:", sum("gloo" in name for name in names), file=sys.stderr, flush=True)
sys.exit(code)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="names of threads are read from /proc")
def test_no_thread_of_a_process_group_is_left_when_a_run_ends(sounds: Path, tmp_path: Path) -> None:
    """A thread that is left can abort the process while the interpreter ends (exit code -6)."""
    (tmp_path / "ended.py").write_text(ENDED)
    labels = tmp_path / "labels.csv"
    names = sorted(path.name for path in sounds.iterdir())
    lines = [f"{sounds / name},{name[1] in '02468'},{'valid' if name > '08' else 'train'}" for name in names]
    labels.write_text("\n".join(["path,label,split", *lines]))
    start = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    commands = [
        ["pretrain", str(sounds), "-o", str(tmp_path / "run"), *settings(BOTH)],
        ["finetune", str(tmp_path / "run"), str(labels), "-o", str(tmp_path / "tuned")],
    ]
    for command in commands:
        done = subprocess.run(
            [*start, str(tmp_path / "ended.py"), *command, "--device", "cpu"],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        assert done.returncode == 0, done.stderr
        assert done.stderr.count("threads of gloo: 0") == 2, done.stderr


def test_a_run_continues_with_another_number_of_processes(sounds: Path, tmp_path: Path) -> None:
    pretrain(sounds, tmp_path / "one", recipe(BOTH), device="cpu")
    shutil.copytree(tmp_path / "one", tmp_path / "moved")
    shutil.rmtree(tmp_path / "moved" / "checkpoints" / "step-00000006")
    done = unheard("pretrain", "--resume", tmp_path / "moved", "--device", "cpu", processes=2)
    assert done.returncode == 0, done.stderr
    assert losses(tmp_path / "moved") == pytest.approx(losses(tmp_path / "one"), rel=1e-4)
    shutil.rmtree(tmp_path / "moved" / "checkpoints" / "step-00000006")
    resume(tmp_path / "moved", device="cpu")
    assert losses(tmp_path / "moved") == pytest.approx(losses(tmp_path / "one"), rel=1e-4)


def test_the_library_starts_processes_itself_when_asked(sounds: Path, tmp_path: Path) -> None:
    done = unheard(
        "pretrain", sounds, "-o", tmp_path / "two", "--device", "cpu", "--json", *settings(["training.devices=2"])
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["finished"] and "float32 on cpu x 2" in done.stderr
    assert len(losses(tmp_path / "two")) == 6


def test_a_user_s_error_ends_every_process(sounds: Path, tmp_path: Path) -> None:
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "notes.txt").write_text("mine")
    done = unheard("pretrain", sounds, "-o", tmp_path / "two", "--device", "cpu", *settings(), processes=2)
    assert done.returncode != 0 and "unheard: " in done.stderr and "--overwrite" in done.stderr
    assert [path.name for path in (tmp_path / "two").iterdir()] == ["notes.txt"]


def test_parts_of_a_batch_weigh_as_much_as_they_hold(sounds: Path, tmp_path: Path) -> None:
    """With padding the parts hold unequally many patches; the run is that of the whole batch all the same."""
    pretrain(sounds, tmp_path / "whole", recipe(), device="cpu")
    pretrain(sounds, tmp_path / "parts", recipe(["training.accumulate=4"]), device="cpu")
    assert losses(tmp_path / "parts") == pytest.approx(losses(tmp_path / "whole"), rel=1e-4)


@pytest.mark.parametrize(("extra", "message"), [(["training.accumulate=3"], "does not divide the 8 windows")])
def test_batches_that_cannot_be_split_are_refused(extra: list[str], message: str, sounds: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        pretrain(sounds, tmp_path / "run", recipe(extra), device="cpu")


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_a_compiled_run_learns_what_an_eager_one_does(sounds: Path, tmp_path: Path) -> None:
    done = unheard(
        "pretrain",
        sounds,
        "-o",
        tmp_path / "compiled",
        "--device",
        "cpu",
        *settings(["model.depth=1", "training.compile=true"]),
    )
    assert done.returncode == 0, done.stderr
    pretrain(sounds, tmp_path / "eager", recipe(["model.depth=1"]), device="cpu")
    assert losses(tmp_path / "compiled") == pytest.approx(losses(tmp_path / "eager"), rel=1e-4)
