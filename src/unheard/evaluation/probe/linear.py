"""Linear heads for all embeddings and splits of a protocol; the regularisation is selected once for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from unheard.evaluation.probe.heads import Table, Vectors, choose_strength, logistic_regression
from unheard.evaluation.probe.protocol import Predictions, ProbeProtocol, ProtocolSplit


class LinearHeads:
    """Fit logistic regressions. The inverse regularisation C is selected on the clips of each split and cached.

    Parameters
    ----------
    protocol : ProbeProtocol
    runs : mapping of str to sequence of ndarray
        Vectors (n, D) of each run, by embedding.
    strength : float, optional
        Fixed value of C.
    """

    def __init__(
        self, protocol: ProbeProtocol, runs: Mapping[str, Sequence[Vectors]], strength: float | None = None
    ) -> None:
        self.protocol, self.runs, self._given = protocol, runs, strength
        self._chosen: dict[tuple[str, int, bytes], float] = {}

    def strength(self, name: str, run: int, part: ProtocolSplit) -> float:
        """Return the inverse regularisation C of an embedding in a split."""
        if self._given is not None:
            return self._given
        vectors, labels = self.runs[name][run], self.protocol.labels
        key = (name, 0 if vectors is self.runs[name][0] else run, part.train.tobytes())
        if key not in self._chosen:
            self._chosen[key] = choose_strength(vectors, labels.ternary_targets, part.inner_splits, labels.multilabel)
        return self._chosen[key]

    def answers(
        self, name: str, few: Sequence[Sequence[ProtocolSplit]] | None = None, vectors: Sequence[Vectors] | None = None
    ) -> Predictions:
        """Return the predictions of an embedding for the test clips.

        Parameters
        ----------
        name : str
            Embedding whose regularisation is used.
        few : sequence of sequence of ProtocolSplit, optional
            Splits of each run with fewer training clips; C is then selected on these clips only.
        vectors : sequence of ndarray, optional
            Vectors (n, D) of each run, instead of those of the embedding.
        """
        vectors, labels = vectors or self.runs[name], self.protocol.labels

        def fit_predict(run: int, part: ProtocolSplit) -> Table:
            fitted = part if few is None else few[run][part.number]
            train_rows, strengths = fitted.train, [self.strength(name, run, fitted)]
            return logistic_regression(
                vectors[run][train_rows],
                labels.ternary_targets[train_rows],
                vectors[run][part.test],
                strengths,
                labels.multilabel,
            )[0]

        return self.protocol.answers(fit_predict, same=few is None and all(run is vectors[0] for run in vectors))
