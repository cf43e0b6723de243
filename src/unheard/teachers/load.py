"""Load a frozen teacher by its name."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from unheard.errors import CheckpointError
from unheard.teachers.clap import ClapTeacher, is_clap
from unheard.teachers.encoder import EncoderTeacher
from unheard.teachers.teacher import FrozenTeacher
from unheard.weights.built_in import open_model


def load_teacher(name: str, *, stage: Literal["final", "middle"] = "final", projected: bool = False) -> FrozenTeacher:
    """Load a teacher: the folder of a CLAP checkpoint of Hugging Face, or a model of this library.

    Parameters
    ----------
    stage, projected
        Which feature map of CLAP.

    Raises
    ------
    CheckpointError
        When no name is given, there is no such teacher, or it cannot be read.
    """
    if not name:
        raise CheckpointError(
            "this recipe needs a frozen teacher; set objectives.distill.teachers.0.name to the folder of a Hugging Face"
            " CLAP checkpoint, to any model of this library, or to targets that unheard data targets wrote"
        )
    if is_clap(Path(name)):
        return ClapTeacher(Path(name), stage, projected)
    return EncoderTeacher(open_model(name))
