"""Label a class by questions: which clip is next, and when the head is fitted.

The first clips are similar to the examples, with random ones between them, because a head needs clips without the
class. After every `EVERY` answers a linear head is fitted on all answers (`unheard.evaluation.probe.rare_class`). From
then on the next clip is the one with the smallest margin |logit|: its probability is nearest to one half.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from threading import RLock

import numpy as np
from jaxtyping import Float32, Int

from unheard.addresses import named
from unheard.errors import ConfigError
from unheard.evaluation.probe.fitted_head import LinearHead
from unheard.evaluation.probe.rare_class import FEWEST, ClassHead, WhitenedFolder, fit_class, joined
from unheard.serving.folder_vectors import Embedded
from unheard.serving.label_file import NOT, LabelFile
from unheard.serving.schemas_search import ClipOut, HeadOut, LabelState

EVERY = 20
"""Answers from one fit to the next (our choice)."""

MIX = 3
"""Every third of the first clips is a random one (our choice)."""


@dataclass
class Concept:
    """A class that is being labelled.

    Parameters
    ----------
    order : list of int
        Rows of the embeddings in the order of the first questions.
    history : list of (id, answer)
        For undo; None: skipped.
    head : ClassHead, optional
    fitted : int
        Number of answers at the latest fit.
    """

    order: list[int]
    history: list[tuple[str, bool | None]] = field(default_factory=list)
    head: ClassHead | None = None
    scored: HeadOut | None = None
    fitted: int = 0
    message: str = ""

    @property
    def skipped(self) -> set[str]:
        """Return the ids of skipped clips."""
        return {sound for sound, answer in self.history if answer is None}


class Labelling:
    """The classes of a folder that are being labelled; answers are stored at once.

    Parameters
    ----------
    found : Embedded
    file : LabelFile
    """

    def __init__(self, found: Embedded, file: LabelFile) -> None:
        self.found, self.file, self._lock = found, file, RLock()
        self._row = {each.id: row for row, each in enumerate(found.files)}
        self._concepts: dict[str, Concept] = {}
        self._whitened: WhitenedFolder | None = None

    def begin(self, name: str, like: Float32[np.ndarray, "n D"], first: Sequence[str] = ()) -> LabelState:
        """Begin a class, or continue it: ``first`` some files by id, then the clips that are similar to examples.

        Raises
        ------
        ConfigError
            When the name begins as the label of clips without a class.
        """
        if name.startswith(NOT) or name != name.strip():
            raise ConfigError(f"a class must not begin with {NOT!r} or with a space; got {name!r}")
        with self._lock:
            order = [*(self._row[sound] for sound in first if sound in self._row), *self._first_order(like)]
            if name in self._concepts:
                self._concepts[name].order = order
            else:
                answers = self.file.answers.get(name, {})
                self._concepts[name] = Concept(order, list(answers.items()))
                self._fit(name, self._concepts[name])
            return self.state(name)

    def answer(self, name: str, sound: str, answer: bool | None) -> LabelState:
        """Store an answer; None skips the clip. Fit the head when it is time."""
        with self._lock:
            concept = self._concept(name)
            if sound not in self._row:
                raise ConfigError("this file has no embedding, so it cannot be labelled")
            concept.history.append((sound, answer))
            concept.message = ""
            if answer is not None:
                self.file.set(name, sound, answer)
                if len(self.file.answers[name]) >= concept.fitted + EVERY:
                    self._fit(name, concept)
            return self.state(name)

    def undo(self, name: str) -> LabelState:
        """Take back the latest answer or skip."""
        with self._lock:
            concept = self._concept(name)
            if not concept.history:
                raise ConfigError(f"there is no answer for {name} to take back")
            sound, answer = concept.history.pop()
            if answer is not None:
                self.file.remove(name, sound)
                before = [given for other, given in concept.history if other == sound and given is not None]
                if before:
                    self.file.set(name, sound, before[-1])
            concept.message = "The latest answer was taken back."
            return self.state(name)

    def state(self, name: str) -> LabelState:
        """Return the numbers of a class and the next clip."""
        with self._lock:
            concept, answers = self._concept(name), self.file.answers.get(name, {})
            count = len(answers)
            return LabelState(
                name=name,
                yes=sum(answers.values()),
                no=count - sum(answers.values()),
                skipped=len(concept.skipped - set(answers)),
                until_fit=max(1, concept.fitted + EVERY - count),
                next=self._next(concept, answers),
                head=concept.scored,
                file=self.file.path.name,
                message=concept.message,
            )

    def head(self) -> LinearHead:
        """Fit the head of all classes that have enough clips with and without them.

        Raises
        ------
        ConfigError
            When there is no such class.
        """
        with self._lock:
            fitted = {name: self._fitted(name) for name in self.file.answers}
            heads = {name: head for name, (head, _) in fitted.items() if head is not None}
            if not heads:
                raise ConfigError(
                    f"a classifier needs at least {FEWEST} clips with a class and {FEWEST} without it; label some more"
                )
            return joined([*heads.values()], [*heads])

    def _concept(self, name: str) -> Concept:
        if name not in self._concepts:
            raise ConfigError(f"the class {name!r} was not begun; send it to POST /api/labels first")
        return self._concepts[name]

    def _first_order(self, like: Float32[np.ndarray, "n D"]) -> list[int]:
        """Return all rows: similar ones by falling similarity, every third one at random."""
        count = len(self.found.files)
        random: list[int] = np.random.default_rng(0).permutation(count).tolist()
        if not len(like):
            return random
        hits = self.found.table.search(like, like[:0], len(self.found.table))
        by_path = {named(file.path): row for row, file in enumerate(self.found.files)}
        similar = [by_path[hit.path] for hit in hits if hit.path in by_path]
        mixed, others = dict[int, None](), iter(random)
        for at, row in enumerate(similar):
            mixed[row] = None
            if at % (MIX - 1) == MIX - 2 and (other := next((o for o in others if o not in mixed), None)) is not None:
                mixed[other] = None
        return [*mixed, *(row for row in random if row not in mixed)]

    def _fit(self, name: str, concept: Concept) -> None:
        head, target = self._fitted(name)
        if head is not None:
            concept.head, concept.fitted, concept.scored = head, len(target), _scored(head, target)
        elif len(target) >= EVERY:
            concept.message = (
                f"A head needs {FEWEST} clips with the class and {FEWEST} without it. It is fitted as soon as they have"
                " an answer."
            )

    def _fitted(self, name: str) -> tuple[ClassHead | None, Int[np.ndarray, " n"]]:
        """Return the head of a class, None if it needs more answers, and the answers."""
        answers = {sound: given for sound, given in self.file.answers.get(name, {}).items() if sound in self._row}
        target = np.array([int(given) for given in answers.values()], np.int64)
        if min((target == 1).sum(), (target == 0).sum()) < FEWEST:
            return None, target
        if self._whitened is None:
            self._whitened = WhitenedFolder(self.found.vectors)
        return fit_class(self._whitened, np.array([self._row[sound] for sound in answers]), target), target

    def _next(self, concept: Concept, answers: dict[str, bool]) -> ClipOut | None:
        done = {self._row[sound] for sound in {*answers, *concept.skipped} if sound in self._row}
        if concept.head is None:
            row = next((row for row in concept.order if row not in done), None)
            return None if row is None else self._clip(row, None)
        logits = joined([concept.head], ["class"]).logits(self.found.vectors)[:, 0]
        for row in np.argsort(np.abs(logits), kind="stable").tolist():
            if row not in done:
                return self._clip(row, float(1 / (1 + np.exp(-logits[row]))))
        return None

    def _clip(self, row: int, score: float | None) -> ClipOut:
        file = self.found.files[row]
        return ClipOut(id=file.id, name=file.name, score=None if score is None else round(score, 4))


def _scored(head: ClassHead, target: Int[np.ndarray, " n"]) -> HeadOut:
    """Return the cross-validated scores of the labelled clips, and what is expected of the other clips."""
    predicted = head.held_out >= head.threshold
    right = int((predicted & (target == 1)).sum())
    return HeadOut(
        clips=len(target),
        precision=round(right / int(predicted.sum()), 4) if predicted.any() else None,
        recall=round(right / int(target.sum()), 4),
        true_positives=right,
        predicted=int(predicted.sum()),
        threshold=round(head.threshold, 4),
        detected=head.detected,
        expected=None if head.precision is None else round(head.precision, 4),
    )
