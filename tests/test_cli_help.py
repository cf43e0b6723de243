"""Help of the command line: an example for every verb, and no heavy imports."""

from __future__ import annotations

import subprocess
import sys

import pytest

import unheard
from unheard.cli import main

VERBS = [
    "",
    *(f"data {verb}" for verb in ("check", "generate", "fetch", "labels", "pack")),
    *(
        "data",
        "pretrain",
        "finetune",
        "predict",
        "embed",
        "probe",
        "reconstruct",
        "attention",
        "report",
        "runs",
        "compare",
    ),
    *("recipes", "models", "convert", "export", "doctor"),
]


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_every_verb_ends_with_an_example_of_it(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*verb.split(), "--help"]) == 0
    output = capsys.readouterr().out
    assert "Example:" in output and output.rstrip().splitlines()[-1].startswith(f"  unheard {verb}".rstrip())


def test_the_package_and_the_program_are_one() -> None:
    done = subprocess.run([sys.executable, "-m", "unheard", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == unheard.__version__


@pytest.mark.parametrize(
    "code",
    [
        "import unheard",
        "from unheard.cli import main; main(['--help'])",
        "from unheard.cli import main; main(['pretrain', '--help'])",
    ],
)
def test_help_loads_nothing_heavy(code: str) -> None:
    heavy = "('torch', 'numpy', 'soundfile', 'lightning_fabric', 'matplotlib', 'sklearn', 'pydantic', 'pyarrow')"
    look = f"{code}; import sys; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
