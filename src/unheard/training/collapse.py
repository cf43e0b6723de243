"""A run of latent objectives can go on with a falling loss and nothing left to learn; this says so once, in a line."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from unheard.objectives.prototypes import Prototypes
from unheard.recipes.learner import PretrainModule

# Our choice, from short runs on real sounds: teachers with random weights are far on the good side of all of these.
LEAST_STD = 0.1
EASY_LOSS, LEAST_RANK, MOST_CLIP_SHARE = 0.05, 1.5, 0.85
MIN_EFFECTIVE_PROTOTYPES = 1.1
ROWS = 2
"""Rows in a row that must show it."""


class CollapseDetector:
    """Reads the rows of the journal and warns once of each kind of collapse.

    Parameters
    ----------
    learner : Learner
        Whose run it is.
    say : callable
        Takes the warning.
    """

    def __init__(self, learner: PretrainModule, say: Callable[[str], None]) -> None:
        self.say = say
        self.prototypes = sum(len(part.center) for part in learner.parts() if isinstance(part, Prototypes))
        self._seen = {self._features: 0, self._assignments: 0}

    def look(self, row: Mapping[str, float]) -> None:
        """Take in a row; warn when it and the ones before show collapse, unless that was said already."""
        for symptom, seen in self._seen.items():
            if seen >= ROWS:
                continue
            text = symptom(row)
            self._seen[symptom] = seen + 1 if text else 0
            if text and self._seen[symptom] == ROWS:
                self.say(f"warning    step {row['step']:.0f}: {text}")

    def _features(self, row: Mapping[str, float]) -> str:
        std, rank = row.get("diagnostics/feature_std", 1.0), row.get("diagnostics/effective_rank", LEAST_RANK)
        share, loss = row.get("diagnostics/between_clip_variance_fraction", 0.0), row.get("loss/latents", 1.0)
        easy = loss < EASY_LOSS and (rank < LEAST_RANK or share > MOST_CLIP_SHARE)
        if std >= LEAST_STD and not easy:
            return ""
        return (
            f"the teacher hardly tells patches apart (spread {std:.2f} of 1, in {rank:.1f} directions, {share:.0%} of"
            f" it between clips), so predicting it is easy (loss {loss:.3f}) and teaches little; pixels beside it"
            " (objectives.reconstruct.weight=1) or a teacher that stands still (teacher.max_initial_weight=1) keep the"
            " task hard, and so may a longer run on more sounds"
        )

    def _assignments(self, row: Mapping[str, float]) -> str:
        told = row.get("diagnostics/effective_prototypes", MIN_EFFECTIVE_PROTOTYPES)
        if told >= MIN_EFFECTIVE_PROTOTYPES:
            return ""
        return (
            f"the teacher says much the same of every patch (it tells them apart by {told:.2f} of {self.prototypes}"
            " prototypes), so naming them teaches nothing; try fewer objectives.prototypes.prototypes, a lower"
            " objectives.prototypes.teacher_temp, or the other objectives.prototypes.center"
        )
