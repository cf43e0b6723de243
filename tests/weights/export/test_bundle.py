"""The code of an exported model, in one file."""

from __future__ import annotations

import ast
import sys

from unheard.weights.export.bundle import NEEDED, bundled_code


def test_the_file_imports_nothing_of_this_package_and_few_others() -> None:
    nodes = list(ast.walk(ast.parse(bundled_code())))
    modules = [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]
    modules += [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    roots = {module.partition(".")[0] for module in modules}
    assert roots - set(sys.stdlib_module_names) == NEEDED
