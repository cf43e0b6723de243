"""Which validation is the best so far, and when training ends: for fine-tuning, and for classifiers on frozen
embeddings.
"""

from __future__ import annotations

import math


class EarlyStopping:
    """The best validation so far, and how many followed it.

    Parameters
    ----------
    patience : int, optional
        Validations without improvement after which training ends; it never ends early without.

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
        """Compare a validation with the best. Return whether it is better; the first one always is.

        Parameters
        ----------
        key : float
            Scores of which more is better; a later one decides where those before it are equal. NaN counts as minus
            infinity.
        """
        found = tuple(-math.inf if math.isnan(value) else value for value in key)
        better = self.best is None or found > self.best
        self.best, self.waited = (found, 0) if better else (self.best, self.waited + 1)
        return better

    @property
    def exhausted(self) -> bool:
        """Whether as many validations as ``patience`` brought no improvement."""
        return self.patience is not None and self.waited >= self.patience
