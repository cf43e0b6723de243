"""Learning curve: the linear head on increasing fractions of the training clips."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np

from unheard.data.splits import draw_subset
from unheard.evaluation.probe.cache import FinishedHeads
from unheard.evaluation.probe.linear import LinearHeads
from unheard.evaluation.probe.protocol import Predictions
from unheard.evaluation.probe.report import CurvePoint
from unheard.progress import Track, silent

FRACTIONS = (0.05, 0.1, 0.25, 0.5, 1.0)  # of the training clips; our choice
HALF = 0.5


def learning_curve(
    heads: LinearHeads, whole: Mapping[str, Predictions], finished: FinishedHeads, track: Track = silent
) -> tuple[list[CurvePoint], Predictions]:
    """Score every embedding on `FRACTIONS` of the training clips. The regularisation is selected on the same fraction.

    Parameters
    ----------
    heads : LinearHeads
    whole : mapping of str to list of ndarray
        Predictions with all training clips, by embedding.
    finished : FinishedHeads

    Returns
    -------
    points : list of CurvePoint
    half : list of ndarray
        Predictions of the first embedding with half of the training clips.
    """
    protocol = heads.protocol
    jobs = [(name, fraction) for name in whole for fraction in FRACTIONS]
    points: list[CurvePoint] = []
    half: Predictions = []
    for name, fraction in track(jobs, len(jobs), "learning curve"):
        few = [
            [
                protocol.part(
                    part,
                    part.train[draw_subset(protocol.labels.target.take(part.train), fraction, protocol.seeds[run])],
                )
                for part in parts
            ]
            for run, parts in enumerate(protocol.runs)
        ]
        train = partial(heads.answers, name, few)
        found = whole[name] if fraction == 1 else finished(heads.runs[name], f"linear {fraction}", train)
        values = [protocol.value(answer) for answer in found]
        clips = float(np.mean([len(part.train) for parts in few for part in parts]))
        points.append(CurvePoint(name, fraction, clips, float(np.mean(values)), min(values), max(values)))
        half = found if fraction == HALF and not half else half
    return points, half
