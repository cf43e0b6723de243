"""The pages keep their promises: links and paths exist, commands parse and run, generated pages are up to date, and the
language follows the rules.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

import pytest

import unheard
from unheard.cli import main as _register
from unheard.cli.shell import app

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
LOG = DOCS / "log.md"
GENERATED = [DOCS / "reference" / name for name in ("cli.md", "settings.md")]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]
RUN = [
    DOCS / "start.md",
    *(DOCS / "guide" / f"{name}.md" for name in ("conventions", "data", "embed", "pretrain", "finetune", "probe")),
    *(DOCS / "guide" / f"{name}.md" for name in ("evaluate", "inspect", "convert", "export", "scale", "extend")),
    DOCS / "methods" / "index.md",
]
"""Pages whose blocks are run, in this order, in one folder."""

DENIED = (
    *("told", "heard", "said", "listen", "listens", "beside", "drawn again", "judged", "fill-in", "fill-ins"),
    *("anew", "lends", "mend", "goes on", "what it makes of", "nobody"),
)
ALLOWED = {
    "Masked Autoencoders that Listen": "title of a paper",
}
"""Texts in which a denied word may stand, with the reason. The name `unheard` is another word than "heard"."""

BLOCK = re.compile(r"((?:<!--[^\n]*-->\n)*)^```(\w+)([^\n]*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
assert _register is not None


@dataclass(frozen=True)
class Block:
    """A block of code on a page."""

    page: Path
    comment: str
    language: str
    title: str
    text: str

    @property
    def skipped(self) -> bool:
        """Whether the page gives a reason for not running it."""
        return "not run:" in self.comment


def blocks(page: Path) -> list[Block]:
    found = BLOCK.findall(page.read_text())
    return [Block(page, comment, language, title.strip(), text) for comment, language, title, text in found]


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def commands(block: Block) -> Iterator[list[str]]:
    """Yield the arguments of each ``unheard`` command of a block, variables of the block filled in."""
    variables: dict[str, str] = {}
    for line in re.sub(r"\\\n", " ", block.text).splitlines():
        if assigned := re.fullmatch(r'(\w+)="(.*)"', line.strip()):
            variables[assigned[1]] = assigned[2]
            continue
        filled = re.sub(r"\$(\w+)", lambda found: variables.get(found[1], "1"), line)
        words = shlex.split(filled, comments=True)
        if words[:1] == ["unheard"]:
            yield words[1:]
        elif "-m" in words and words[words.index("-m") + 1 :][:1] == ["unheard"]:
            yield words[words.index("-m") + 2 :]


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith(("http://", "https://")):
            continue
        file, _, anchor = target.partition("#")
        found = (page.parent / file) if file else page
        assert found.exists(), f"{name(page)} links to {target}, which does not exist"
        assert DOCS not in page.parents or DOCS in found.resolve().parents, (
            f"{name(page)}: {target} is outside the site"
        )
        if anchor:
            headings = re.findall(r"^#+ (.*)$", found.read_text(), re.MULTILINE)
            anchors = {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}
            assert anchor in anchors, f"{name(page)} links to {target}; the headings are {sorted(anchors)}"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_paths_exist(page: Path) -> None:
    if page == LOG:  # entries describe the tree of their day
        return
    for path in re.findall(r"(?<![\w/])((?:src|tests|scripts|docs|benchmarks)/[\w./-]*\w)", page.read_text()):
        assert (ROOT / path).exists(), f"{name(page)} names {path}, which does not exist"


@pytest.mark.parametrize("page", [page for page in PAGES if page != LOG], ids=name)
def test_commands_parse(page: Path) -> None:
    for block in blocks(page):
        if block.language != "bash":
            continue
        for arguments in commands(block):
            try:
                app.parse_args(arguments, exit_on_error=False, print_error=False)
            except Exception as error:
                raise AssertionError(f"{name(page)}: unheard {shlex.join(arguments)}: {error}") from error


def test_verbs_in_the_text_exist() -> None:
    for page in PAGES:
        if page == LOG:
            continue
        for words in re.findall(r"`unheard ((?:data |debug )?[a-z-]+)", page.read_text()):
            chain, _, rest = app.parse_commands(words.split())
            assert list(chain) == words.split(), f"{name(page)}: unheard {words}: {rest} is no verb"


@pytest.mark.skipif(
    f"cyclopts=={version('cyclopts')}" not in (ROOT / "constraints.txt").read_text().split(),
    reason="another version of cyclopts lays out help texts in another way",
)
def test_generated_pages_are_up_to_date() -> None:
    assert not generator().outdated(), "run scripts/docs --reference"


def test_every_page_is_in_the_navigation() -> None:
    text = (ROOT / "mkdocs.yml").read_text()
    listed = set(re.findall(r"[\w/-]+\.md", text.split("\nnav:")[1]))
    assert listed == {page.relative_to(DOCS).as_posix() for page in PAGES if DOCS in page.parents}


@pytest.mark.parametrize("page", [page for page in PAGES if page not in (LOG, *GENERATED)], ids=name)
def test_language(page: Path) -> None:
    """The generated pages repeat texts of the source, which has a test of its own."""
    text = page.read_text()
    for allowed in ALLOWED:
        text = text.replace(allowed, "")
    found = [
        f"{number}: {word}"
        for number, line in enumerate(text.splitlines(), 1)
        for word in DENIED
        if re.search(rf"\b{re.escape(word)}\b", line, re.IGNORECASE)
    ]
    assert not found, f"{name(page)}: {found}"


@pytest.mark.slow
def test_commands_run(tmp_path: Path) -> None:
    """Every block of the guide runs, in order, in one folder; those with a reason not to are left out."""
    shell = tmp_path / "bin"
    shell.mkdir()
    for program, words in (("unheard", "-m unheard"), ("python", "")):
        (shell / program).write_text(f'#!/bin/sh\nexec "{sys.executable}" {words} "$@"\n')
        (shell / program).chmod(0o755)
    place = tmp_path / "work"
    place.mkdir()
    source = str(Path(unheard.__file__).parents[1])
    env = {**os.environ, "PATH": f"{shell}:{os.environ['PATH']}", "PYTHONPATH": source, "OMP_NUM_THREADS": "1"}
    for block in (block for page in RUN for block in blocks(page) if not block.skipped):
        if block.title.startswith("title="):
            (place / shlex.split(block.title)[0].removeprefix("title=")).write_text(block.text)
        elif block.language in ("bash", "python"):
            command = ["bash", "-e"] if block.language == "bash" else [sys.executable, "-"]
            done = subprocess.run(command, input=block.text, cwd=place, env=env, capture_output=True, text=True)
            output = f"{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
            assert done.returncode == 0, f"{name(block.page)}:\n{block.text}\n{output}"
