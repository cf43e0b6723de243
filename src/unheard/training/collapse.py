"""Detection of representation collapse in runs with latent objectives, where the loss can fall without learning."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from unheard.objectives.prototypes import Prototypes
from unheard.recipes.learner import PretrainModule

# Our choice, from short runs on real audio; teachers with random weights are far from all of these limits.
LEAST_STD = 0.1
EASY_LOSS, LEAST_RANK, MOST_CLIP_SHARE = 0.05, 1.5, 0.85
MIN_EFFECTIVE_PROTOTYPES = 1.1
ROWS = 2
"""Number of consecutive rows that must show collapse before a warning."""


class CollapseDetector:
    """Check the logged metrics and warn once about each kind of collapse.

    Parameters
    ----------
    learner : PretrainModule
        Module that is trained.
    log : callable
        Receives the warning.
    """

    def __init__(self, learner: PretrainModule, log: Callable[[str], None]) -> None:
        self.log = log
        self.prototypes = sum(len(part.center) for part in learner.parts() if isinstance(part, Prototypes))
        self._counts = {self._features: 0, self._assignments: 0}

    def update(self, row: Mapping[str, float]) -> None:
        """Check one row of metrics. Warn when `ROWS` consecutive rows show collapse, once for each kind."""
        for symptom, count in self._counts.items():
            if count >= ROWS:
                continue
            text = symptom(row)
            self._counts[symptom] = count + 1 if text else 0
            if text and self._counts[symptom] == ROWS:
                self.log(f"warning    step {row['step']:.0f}: {text}")

    def _features(self, row: Mapping[str, float]) -> str:
        std, rank = row.get("diagnostics/feature_std", 1.0), row.get("diagnostics/effective_rank", LEAST_RANK)
        share, loss = row.get("diagnostics/between_clip_variance_fraction", 0.0), row.get("loss/latents", 1.0)
        easy = loss < EASY_LOSS and (rank < LEAST_RANK or share > MOST_CLIP_SHARE)
        if std >= LEAST_STD and not easy:
            return ""
        return (
            f"the teacher features are nearly the same for all patches (standard deviation {std:.2f}, effective rank"
            f" {rank:.1f}, {share:.0%} of the variance between clips; loss {loss:.3f}), so the model learns little. Add"
            " a reconstruction loss (objectives.reconstruct.weight=1), use the settings of the recipe m2d-short, the"
            " published EMA schedule (teacher.max_initial_weight=1), or longer training on more data"
        )

    def _assignments(self, row: Mapping[str, float]) -> str:
        effective = row.get("diagnostics/effective_prototypes", MIN_EFFECTIVE_PROTOTYPES)
        if effective >= MIN_EFFECTIVE_PROTOTYPES:
            return ""
        return (
            f"the teacher assigns nearly all patches to the same prototypes ({effective:.2f} effective prototypes of"
            f" {self.prototypes}), so the model learns little. Try fewer objectives.prototypes.prototypes, a lower"
            " objectives.prototypes.teacher_temp, or the other objectives.prototypes.center"
        )
