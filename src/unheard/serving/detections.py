"""Detections over a recording: scores of windows are computed once, and merged for each threshold."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock

import numpy as np
from jaxtyping import Float, Float32

from unheard.embedding.embedder import Model
from unheard.embedding.embedding_model import EmbeddingModel
from unheard.embedding.segments import cut_blocks
from unheard.errors import ConfigError
from unheard.finetuning.ensemble import CHUNK, ClassifierEnsemble
from unheard.finetuning.spans.classifier import RunClassifier, WindowClassifier, open_classifier
from unheard.finetuning.spans.detecting import DetectionPlan, window_samples
from unheard.finetuning.spans.formats import Recording, SpanFormat, write_spans
from unheard.finetuning.spans.merging import Share, Shares, Span, SpanMerger
from unheard.weights.checkpoint import is_model

KEPT = 16
"""Recordings whose scores are kept (our choice)."""

LONGEST = 1800.0
"""Seconds of a recording that are scored (our choice)."""

NAMES: dict[SpanFormat, str] = {"csv": "spans.csv", "raven": "selections.txt", "audacity": "labels.txt"}
Read = Callable[[int], Float32[np.ndarray, " S"]]
"""Function that returns a recording at a sample rate."""


@dataclass(frozen=True, eq=False)
class Scored:
    """A recording with the scores of its windows.

    Parameters
    ----------
    seconds : float
        Length that was scored.
    shares : tuple of Share
        Time and scores of each window.
    """

    seconds: float
    shares: tuple[Share, ...]


class Detections:
    """The classifiers of a server: its model if that has classes, and saved heads.

    Parameters
    ----------
    model : EmbeddingModel
        The model of the server.
    labels : Path
        Heads are model folders next to this file.
    """

    def __init__(self, model: EmbeddingModel, labels: Path) -> None:
        self._model, self._folder, self._lock = model, labels.absolute().parent, Lock()
        self._open: dict[str, WindowClassifier] = {}
        self._scored: OrderedDict[tuple[str, str, float], Scored] = OrderedDict()

    def names(self) -> list[str]:
        """Return the classifiers: ``model``, and the names of folders."""
        own = ["model"] if isinstance(self._model, Model) and self._model.labels else []
        there = sorted(place.parent.name for place in self._folder.glob("*/config.json"))
        return own + [name for name in there if name in self._open or self._has_classes(name)]

    def forget(self, name: str) -> None:
        """Open a classifier again at its next use: it was saved again."""
        with self._lock:
            self._open.pop(name, None)
            for key in [key for key in self._scored if key[0] == name]:
                del self._scored[key]

    def classifier(self, name: str) -> WindowClassifier:
        """Return a classifier by its name.

        Raises
        ------
        ConfigError
            When there is none.
        """
        with self._lock:
            if name not in self._open:
                if name not in self.names():
                    raise ConfigError(
                        f"there is no classifier {name!r}; save one in the view Label, or serve a fine-tuned model"
                    )
                self._open[name] = (
                    RunClassifier(ClassifierEnsemble([self._model]))
                    if name == "model" and isinstance(self._model, Model)
                    else open_classifier(self._folder / name, "cpu")
                )
            return self._open[name]

    def path(self, name: str) -> Path:
        """Return the folder of a saved classifier."""
        return self._folder / name

    def scored(self, name: str, sound: str, plan: DetectionPlan, read: Read) -> Scored:
        """Return the scores of the windows of a recording; computed once for each version of it and each hop."""
        key = (name, sound, plan.hop)
        with self._lock:
            if key in self._scored:
                self._scored.move_to_end(key)
                return self._scored[key]
        made = _score(self.classifier(name), plan, read)
        with self._lock:
            self._scored[key] = made
            while len(self._scored) > KEPT:
                self._scored.popitem(last=False)
        return made

    def _has_classes(self, name: str) -> bool:
        place = self._folder / name
        return is_model(place) and '"classifier"' in (place / "config.json").read_text(encoding="utf-8")


def recording(path: str, scored: Scored, plan: DetectionPlan) -> Recording:
    """Merge the windows of a recording to its detections."""
    merger, spans = SpanMerger(path, plan.decision), []
    for share in scored.shares:
        spans += list(merger.add(share))
    spans += list(merger.finish())
    return Recording(path, scored.seconds, tuple(sorted(spans, key=lambda span: (span.start, span.end, span.label))))


def exported(found: Recording, kind: SpanFormat, sample_rate: int) -> tuple[str, bytes]:
    """Return the name and the content of a file with detections."""
    with TemporaryDirectory() as folder:
        out = Path(folder, NAMES[kind])
        absolute = Recording(str(Path(folder, found.path)), found.seconds, _within(found, folder))
        write_spans(out, kind, [absolute], sample_rate)
        return out.name, out.read_bytes().replace(f"{folder}/".encode(), b"")


def _within(found: Recording, folder: str) -> tuple[Span, ...]:
    return tuple(replace(span, path=str(Path(folder, span.path))) for span in found.spans)


def _score(classifier: WindowClassifier, plan: DetectionPlan, read: Read) -> Scored:
    rate = classifier.sample_rate
    wav = read(rate)
    windows = cut_blocks([wav], "", (rate, plan.window, plan.hop))
    shares, found = Shares(), list[Share]()
    while part := list(islice(windows, CHUNK)):
        scores: Float[np.ndarray, "n C"] = classifier.scores([window_samples(each) for each in part])
        for each, row in zip(part, scores, strict=True):
            found += list(shares.add(each.start, each.end, row))
    return Scored(len(wav) / rate, (*found, *shares.finish()))
