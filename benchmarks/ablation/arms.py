"""The arms of the sweep: one student, one corpus, other objectives."""

from __future__ import annotations

from dataclasses import dataclass, replace

from unheard.config import override
from unheard.data.shard_layout import Stores
from unheard.errors import ConfigError
from unheard.recipes import find_recipe
from unheard.recipes.recipe import Recipe

STUDENT = (
    "model.frames=208",
    "training.clip_norm=3",
    "training.learning_rate=0.001",
    "training.warmup=0.07",
    "training.precision=auto",
)
NO_PIXELS = "objectives.reconstruct.weight=0"
EMA = (
    NO_PIXELS,
    "model.mask_ratio=0.7",
    "model.decoder_preset=latents",
    "objectives.latents.standardise_target=false",
    "objectives.latents.distance=mse",
    "teacher.sees=all",
    "teacher.owns=encoder",
    "teacher.layers=null",
    "teacher.taps=block",
    "teacher.norm=instance_layer",
)
"""An EMA teacher with the targets of the recipe m2d-short, under which its features do not collapse in short runs."""
RESUMED = 100  # steps that a killed run loses at most
CLAP = (NO_PIXELS, "objectives.distill.weight=1")
WAVE = ("data.input=wav", "training.batch_size=32")  # each recipe computes its own front end
MANY_VIEWS = ("data.input=wav", "training.learning_rate=5e-4", "training.batch_size=12")  # published rate; 192 views


@dataclass(frozen=True)
class Arm:
    """What an arm changes of the student, and the supervision it gets."""

    settings: tuple[str, ...]
    supervision: str = "nothing"
    """Supervision beyond the sound itself."""
    teacher: str = ""
    """"given": the teacher of the command line; else the name of a model."""
    recipe: str = "msm-mae"
    """The named recipe that the settings change."""

    @property
    def store(self) -> Stores:
        """What its windows are cut from."""
        return "wav" if self.teacher or "data.input=wav" in self.settings else "spec"


ARMS: dict[str, Arm] = {
    "pixels": Arm(()),
    "latents": Arm((*EMA, "objectives.latents.weight=1")),
    "prototypes": Arm((*EMA, "objectives.latents.weight=0.5", "objectives.prototypes.weight=0.5")),
    "hypotheses": Arm(
        (*EMA, "objectives.latents.weight=0.5", "objectives.prototypes.weight=0.5", "model.num_hypotheses=5")
    ),
    "clap-visible": Arm((*CLAP, "objectives.distill.teachers.0.hidden=0"), "captions", "given"),
    "clap-hidden": Arm((*CLAP, "objectives.distill.teachers.0.visible=0"), "captions", "given"),
    "clap-both": Arm(CLAP, "captions", "given"),
    "random-teacher": Arm(CLAP, "nothing", "random-tiny"),
    "supervised": Arm(("objectives.supervise.weight=1",), "labels"),
    "supervised-clap": Arm((*CLAP, "objectives.supervise.weight=1"), "labels, captions", "given"),
    "msm-mae": Arm(WAVE),
    "m2d": Arm(WAVE, recipe="m2d"),
    "matpac": Arm(WAVE, recipe="matpac"),
    "eat": Arm(MANY_VIEWS, recipe="eat"),
    "bat": Arm(MANY_VIEWS, recipe="bat"),
}


def recipe_of(
    name: str, size: str, seed: int, steps: int, points: int, teacher: str, settings: tuple[str, ...]
) -> Recipe:
    """The recipe of one run.

    Parameters
    ----------
    points : int
        Checkpoints spread over the run; all are kept.
    teacher : str
        The folder that arms with a given teacher learn from.

    Raises
    ------
    ConfigError
        For an arm that needs a teacher where none is given.
    """
    arm = ARMS[name]
    supervision = list(arm.settings)
    if arm.teacher:
        folder = teacher if arm.teacher == "given" else arm.teacher
        if not folder:
            raise ConfigError(f"arm {name} learns from a teacher; name its folder with --teacher")
        supervision += [f"objectives.distill.teachers.0.name={folder}", "data.input=wav"]
    every = max(1, steps // points)
    length = [
        f"training.steps={steps}",
        f"training.checkpoint_every={min(every, RESUMED)}",
        "training.keep_checkpoints=1",
        f"training.keep_every={every}",
    ]
    own = [f"model.size={size}", f"training.seed={seed}", "training.log_every=10", *length]
    return replace(override(find_recipe(arm.recipe), [*STUDENT, *own, *supervision, *settings]), name=name)
