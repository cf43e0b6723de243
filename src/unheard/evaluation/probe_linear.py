"""Linear heads for all embeddings and parts of an exam, with the regularisation chosen once for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from unheard.data.label_table import Index
from unheard.evaluation.probe_exam import Exam, Part, Said
from unheard.evaluation.probe_heads import Table, Vectors, choose_strength, linear


class LinearHeads:
    """Fits logistic regressions; the inverse strength C of an embedding and part is chosen on all its training clips and kept.

    Parameters
    ----------
    exam : Exam
    runs : mapping of str to sequence of ndarray
        Vectors (n, D) of each run, by embedding.
    strength : float, optional
        C where it is not to be chosen.
    """

    def __init__(self, exam: Exam, runs: Mapping[str, Sequence[Vectors]], strength: float | None = None) -> None:
        self.exam, self.runs, self._given = exam, runs, strength
        self._chosen: dict[tuple[str, int, int], float] = {}

    def strength(self, name: str, run: int, part: Part) -> float:
        """The inverse strength C of an embedding in a part."""
        if self._given is not None:
            return self._given
        same = self.exam.fixed and self.runs[name][run] is self.runs[name][0]
        key = (name, 0 if same else run, part.number)
        if key not in self._chosen:
            vectors, labels = self.runs[name][run][part.seen], self.exam.labels
            self._chosen[key] = choose_strength(vectors, labels.target[part.seen], part.halves, labels.multilabel)
        return self._chosen[key]

    def answers(self, name: str, clips: Sequence[Sequence[Index]] | None = None, vectors: Sequence[Vectors] | None = None) -> Said:
        """What an embedding says of the tested clips.

        Parameters
        ----------
        name : str
            The embedding whose strength is used.
        clips : sequence of sequence of Index, optional
            Training clips of each run and part, where not all teach.
        vectors : sequence of ndarray, optional
            Vectors (n, D) of each run instead of the embedding's own.
        """
        vectors, labels = vectors or self.runs[name], self.exam.labels

        def teach(run: int, part: Part) -> Table:
            seen = part.seen if clips is None else clips[run][part.number]
            strengths = [self.strength(name, run, part)]
            return linear(vectors[run][seen], labels.target[seen], vectors[run][part.test], strengths, labels.multilabel)[0]

        return self.exam.answers(teach, same=clips is None and all(run is vectors[0] for run in vectors))
