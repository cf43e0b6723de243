"""A recipe: a front end, a model, weighted objectives, and training settings.

A recipe is data. Each of the other files of this package describes the method of one paper and holds its numbers.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import FrozenInstanceError, dataclass, field, replace
from typing import Annotated, Any, Literal, get_type_hints

from pydantic import Field, GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from unheard.audio.frontend import LogMelConfig
from unheard.audio.frontend_kinds import FrontendConfig
from unheard.config import Count, Fraction, Momentum, OpenSection, Positive, Weight, from_json
from unheard.errors import ConfigError
from unheard.model.sizes import MaskConfig, ModelConfig
from unheard.objectives.contrast import ContrastConfig
from unheard.objectives.distill import DistillConfig
from unheard.objectives.latents import LatentsConfig
from unheard.objectives.prototypes import PrototypesConfig
from unheard.objectives.reconstruct import ReconstructConfig
from unheard.objectives.registry import REGISTERED, name_of
from unheard.objectives.retention import RetentionConfig
from unheard.objectives.supervise import SuperviseConfig
from unheard.objectives.teacher_schedules import TeacherConfig
from unheard.objectives.utterance import UtteranceConfig


class ObjectivesConfig(OpenSection, Mapping[str, Any]):
    """One section for each objective, by its registered name; the loss is the sum of weight * objective.

    The constructor takes configurations of registered objectives. Objectives of the package that are not given have
    their defaults.

    Raises
    ------
    ConfigError
        When a section is not the configuration of a registered objective, or an objective has two sections.
    """

    reconstruct: ReconstructConfig
    """Reconstruction of hidden patches."""
    latents: LatentsConfig
    """Prediction of the teacher's latents of hidden patches."""
    prototypes: PrototypesConfig
    """Prediction of the teacher's prototype assignments of hidden patches."""
    utterance: UtteranceConfig
    """Prediction of the teacher's mean latent of the window from the CLS token."""
    retention: RetentionConfig
    """Prediction of the teacher's latents of both sources from their mixture."""
    distill: DistillConfig
    """Feature distillation from frozen teachers."""
    supervise: SuperviseConfig
    """Supervision with the labels of the corpus."""
    contrast: ContrastConfig
    """Contrast with the captions of the corpus."""

    def __init__(self, *sections: Any) -> None:
        given = {name_of(section): section for section in sections}
        if len(given) < len(sections):
            raise ConfigError(
                "an objective has two sections; remove one of"
                f" {', '.join(type(section).__name__ for section in sections)}"
            )
        package = {name: given.pop(name, None) or kind() for name, kind in get_type_hints(ObjectivesConfig).items()}
        vars(self)["_sections"] = package | given

    @classmethod
    def types(cls) -> dict[str, Any]:
        """Return the configuration class of each registered objective, those of the package first."""
        return get_type_hints(cls) | {name: entry.config for name, entry in REGISTERED.items()}

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        kinds = {name: handler.generate_schema(kind) for name, kind in cls.types().items()}
        fields = {name: core_schema.typed_dict_field(kind, required=False) for name, kind in kinds.items()}
        return core_schema.no_info_after_validator_function(
            lambda values: cls(*values.values()), core_schema.typed_dict_schema(fields)
        )

    def active(self) -> dict[str, Any]:
        """Return the sections of the active objectives: those with a weight above 0."""
        return {name: section for name, section in self.items() if name not in self.unread() and section.weight > 0}

    def added(self) -> list[str]:
        """Return the names of the objectives that are not part of the package."""
        return [name for name in self if name not in get_type_hints(ObjectivesConfig)]

    def unread(self) -> dict[str, Mapping[str, Any]]:
        """Return the sections of a model folder that `read_recipe` keeps without parsing them."""
        return {name: section for name, section in self.items() if isinstance(section, Mapping)}

    def updated(self, *sections: Any) -> ObjectivesConfig:
        """Return the same sections with these replaced."""
        return self._with({name_of(section): section for section in sections})

    def _with(self, sections: Mapping[str, Any]) -> ObjectivesConfig:
        made = copy.copy(self)
        vars(made)["_sections"] = {**self, **sections}
        return made

    def __getitem__(self, name: str) -> Any:
        return vars(self)["_sections"][name]

    def __iter__(self) -> Iterator[str]:
        return iter(vars(self)["_sections"])

    def __len__(self) -> int:
        return len(vars(self)["_sections"])

    def __getattr__(self, name: str) -> Any:
        try:
            return vars(self)["_sections"][name]
        except KeyError:
            raise AttributeError(f"there is no section objectives.{name}", name=name, obj=self) from None

    def __setattr__(self, name: str, value: Any) -> None:
        raise FrozenInstanceError(f"cannot assign to objectives.{name}; use objectives.updated(section)")

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __repr__(self) -> str:
        return f"ObjectivesConfig({', '.join(map(repr, self.values()))})"


@dataclass(frozen=True)
class TrainingConfig:
    """Length, optimiser, precision and checkpoints of a run."""

    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Seed of initial weights, crops and masks."""
    epochs: Positive | None = None
    """Passes over the corpus; null: use steps."""
    steps: Count | None = None
    """Optimiser steps; null: from epochs, or from the size of the corpus when both are null."""
    batch_size: Count = 128
    """Crops of one optimiser step, over all processes."""
    accumulate: Count = 1
    """Parts into which each process splits its share of the batch, to save memory. The contrast with captions compares
    the windows of one part only.
    """
    activation_checkpointing: bool = False
    """Store the inputs of each block only, and compute its activations again in the backward pass: less memory, about a
    third more computation, the same numbers.
    """
    learning_rate: Weight | None = None
    """Peak learning rate; null: base_learning_rate * batch_size / 256."""
    base_learning_rate: Weight = 3e-4
    """Peak learning rate at a batch of 256."""
    warmup: Fraction = 0.1
    """Fraction of the run with linear warm-up from 0; then half a cosine down to 0."""
    min_learning_rate: Weight = 0.0
    """Smaller learning rates of the warm-up and of the cosine are raised to this (BAT: 1e-6)."""
    weight_decay: Weight = 0.05
    """AdamW weight decay."""
    weight_decay_on: Literal["matrices", "all"] = "matrices"
    """Parameters with weight decay: matrices, CLS and mask tokens (MAE reference), or biases and gains as well
    (MATPAC).
    """
    betas: tuple[Momentum, Momentum] = (0.9, 0.95)
    """AdamW moments (MAE reference)."""
    adam_eps: Positive = 1e-8
    """AdamW epsilon, added to the root of the bias-corrected second moment (PyTorch default)."""
    clip_norm: Positive | None = None
    """Largest global gradient norm; null: no clipping."""
    precision: Literal["auto", "float32", "bf16"] = "auto"
    """auto: bf16 on CUDA, float32 elsewhere."""
    compile: bool | None = None
    """torch.compile; null: on CUDA only."""
    devices: Count = 1
    """GPUs (or CPU processes) of this machine; torchrun and SLURM set their own number."""
    shard: bool = False
    """Split weights, gradients and optimiser states over the processes (FSDP2) in pre-training: for models that do not
    fit one device. It cannot be combined with compile=true.
    """
    log_every: Count = 20
    """Steps between two rows of metrics.jsonl."""
    checkpoint_every: Count = 500
    """Steps between two checkpoints."""
    keep_checkpoints: Count = 2
    """Number of latest checkpoints to keep."""
    keep_every: Count | None = None
    """Keep the checkpoints at multiples of this step as well, for the whole run; null: none."""
    skip_bad_batches: Annotated[int, Field(ge=0)] = 0
    """Number of batches with a loss that is not finite whose update is skipped; one more ends the run. Above 0 every
    step waits for the device.
    """


@dataclass(frozen=True)
class DataConfig:
    """How windows are sampled from the corpus."""

    crops: Literal["length", "one"] = "length"
    """Windows of a clip in one epoch: as many as fit its length, or one (as in the papers of MSM-MAE, M2D, MATPAC and
    MaskSpec).
    """
    balance: Literal["none", "domain"] = "none"
    """domain: every domain of a manifest gets the same number of windows."""
    short_clips: Literal["pad", "join"] = "pad"
    """What follows a clip shorter than the window: padding, or other short clips."""
    statistics: Literal["scalar", "band", "maskspec", "model"] = "scalar"
    """Normalise by the mean and deviation of the corpus, by those of each mel band, by those of MaskSpec for AudioSet,
    or by those of the model of --init.
    """
    min_std: Weight = 0.0
    """Smaller deviations are raised to this, for bands that hardly vary, such as those that a codec left empty."""
    mixtures: bool = False
    """Add the mixture of each window with the window before it in the batch, which doubles the batch (SSLAM)."""
    shuffle: Literal["windows", "blocks"] = "windows"
    """Shuffle all windows of an epoch, or read the shards of a packed corpus in random order and shuffle the windows of
    block_shards shards at a time; for a corpus at an address that is larger than the cache.
    """
    block_shards: Count = 8
    """Shards whose windows are shuffled together with shuffle=blocks."""
    on_device: bool | None = None
    """Keep packed spectrograms in the memory of the CUDA GPU and cut windows there. null: if they take at most a
    quarter of its free memory; true: up to 80 % of it.
    """
    input: Literal["spec", "wav"] = "spec"
    """Cut windows from packed spectrograms, or from waveforms; teachers and bands that vary need waveforms."""


@dataclass(frozen=True)
class Recipe:
    """A complete method: everything needed to train it again."""

    name: str = "msm-mae"
    """The recipe's name."""
    paper: str = ""
    """The publication."""
    hyperparameter_source: str = ""
    """Source of its hyperparameters."""
    frontend: FrontendConfig = field(default_factory=LogMelConfig)
    """Waveform to spectrogram; its kind is log-mel, kaldi-fbank, maskspec or db-minmax."""
    model: ModelConfig = field(default_factory=ModelConfig)
    """Encoder, decoder, window and mask ratio."""
    mask: MaskConfig = field(default_factory=MaskConfig)
    """Shape of the mask, and number of masks of a window."""
    objectives: ObjectivesConfig = field(default_factory=ObjectivesConfig)
    """Losses of the masked pass."""
    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    """The EMA teacher, if an objective needs one."""
    training: TrainingConfig = field(default_factory=TrainingConfig)
    """Optimiser, schedule, precision."""
    data: DataConfig = field(default_factory=DataConfig)
    """Sampling and normalisation of windows."""


def read_recipe(values: object) -> Recipe:
    """Build the recipe of a model folder.

    Sections of objectives from outside the package are kept unparsed, because their code may be missing.

    Raises
    ------
    ConfigError
        As `from_json`.
    """
    found = values.get("objectives") if isinstance(values, Mapping) else None
    if not isinstance(values, Mapping) or not isinstance(found, Mapping):
        return from_json(Recipe, values)
    package = get_type_hints(ObjectivesConfig)
    recipe = from_json(Recipe, {**values, "objectives": {name: found[name] for name in package if name in found}})
    others = {name: section for name, section in found.items() if name not in package}
    for name, section in others.items():
        if not isinstance(section, Mapping):
            raise ConfigError(f"objectives.{name} must be a JSON object of settings; got {section!r}")
    return replace(recipe, objectives=recipe.objectives._with(others))
