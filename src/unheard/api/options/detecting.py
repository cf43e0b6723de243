"""Options of detections."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class DetectOptions:
    """Options of detections.

    Parameters
    ----------
    threshold
        Lowest score of a detection, above 0 and at most 1; auto: those stored with the classifier. A fine-tuned run
        stores that of each class with the highest F1 on its validation clips. Default: 0.5.
    min_duration
        Leave out detections that are shorter, in seconds. Default: 0.
    max_gap
        Join detections of a class that are at most this far apart, in seconds. Default: 0.
    window
        Seconds of sound that are scored at once. Default: those of the clips that the classifier was trained with, at
        most the window of the encoder.
    hop
        Seconds between the starts of windows. Default: half a window. Times are as exact as the hop.
    format
        Default: csv if the output ends in .csv, raven for .txt and .tsv, and audacity for a folder.
    truth
        Annotations of the recordings: a CSV with the columns path, start, end and label, or a file or folder of Raven
        or Audacity. Event F1 and segment mAP are then computed.
    tolerance
        With --truth: largest difference of the starts of a detection and an annotation that match, in seconds. Default:
        0.2.
    """

    threshold: float | Literal["auto"] | None = None
    min_duration: float | None = None
    max_gap: float | None = None
    window: float | None = None
    hop: float | None = None
    format: Literal["csv", "raven", "audacity"] | None = None
    truth: Path | None = None
    tolerance: float | None = None
