"""Early stopping: the best validation so far, and when to end training.

Used by fine-tuning and by classifiers on frozen embeddings.
"""

from __future__ import annotations

import math


class EarlyStopping:
    """Track the best validation and the number of validations since then.

    Parameters
    ----------
    patience : int, optional
        Number of validations without improvement after which training ends; None never ends early.

    Attributes
    ----------
    best : tuple of float, optional
        The key of the best validation; None before the first.
    waited : int
        Validations since then.

    Examples
    --------
    >>> stopping = EarlyStopping(patience=2)
    >>> [stopping.improved(score) for score in (0.5, 0.7, 0.7, 0.6)], stopping.exhausted
    ([True, True, False, False], True)
    """

    def __init__(self, patience: int | None) -> None:
        self.patience, self.waited = patience, 0
        self.best: tuple[float, ...] | None = None

    def improved(self, *key: float) -> bool:
        """Compare a validation with the best one. Return whether it is better; the first one always is.

        Parameters
        ----------
        key : float
            Scores, higher is better. A later score breaks ties of the earlier ones. NaN counts as minus infinity.
        """
        scores = tuple(-math.inf if math.isnan(value) else value for value in key)
        better = self.best is None or scores > self.best
        self.best, self.waited = (scores, 0) if better else (self.best, self.waited + 1)
        return better

    @property
    def exhausted(self) -> bool:
        """Whether the last ``patience`` validations brought no improvement."""
        return self.patience is not None and self.waited >= self.patience
