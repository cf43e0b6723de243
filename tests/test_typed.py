"""The Python blocks of the README and the guide pass ``mypy --strict``, and pyright if it is installed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "docs/start.md", *sorted((ROOT / "docs/guide").glob("*.md"))]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
"""A recipe file, which has a title after its language, is the user's own and need not be typed."""
MYPY = ["mypy", "--strict", "--scripts-are-modules"]


def check(folder: Path, command: list[str]) -> str:
    """Write the blocks that use the library, a file for each, and return what a type checker prints of an error."""
    for page in PAGES:
        for number, text in enumerate(BLOCK.findall(page.read_text())):
            (folder / f"{page.stem}_{number}.py").write_text(text)
    env = {**os.environ, "MYPYPATH": str(ROOT / "src"), "PYTHONPATH": str(ROOT / "src")}
    files = sorted(str(file) for file in folder.glob("*.py"))
    done = subprocess.run([sys.executable, "-m", *command, *files], cwd=ROOT, env=env, capture_output=True, text=True)
    return done.stdout + done.stderr if done.returncode else ""


@pytest.mark.slow
def test_blocks_pass_mypy(tmp_path: Path) -> None:
    assert not check(tmp_path, MYPY)


@pytest.mark.slow
def test_mypy_sees_the_types(tmp_path: Path) -> None:
    """Untyped names would accept these lines."""
    lines = ["import unheard", "", "unheard.load().embed('a').scen", "unheard.embed('m', 'a/', 'o', pol='max')", ""]
    (tmp_path / "wrong.py").write_text("\n".join(lines))
    found = check(tmp_path, MYPY)
    assert 'wrong.py:3: error: "Embedding" has no attribute "scen"' in found
    assert 'wrong.py:4: error: Unexpected keyword argument "pol"' in found


@pytest.mark.slow
def test_blocks_pass_pyright(tmp_path: Path) -> None:
    pytest.importorskip("pyright")
    assert not check(tmp_path, ["pyright", "--pythonpath", sys.executable])
