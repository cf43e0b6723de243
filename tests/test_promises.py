"""What is promised exists: names of the package, recipes, commands and scripts of the README; first contact is fast."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import unheard
from unheard.cli.shell import app
from unheard.config import from_json, to_json
from unheard.recipes import RECIPES
from unheard.recipes.recipe import Recipe

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def test_everything_offered_is_there() -> None:
    for name in unheard.__all__:
        assert getattr(unheard, name) is not None
    assert set(unheard.__all__) == set(dir(unheard))


def test_a_release_has_one_version_everywhere() -> None:
    released = re.findall(r"^## \[(\d[^\]]*)\] - (\d{4}-\d\d-\d\d)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    version, date = released[0]
    citation = (ROOT / "CITATION.cff").read_text()
    assert f"\nversion: {version}\n" in citation and f"\ndate-released: {date}\n" in citation
    assert unheard.__version__ == version or re.fullmatch(r"\d+\.\d+\.\d+\.dev\d+", unheard.__version__)


@pytest.mark.parametrize("command", [["-c", "import unheard"], ["-m", "unheard", "--help"]], ids=["import", "help"])
def test_first_contact_loads_nothing_heavy(command: list[str]) -> None:
    done = subprocess.run([sys.executable, "-X", "importtime", *command], capture_output=True, text=True, check=True)
    loaded = {line.rsplit("|", 1)[1].strip().split(".")[0] for line in done.stderr.splitlines() if line.count("|") == 2}
    assert not loaded & {
        "torch",
        "numpy",
        "scipy",
        "sklearn",
        "matplotlib",
        "pyarrow",
        "pandas",
        "lightning",
        "soundfile",
    }


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_survives_json(name: str) -> None:
    recipe = RECIPES[name]()
    assert from_json(Recipe, json.loads(json.dumps(to_json(recipe)))) == recipe


def test_commands_of_the_readme_exist() -> None:
    verbs = re.findall(r"(?:^|`)unheard ((?:data )?[a-z]+)", README, re.MULTILINE)
    for verb in verbs:
        chain, _, rest = app.parse_commands(verb.split())
        assert list(chain) == verb.split(), f"unheard {verb}: {rest} is no verb"


def test_scripts_of_the_readme_exist_and_run_anywhere() -> None:
    for name in {*re.findall(r"scripts/(\w+)", README), "install", "test", "check", "bench", "parity", "demo", "docs"}:
        script = ROOT / "scripts" / name
        assert os.access(script, os.X_OK), f"scripts/{name} is missing or cannot be run"
        text = script.read_text()
        assert text.startswith("#!/usr/bin/env bash\n#")
        assert "set -euo pipefail" in text
        subprocess.run(["bash", "-n", script], check=True)
