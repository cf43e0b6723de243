"""Metrics of X-ARES tasks, and the same as statistics of resampled clips."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from unheard.bootstrap import Counts, Statistic, average_precisions_statistic, mean_statistic
from unheard.evaluation.xares.tasks import XaresTask
from unheard.metrics import average_precisions

Predicted = Sequence[tuple[Tensor, Tensor]]
"""Logits and targets of each batch, in order."""


def score(task: XaresTask, predicted: Predicted, hop: float = 0.0) -> float:
    """Return the metric of a task; higher is better.

    Parameters
    ----------
    hop : float
        Seconds between frames, for event tasks.
    """
    if task.kind == "frames":
        true, found, both = segment_counts(predicted, segment_frames(task.segment, hop))
        return _segment_f1(task, true.sum(axis=0), found.sum(axis=0), both.sum(axis=0))
    logits, targets = (torch.cat(parts).numpy() for parts in zip(*predicted, strict=True))
    if task.metric == "mAP":
        return float(np.nan_to_num(average_precisions(targets.astype(np.int64), logits), nan=0.0).mean())
    return float((logits.argmax(axis=1) == targets).mean())


def statistic(task: XaresTask, predicted: Predicted, hop: float = 0.0) -> Statistic:
    """Return `score` as a statistic of resampled rows."""
    if task.kind == "frames":
        counts = segment_counts(predicted, segment_frames(task.segment, hop))

        def of_clips(resampled: Counts) -> Float[np.ndarray, " R"]:
            sums = [np.einsum("nc,nr->rc", each.astype(np.float32), resampled) for each in counts]
            return np.array([_segment_f1(task, *of_one) for of_one in zip(*sums, strict=True)])

        return of_clips
    logits, targets = (torch.cat(parts).numpy() for parts in zip(*predicted, strict=True))
    if task.metric == "mAP":
        precisions = average_precisions_statistic(targets.astype(np.int64), logits)
        return lambda resampled: np.nan_to_num(precisions(resampled), nan=0.0).mean(axis=0)
    return mean_statistic(logits.argmax(axis=1) == targets)


def segment_frames(seconds: float, hop: float) -> int:
    """Return the number of frames of a segment: ceil(seconds / hop)."""
    return max(1, math.ceil(seconds / hop))


def segment_counts(predicted: Predicted, frames: int) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Return active, predicted and correctly predicted segments of each clip and class, each (n, C).

    A class is predicted where the rounded probability is 1, and 0.5 is rounded to 0. The last frames of a batch that
    fill no segment are left out.
    """
    found = []
    for logits, targets in predicted:
        on = _segments(logits.sigmoid().round(), frames), _segments(targets.float(), frames)
        guessed, true = (each.numpy() > 0 for each in on)
        found.append([true.sum(axis=1), guessed.sum(axis=1), (true & guessed).sum(axis=1)])
    true, guessed, both = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return true, guessed, both


def recall_at_1(audio: Float[Tensor, "n D"], text: Float[Tensor, "n D"], captions: int) -> tuple[float, float]:
    """Return the fraction of clips whose first match is one of their captions, and of captions with the right clip.

    Parameters
    ----------
    audio, text : Float[Tensor, "n D"]
        One row a caption; the vectors of a clip are repeated.
    """
    to_text, to_audio = recall_hits(audio, text, captions)
    return float(to_text.mean()), float(to_audio.mean())


def recall_hits(
    audio: Float[Tensor, "n D"], text: Float[Tensor, "n D"], captions: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return which clips have a first match among their captions, and the share of captions that find their clip."""
    clips, texts = F.normalize(audio[::captions], dim=1), F.normalize(text, dim=1)
    similarity = clips @ texts.T  # (clips, captions)
    owner = torch.arange(len(texts)) // captions
    to_text = owner[similarity.argmax(dim=1)] == torch.arange(len(clips))
    to_audio = similarity.argmax(dim=0) == owner
    return to_text.float().numpy(), to_audio.float().view(-1, captions).mean(dim=1).numpy()


def _segments(active: Float[Tensor, "B T C"], frames: int) -> Float[Tensor, "B S C"]:
    return F.max_pool1d(active.transpose(1, 2), frames, frames).transpose(1, 2) if active.shape[1] >= frames else (
        active[:, :0]
    )  # fmt: skip


def _segment_f1(task: XaresTask, true: NDArray[Any], found: NDArray[Any], both: NDArray[Any]) -> float:
    if task.metric == "segmentf1_micro":
        true, found, both = (each.sum(keepdims=True) for each in (true, found, both))
    total = true + found
    return float(np.where(total > 0, 2 * both / np.maximum(total, 1), 0.0).mean())
