"""MAM-CLAP, SupMAM and SupMAM-CLAP: what a frozen CLAP says of each patch, and labels, beside or in place of pixels.

Xin, Peng, Lu: "Masked Audio Modeling with CLAP and Multi-Objective Learning", Interspeech 2023 (arXiv 2401.15953).

    mam-clap       L = mean_v D(h(z_v), t_v) + mean_m D(h(W y_m), t_m),  D = 1 - cos          t: the teacher's map, aligned
    sup-mam        L = pixels of hidden patches (AudioMAE) + lambda CE(labels, g(mean_v z_v))
    sup-mam-clap   L = mam-clap + lambda CE(labels, g(mean_v z_v))

Other than published: none of these reproduces the paper. Its text leaves open which CLAP, how the maps are aligned, the
heads, the distance and the weights, and no code or weights were found. Student, window, mask ratio, batch and schedule
are AudioMAE's, which it builds on; the rest are our choices, each a field of ``objectives.clap`` and
``objectives.supervise``; ``model.decoder=cross`` is CAE v2's regressor. Name the teacher with
``objectives.clap.teacher``: the folder of a Hugging Face CLAP checkpoint, or any model of ours, which is then called
feature distillation. Labels come from the column ``label`` of the corpus; clips without one teach the rest.
"""

from __future__ import annotations

from dataclasses import replace

from unheard.objectives.clap import ClapConfig
from unheard.objectives.reconstruct import ReconstructConfig
from unheard.objectives.supervise import SuperviseConfig
from unheard.recipes import audiomae
from unheard.recipes.recipe import DataConfig, ObjectivesConfig, Recipe

PAPER = "after Xin et al. 2024, arXiv 2401.15953"
NUMBERS = "student as audiomae; heads, distance, alignment and weights ours: no reproduction"
LAMBDA = 1.0
"""Weight of the labels: our choice. The paper's is not known; SupMAE's 0.01 would vanish beside a mean over many
classes.
"""


def clap() -> Recipe:
    """Distillation on visible and hidden patches, no pixels."""
    objectives = ObjectivesConfig(ReconstructConfig(weight=0.0), ClapConfig(weight=1.0))
    return replace(
        audiomae.recipe(),
        name="mam-clap",
        paper=PAPER,
        hyperparameter_source=NUMBERS,
        objectives=objectives,
        data=DataConfig(input="wav"),
    )


def supervised() -> Recipe:
    """AudioMAE's reconstruction and the supervised branch."""
    student = audiomae.recipe()
    objectives = student.objectives.updated(SuperviseConfig(weight=LAMBDA))
    return replace(student, name="sup-mam", paper=PAPER, hyperparameter_source=NUMBERS, objectives=objectives)


def both() -> Recipe:
    """Distillation and the supervised branch."""
    student = clap()
    objectives = student.objectives.updated(SuperviseConfig(weight=LAMBDA))
    return replace(student, name="sup-mam-clap", objectives=objectives)
