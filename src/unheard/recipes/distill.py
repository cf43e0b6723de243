"""Reconstruction and distillation from several frozen teachers, for a small student.

    L = mean_m |x_m - y_m|^2 / P + sum_k w_k (mean_v D(h_k(z_v), t_k,v) + mean_m D(h_k(W_k y_m), t_k,m)),  D = 1 - cos

x: patches, y: decoder output, z: encoder output, t_k: the map of teacher k, aligned to the student's patches.

It generalises MAM-CLAP (arXiv 2401.15953) to teachers of any kind, and multi-objective learning to several of them, as
the layer-to-layer distillation of USAD does (arXiv 2506.18843). The student, its window and its training are those of
``msm-mae`` at size tiny. On two cores, reconstruction with distillation was the only arm ahead of random features, and
distillation alone lost it again: keep the reconstruction.

Different from the publication: it reproduces none. Weights, heads and distances are our choice.

Store the targets first (``unheard data targets``) and set ``objectives.distill.teachers`` to the folders:
``[{"name": "targets/a"}, {"name": "targets/b", "weight": 0.5}]``. A teacher that computes its targets in training needs
``data.input=wav``.
"""

from __future__ import annotations

from dataclasses import replace

from unheard.objectives.distill import DistillConfig
from unheard.objectives.reconstruct import ReconstructConfig
from unheard.recipes import msm_mae
from unheard.recipes.recipe import ObjectivesConfig, Recipe


def recipe() -> Recipe:
    """Return the recipe; its teachers have to be set."""
    student = msm_mae.recipe()
    return replace(
        student,
        name="distill",
        paper="after Xin et al. 2024, arXiv 2401.15953, and USAD 2025, arXiv 2506.18843",
        hyperparameter_source="our choice",
        model=replace(student.model, size="tiny"),
        objectives=ObjectivesConfig(ReconstructConfig(weight=1.0), DistillConfig(weight=1.0)),
    )
