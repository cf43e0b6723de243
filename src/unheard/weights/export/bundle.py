"""The code of an exported model as one Python file that needs torch, numpy and transformers only.

It consists of the modules of this package that a model needs, joined in the order of their imports. Nothing is written
twice: what transformers runs without this package is the code that this package runs.
"""

from __future__ import annotations

import ast
from importlib.util import find_spec
from pathlib import Path

from unheard.version import __version__

CODE = "modeling_unheard.py"
"""Name of the file."""

MODULES = (
    *(
        "addresses",
        "errors",
        "devices",
        "audio.frames",
        "audio.limits",
        "audio.framing",
        "audio.frontend",
        "audio.kaldi",
        "audio.decibels",
    ),
    "audio.frontend_kinds",
    *("model.patches", "model.sizes", "model.transformer", "model.encoder", "model.classification", "model.classifier"),
    *("weights.export.graph", "weights.export.hf_model"),
)
"""Modules of this package in the file, each after those that it imports."""

NEEDED = {"torch", "numpy", "transformers"}
"""Packages that the file may import, apart from the standard library."""

ANNOTATION = '''
class _Annotation:
    """Takes the place of packages that only describe types and ranges."""

    def __getitem__(self, _): return self
    def __call__(self, *_, **__): return self
    def __or__(self, _): return self
    __ror__ = __or__
'''

ABSENT = {"jaxtyping", "pydantic", "unheard.config"}
"""Modules whose names become annotations without effect."""


def bundled_code() -> str:
    """Return the text of the file."""
    futures = "from __future__ import annotations\n"
    header = f'"""Model code of unheard {__version__} (Apache-2.0), joined from the modules of the package."""\n\n'
    return header + futures + ANNOTATION + "".join(_part(name) for name in MODULES)


def _part(module: str) -> str:
    """Return the code of one module without its imports from this package, and without docstring."""
    spec = find_spec(f"unheard.{module}")
    assert spec is not None and spec.origin is not None
    text = Path(spec.origin).read_text(encoding="utf-8")
    lines, nodes = text.splitlines(), ast.parse(text).body
    kept = [f"\n\n# unheard.{module}"]
    for index, node in enumerate(nodes):
        first = min([node.lineno, *(each.lineno for each in getattr(node, "decorator_list", []))])
        if isinstance(node, ast.ImportFrom):
            kept += _import(node, lines)
        elif not (index == 0 and isinstance(node, ast.Expr)):
            kept += lines[first - 1 : node.end_lineno]
    return "\n".join(kept) + "\n"


def _import(node: ast.ImportFrom, lines: list[str]) -> list[str]:
    module = node.module or ""
    if module in ABSENT:
        return [f"{alias.asname or alias.name} = _Annotation()" for alias in node.names]
    if module == "__future__" or module.removeprefix("unheard.") in MODULES:
        return []
    return lines[node.lineno - 1 : node.end_lineno]
