"""Find the teacher a recipe names."""

from __future__ import annotations

from pathlib import Path

from unheard.errors import CheckpointError
from unheard.objectives.clap import ClapConfig
from unheard.teachers.clap import ClapTeacher, is_clap
from unheard.teachers.encoder import EncoderTeacher
from unheard.teachers.teacher import FrozenTeacher
from unheard.weights.built_in import open_model


def load_teacher(config: ClapConfig) -> FrozenTeacher:
    """The teacher in the folder ``config.teacher``: a CLAP checkpoint of Hugging Face, or a model of ours.

    Raises
    ------
    CheckpointError
        When none is named, there is none there, or it cannot be read.
    """
    if not config.teacher:
        raise CheckpointError(
            "this recipe learns from a frozen teacher and none is named; set objectives.clap.teacher to the folder of a"
            " Hugging Face CLAP checkpoint, or of any model of ours (feature distillation)"
        )
    folder = Path(config.teacher)
    if is_clap(folder):
        return ClapTeacher(folder, config.stage, config.projected)
    return EncoderTeacher(open_model(config.teacher))
