"""MAM-CLAP, SupMAM and SupMAM-CLAP: feature distillation from a frozen CLAP, and supervision with labels.

Xin, Peng, Lu: "Masked Audio Modeling with CLAP and Multi-Objective Learning", Interspeech 2023 (arXiv 2401.15953).

    mam-clap       L = mean_v D(h(z_v), t_v) + mean_m D(h(W y_m), t_m),  D = 1 - cos
    sup-mam        L = pixels of hidden patches (AudioMAE) + lambda CE(labels, g(mean_v z_v))
    sup-mam-clap   L = mam-clap + lambda CE(labels, g(mean_v z_v))

t is the teacher's map, aligned to the student's patches.

Different from the publication: none of these recipes reproduces it. The paper does not specify the CLAP model, the
alignment of the maps, the heads, the distance and the weights, and we found no code or weights. Student, window, mask
ratio, batch and schedule are those of AudioMAE, on which it is based. The rest are our choices, each a field of
``objectives.distill`` and ``objectives.supervise``. ``model.decoder=cross`` is CAE v2's regressor.

Set the teacher with ``objectives.distill.teachers.0.name``: the folder of a Hugging Face CLAP checkpoint, or any other
teacher (feature distillation). Labels are read from the column ``label`` of the corpus. Clips without a label
contribute to the other losses only.
"""

from __future__ import annotations

from dataclasses import replace

from unheard.objectives.distill import DistillConfig
from unheard.objectives.reconstruct import ReconstructConfig
from unheard.objectives.supervise import SuperviseConfig
from unheard.recipes import audiomae
from unheard.recipes.recipe import DataConfig, ObjectivesConfig, Recipe

PAPER = "after Xin et al. 2024, arXiv 2401.15953"
NUMBERS = "student as audiomae; heads, distance, alignment and weights are our choice: no reproduction"
LAMBDA = 1.0
"""Weight of the labels: our choice. The paper's is unknown. SupMAE's 0.01 is too small for a mean over many classes."""


def clap() -> Recipe:
    """Return the recipe with distillation on visible and hidden patches, without pixels."""
    objectives = ObjectivesConfig(ReconstructConfig(weight=0.0), DistillConfig(weight=1.0))
    return replace(
        audiomae.recipe(),
        name="mam-clap",
        paper=PAPER,
        hyperparameter_source=NUMBERS,
        objectives=objectives,
        data=DataConfig(input="wav"),
    )


def supervised() -> Recipe:
    """Return the recipe with AudioMAE's reconstruction and the supervised branch."""
    student = audiomae.recipe()
    objectives = student.objectives.updated(SuperviseConfig(weight=LAMBDA))
    return replace(student, name="sup-mam", paper=PAPER, hyperparameter_source=NUMBERS, objectives=objectives)


def both() -> Recipe:
    """Return the recipe with distillation and the supervised branch."""
    student = clap()
    objectives = student.objectives.updated(SuperviseConfig(weight=LAMBDA))
    return replace(student, name="sup-mam-clap", objectives=objectives)
