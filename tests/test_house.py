"""The rules of the house: who may import whom, how long things get, and what is documented."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path

import pytest

import unheard.api.options

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "unheard"

# A package imports itself and the rows above its own; packages in one row are blind to each other.
ROWS = (
    ("addresses", "version"),
    ("errors",),
    ("outputs", "metrics"),
    ("config", "settings", "files", "progress", "bootstrap", "devices", "read_ahead"),
    ("remote",),
    ("audio", "model", "jobs"),
    ("objectives", "trackers"),
    ("recipes",),
    ("data",),
    ("weights", "datasets"),
    ("teachers",),
    ("training", "embedding"),
    ("evaluation",),
    ("finetuning", "evaluation.hear", "evaluation.xares"),
    ("evaluation.probe", "finetuning.spans"),
    ("view",),
    ("serving",),
    ("hear", "hf", "mteb", "sentence_transformers", "xares"),
    ("api",),
    ("cli",),
    ("__init__", "__main__"),
)
BLIND = {("training", "datasets"), ("evaluation.probe", "evaluation.hear")}
"""The first never imports the second, although its row would allow it."""
HEIGHT = {room: row for row, rooms in enumerate(ROWS) for room in rooms}
FILES_AND_LOGS = {
    "argparse",
    "io",
    "json",
    "logging",
    "os",
    "pathlib",
    "safetensors",
    "shutil",
    "soundfile",
    "tempfile",
}
NEVER = {
    "torchvision",
    "torchaudio",
    "timm",
    "torchmetrics",
}  # they do not install or import with a CPU build of torch
MOST_LINES, MOST_IN_FUNCTION, MOST_FILES = 300, 60, 20
LONG_FUNCTION = 35
"""Length of the 90th percentile of functions, at most."""
MOST_PARAMETERS, MANY_PARAMETERS = 7, 9
"""Parameters of a function; the second of `cli`, whose parameters are flags, and of the verbs of `api`, without the
keywords that `unheard.api.options` describes.
"""

LIBRARY = sorted(SOURCE.rglob("*.py"))
EVERYTHING = [*LIBRARY, *sorted((ROOT / "benchmarks").rglob("*.py")), *sorted((ROOT / "tests").rglob("*.py"))]
Function = ast.FunctionDef | ast.AsyncFunctionDef


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def _package(path: Path) -> str:
    return _package_of(path.relative_to(SOURCE).with_suffix("").parts)


def _package_of(parts: Sequence[str]) -> str:
    """The package of a module in `ROWS`, from the parts of its name below ``unheard``."""
    return ".".join(parts[:2]) if ".".join(parts[:2]) in HEIGHT else parts[0]


def _imports(path: Path) -> Iterator[str]:
    """Every module that a file imports anywhere in it; ``from unheard import x`` counts as ``unheard.x``."""
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{_name(path)}:{node.lineno} imports relatively; write the whole name"
            if node.module == "unheard":
                yield from (f"unheard.{alias.name}" for alias in node.names)
            elif node.module:
                yield node.module


def _functions(path: Path) -> Iterator[tuple[str, Function]]:
    for node in ast.walk(_tree(path)):
        if isinstance(node, Function):
            yield f"{_name(path)}:{node.lineno} {node.name}", node


def _public(tree: ast.Module) -> Iterator[ast.Module | ast.ClassDef | Function]:
    """The module, its public classes and functions, and the public methods of those classes.

    An overload is documented by the function it overloads.
    """
    yield tree
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef) and not node.name.startswith("_")]
    yield from classes
    for node in (node for body in (tree.body, *(each.body for each in classes)) for node in body):
        overload = isinstance(node, Function) and any(ast.unparse(mark) == "overload" for mark in node.decorator_list)
        if isinstance(node, Function) and not node.name.startswith("_") and not overload:
            yield node


def _length(function: Function) -> int:
    """Lines of a function without its docstring."""
    first = function.body[0]
    documented = ast.get_docstring(function) is not None and first.end_lineno is not None
    return (
        (function.end_lineno or 0)
        - function.lineno
        + 1
        - ((first.end_lineno or 0) - first.lineno + 1 if documented else 0)
    )


def _parameters(function: Function) -> int:
    given = function.args
    names = [argument.arg for argument in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
    return len([name for name in names if name not in ("self", "cls")])


def test_imports_point_one_way() -> None:
    for path in LIBRARY:
        package = _package(path)
        assert package in HEIGHT, f"{package} has no place yet: give it one in ROWS"
        for other in {_package_of(module.split(".")[1:]) for module in _imports(path) if module.startswith("unheard.")}:
            assert other in HEIGHT, f"{_name(path)} imports unheard.{other}, which is no package"
            assert other == package or HEIGHT[other] < HEIGHT[package], (
                f"{_name(path)}: {package} must not import {other}"
            )
            assert (package, other) not in BLIND, f"{_name(path)}: {package} must not import {other}"


def test_folders_stay_small() -> None:
    counts = Counter(path.parent.relative_to(ROOT).as_posix() for path in LIBRARY)
    assert not {folder: count for folder, count in counts.items() if count > MOST_FILES}


def test_networks_and_losses_see_tensors_only() -> None:
    for path in (path for path in LIBRARY if _package(path) in ("model", "objectives")):
        found = {module.split(".")[0] for module in _imports(path)} & FILES_AND_LOGS
        assert not found, f"{_name(path)} imports {found}; files, arguments and logs are the work of other packages"
        called = {
            node.func.id
            for node in ast.walk(_tree(path))
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        }
        assert not called & {"open", "print"}, _name(path)


def test_packages_that_break_a_cpu_install_are_never_imported() -> None:
    assert not [
        (_name(path), module) for path in EVERYTHING for module in _imports(path) if module.split(".")[0] in NEVER
    ]


def test_files_stay_short() -> None:
    lengths = {_name(path): len(path.read_text().splitlines()) for path in EVERYTHING if path.parent.name != "parity"}
    assert not {name: lines for name, lines in lengths.items() if lines > MOST_LINES}


def test_functions_stay_short() -> None:
    lengths = {where: _length(function) for path in EVERYTHING for where, function in _functions(path)}
    assert not {where: lines for where, lines in lengths.items() if lines > MOST_IN_FUNCTION}


@pytest.mark.parametrize("folder", ["src", "benchmarks", "tests"])
def test_most_functions_are_shorter_still(folder: str) -> None:
    files = [path for path in EVERYTHING if path.relative_to(ROOT).parts[0] == folder]
    lengths = sorted(_length(function) for path in files for _, function in _functions(path))
    assert lengths[len(lengths) * 9 // 10] <= LONG_FUNCTION


def test_functions_take_few_parameters() -> None:
    verbs = set(unheard.api.__all__)
    described = [each for each in vars(unheard.api.options).values() if is_dataclass(each)]
    options = {field.name for each in described for field in fields(each)}
    for path in LIBRARY:
        for where, function in _functions(path):
            names = {argument.arg for argument in function.args.kwonlyargs}
            verb = _package(path) == "api" and function.name in verbs
            count = _parameters(function) - len(names & options if verb else ())
            most = MANY_PARAMETERS if verb or _package(path) == "cli" else MOST_PARAMETERS
            assert count <= most, f"{where} has {count} parameters: gather some in a dataclass"


def test_what_is_public_is_documented() -> None:
    assert not [
        (_name(path), getattr(node, "name", ""))
        for path in LIBRARY
        for node in _public(_tree(path))
        if not ast.get_docstring(node)
    ]


def test_shapes_name_the_array_class() -> None:
    """``Float[NDArray[Any], ...]`` fails at import with NumPy 2.5, where NDArray is an alias that jaxtyping cannot
    read.
    """
    found = [
        f"{_name(path)}:{node.lineno} {ast.unparse(node)}"
        for path in EVERYTHING
        for node in ast.walk(_tree(path))
        if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Tuple) and len(node.slice.elts) == 2
        if "NDArray" in ast.unparse(node.slice.elts[0]) and isinstance(node.slice.elts[1], ast.Constant | ast.JoinedStr)
    ]
    assert not found, f"write Float[np.ndarray, '...']: {found}"


def test_shapes_of_any_rank_have_a_name() -> None:
    """``Float[np.ndarray, ...]`` fails at import with jaxtyping 0.3.0, and ruff takes the quotes from ``"..."``."""
    found = [
        f"{_name(path)}:{node.lineno} {ast.unparse(node)}"
        for path in EVERYTHING
        for node in ast.walk(_tree(path))
        if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Tuple) and len(node.slice.elts) == 2
        if ast.unparse(node.slice.elts[0]) in ("np.ndarray", "Tensor") and ast.unparse(node.slice.elts[1]) == "..."
        if ast.unparse(node.value) != "tuple"
    ]
    assert not found, f"write Float[np.ndarray, '*shape']: {found}"


def test_private_modules_of_numpy_are_not_used() -> None:
    """``np._core`` is ``np.core`` before NumPy 2."""
    assert not [
        (_name(path), node.lineno)
        for path in EVERYTHING
        for node in ast.walk(_tree(path))
        if isinstance(node, ast.Attribute)
        and ast.unparse(node.value) in ("np", "numpy")
        and node.attr in ("core", "_core")
    ]


DENIED = re.compile(
    r"\b(told|heard|said|listens?|beside|drawn again|judged|fill-ins?|anew|lends|mend|goes on|what it makes of"
    r"|nobody)\b",
    re.IGNORECASE,
)
"""Words that names, docstrings, comments and messages do without: software does not hear, tell, say or judge."""

QUOTED = {"tests/test_house.py", "tests/test_docs.py"}
"""Files that quote the denied words."""

DENIED_TEXT = {"Nobody <nobody@example.org>": "maintainer of a made package, in the form of Debian's fields"}
"""Texts in which a denied word may stand, with the reason."""


def test_names_and_texts_use_plain_words() -> None:
    found = []
    for path in (path for path in EVERYTHING if path.relative_to(ROOT).as_posix() not in QUOTED):
        text = path.read_text()
        for allowed in DENIED_TEXT:
            text = text.replace(allowed, "")
        found += [
            f"{_name(path)}:{token.start[0]} {match.group(0)}"
            for token in tokenize.generate_tokens(io.StringIO(text).readline)
            if token.type in (tokenize.STRING, tokenize.COMMENT, tokenize.NAME)
            for match in DENIED.finditer(token.string.replace("_", " "))
        ]
    assert not found


def test_text_files_name_their_encoding() -> None:
    """The default is that of the locale, where names of classes may be lost or raise an error."""
    arguments, found = {"read_text": 0, "write_text": 1}, []
    for path in SOURCE.rglob("*.py"):
        for call in (node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Call)):
            name = call.func.attr if isinstance(call.func, ast.Attribute) else ""
            mode = call.args[0].value if call.args and isinstance(call.args[0], ast.Constant) else None
            if len(call.args) <= arguments.get(name, -1) or (name == "open" and mode in ("r", "w", "a", "x", "r+")):
                found += [] if "encoding" in [key.arg for key in call.keywords] else [f"{path}:{call.lineno}"]
    assert found == []
