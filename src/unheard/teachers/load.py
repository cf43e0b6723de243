"""Load the teacher of a recipe."""

from __future__ import annotations

from pathlib import Path

from unheard.errors import CheckpointError
from unheard.objectives.clap import ClapConfig
from unheard.teachers.clap import ClapTeacher, is_clap
from unheard.teachers.encoder import EncoderTeacher
from unheard.teachers.teacher import FrozenTeacher
from unheard.weights.built_in import open_model


def load_teacher(config: ClapConfig) -> FrozenTeacher:
    """Load the teacher in the folder ``config.teacher``: a CLAP checkpoint of Hugging Face, or a model of this library.

    Raises
    ------
    CheckpointError
        When none is configured, the folder is missing, or it cannot be read.
    """
    if not config.teacher:
        raise CheckpointError(
            "this recipe needs a frozen teacher; set objectives.clap.teacher to the folder of a Hugging Face CLAP"
            " checkpoint, or to any model of this library (feature distillation)"
        )
    folder = Path(config.teacher)
    if is_clap(folder):
        return ClapTeacher(folder, config.stage, config.projected)
    return EncoderTeacher(open_model(config.teacher))
