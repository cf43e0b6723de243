"""Compare the tensors of a file with those that a model needs: names, shapes and finite values."""

from __future__ import annotations

from torch import Tensor

from unheard.errors import CheckpointError
from unheard.weights.plausible import printable


def refuse_not_finite(tensors: dict[str, Tensor], source: str) -> None:
    """Refuse weights that are not finite.

    Raises
    ------
    CheckpointError
        Naming the tensors that hold NaN or infinity.
    """
    bad = [
        printable(name)
        for name, value in tensors.items()
        if value.is_floating_point() and not bool(value.isfinite().all())
    ]
    if bad:
        raise CheckpointError(
            f"the weights of {source} hold NaN or infinity in {_listed(bad)}; use an earlier checkpoint, or a new copy"
        )


def compare_shapes(wanted: dict[str, Tensor], tensors: dict[str, Tensor], source: str) -> None:
    """Compare names and shapes.

    Raises
    ------
    CheckpointError
        Naming the tensors that are missing, unexpected or of another shape.
    """
    problems = [f"missing {name}" for name in wanted.keys() - tensors.keys()]
    problems += [f"unknown {printable(name)}" for name in tensors.keys() - wanted.keys()]
    problems += [
        f"{name} is {tuple(tensors[name].shape)}, expected {tuple(value.shape)}"
        for name, value in wanted.items()
        if name in tensors and tensors[name].shape != value.shape
    ]
    if problems:
        raise CheckpointError(
            f"the weights of {source} do not fit its configuration: {_listed(sorted(problems), '; ')}"
        )


def _listed(names: list[str], between: str = ", ") -> str:
    return between.join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
