"""Names of earlier versions in model folders, translated when a folder is read.

objectives.clap    one teacher; since then ``objectives.distill`` with a list of teachers
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

OLD, NEW = "clap", "distill"
MARKS = {"teacher", "standardise"}
"""Fields of the old section, which that of another objective with this name lacks."""
TEACHER = ("stage", "projected", "visible", "hidden", "pooled", "distance", "standardise", "dim")
SHARED = ("visible_features", "heads", "balance")

Tensor = TypeVar("Tensor")


def current_names(recipe: Any, tensors: Mapping[str, Tensor]) -> tuple[Any, dict[str, Tensor]]:
    """Return the recipe and the weights of a model folder with the names of this version."""
    sections = recipe.get("objectives") if isinstance(recipe, Mapping) else None
    old = sections.get(OLD) if isinstance(sections, Mapping) else None
    if not isinstance(sections, Mapping) or not isinstance(old, Mapping) or not MARKS <= set(old):
        return recipe, dict(tensors)
    teacher = {name: old[name] for name in TEACHER if name in old} | {"name": old["teacher"]}
    section = {name: old[name] for name in SHARED if name in old} | {"teachers": [teacher]}
    new = {name: value for name, value in sections.items() if name != OLD}
    new[NEW] = {"weight": old.get("weight", 0.0), **section}
    return {**recipe, "objectives": new}, {_renamed(name): value for name, value in tensors.items()}


def _renamed(name: str) -> str:
    prefix = f"objectives.{OLD}."
    if not name.startswith(prefix):
        return name
    rest = name.removeprefix(prefix)
    return f"objectives.{NEW}.terms.0." + (rest.replace("head.", "heads.0.", 1) if rest.startswith("head.") else rest)
