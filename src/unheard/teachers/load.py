"""Load a teacher, or any frozen encoder, by name."""

from __future__ import annotations

from pathlib import Path

import torch

from unheard.errors import CheckpointError, ConfigError
from unheard.teachers.clap import ClapTeacher, Stage
from unheard.teachers.encoder import EncoderTeacher
from unheard.teachers.hear_module import HearTeacher, hear_encoder
from unheard.teachers.hf_encoder import HfTeacher
from unheard.teachers.hf_folder import read_hf_folder
from unheard.teachers.teacher import FrozenTeacher
from unheard.teachers.third_party import call_third_party
from unheard.weights.built_in import open_model
from unheard.weights.names import HEAR, HF, hf_model_type


def load_teacher(name: str, *, stage: Stage = "final", projected: bool = False) -> FrozenTeacher:
    """Load a frozen teacher.

    Parameters
    ----------
    name : str
        The folder of a Hugging Face ``ClapModel``; ``hf:DIR``, the folder of any known audio encoder of Hugging Face;
        ``hear:MODULE`` or ``hear:MODULE:WEIGHTS``, a module with the HEAR API; or any model of this library.
    stage : {"final", "middle"}
        Which map of CLAP.
    projected : bool
        Whether CLAP's map is projected into the space shared with text.

    Raises
    ------
    CheckpointError
        When none is named, it is missing, or cannot be read.
    ConfigError
        When a HEAR module cannot be loaded, or ``stage`` or ``projected`` is given for another teacher than CLAP.
    DataError
        When its features are not finite or do not follow its hop.
    UnheardError
        When transformers is needed and not installed.
    """
    if not name:
        raise CheckpointError(
            "this recipe needs a frozen teacher; set objectives.distill.teachers.0.name to hf:DIR (a Hugging Face"
            " audio encoder or CLAP checkpoint), hear:MODULE, any model of this library, or targets that unheard data"
            " targets wrote"
        )
    if name == HF:
        raise CheckpointError(f"{name} names no folder; write {HF}DIR")
    folder = Path(name.removeprefix(HF))
    source = read_hf_folder(folder) if name.startswith(HF) or hf_model_type(folder) == "clap" else None
    if source is not None and source.model_type == "clap":
        return _checked(ClapTeacher(folder, stage, projected))
    if stage != "final" or projected:
        raise ConfigError(f"stage and projected belong to CLAP, and {name} is none; leave them at final and false")
    if source is not None:
        return _checked(HfTeacher(source))
    if name.startswith(HEAR):
        return HearTeacher(hear_encoder(name.removeprefix(HEAR)))
    return EncoderTeacher(open_model(name))


def absolute_name(name: str) -> str:
    """Return a name with an absolute path if it is that of a folder, for runs that continue in another working
    directory.
    """
    prefix = HF if name.startswith(HF) else ""
    folder = Path(name.removeprefix(prefix))
    return f"{prefix}{folder.resolve()}" if name and folder.is_dir() else name


def _checked(teacher: FrozenTeacher) -> FrozenTeacher:
    """Return a teacher after it has computed the map of one second of silence."""
    call_third_party(lambda: teacher(torch.zeros(1, teacher.sample_rate)), f"running {teacher.name}")
    return teacher
