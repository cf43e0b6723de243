"""Per-class results of one run: precision, recall and confusion matrix."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int

from unheard.data.class_sets import Index
from unheard.data.label_table import Labels
from unheard.evaluation.probe.heads import Table
from unheard.evaluation.probe.protocol import ProbeProtocol
from unheard.evaluation.probe.report import ClassScore, Prediction
from unheard.metrics import average_precisions, confusion_matrix

THRESHOLD = 0.5  # minimum score of a predicted class in multilabel tables; our choice


def class_scores(protocol: ProbeProtocol, embedding: str, head: str, answer: Table) -> list[ClassScore]:
    """Return precision, recall, F1 and average precision of every tested or predicted class, on annotated clips."""
    labels, truth = protocol.labels, protocol.labels.target[protocol.test_indices]
    calls = predicted(labels, answer, protocol.test_indices)
    hits, given, clips = ((part > 0).sum(axis=0) for part in (calls * truth, calls, truth))
    precision, recall, f1 = (
        hits / np.maximum(given, 1),
        hits / np.maximum(clips, 1),
        2 * hits / np.maximum(given + clips, 1),
    )
    marks = labels.ternary_targets[protocol.test_indices]
    table = np.stack([precision, recall, f1, average_precisions(marks.clip(min=0), answer, marks >= 0)], axis=1)
    return [
        ClassScore(embedding, head, name, int(clips[k]), precise, recall_value, both, ranked if clips[k] else None)
        for k, (name, (precise, recall_value, both, ranked)) in enumerate(
            zip(labels.classes, table.tolist(), strict=True)
        )
        if clips[k] or given[k]
    ]


def confusions(protocol: ProbeProtocol, answer: Table) -> list[list[int]]:
    """Return the confusion matrix, true class (row) and predicted class (column); empty for multilabel tables."""
    labels = protocol.labels
    if labels.multilabel:
        return []
    counts: list[list[int]] = confusion_matrix(
        labels.index[protocol.test_indices], answer.argmax(axis=1), len(labels.classes)
    ).tolist()
    return counts


def answers(protocol: ProbeProtocol, answer: Table) -> list[Prediction]:
    """Return the prediction for each test clip."""
    labels = protocol.labels
    calls = predicted(labels, answer, protocol.test_indices)
    return [
        Prediction(
            int(clip),
            labels.format_labels(labels.target[clip]),
            labels.format_labels(call),
            float(row.max()),
            labels.group[clip],
        )
        for clip, call, row in zip(protocol.test_indices, calls, answer, strict=True)
    ]


def predicted(labels: Labels, answer: Table, clips: Index) -> Int[np.ndarray, "m C"]:
    """Return 1 for the most likely class; for multilabel tables, for all annotated classes from `THRESHOLD` on."""
    if labels.multilabel:
        return np.asarray(((answer >= THRESHOLD) & (labels.ternary_targets[clips] >= 0)).astype(np.int64))
    return np.asarray(np.eye(answer.shape[1], dtype=np.int64)[answer.argmax(axis=1)])
