"""Layouts of released files, one module for each family."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from unheard.weights.checkpoint import SavedModel
from unheard.weights.layouts import audiomae, bat, eat, maskspec, matpac, ntt
from unheard.weights.layouts.mae import Released


@dataclass(frozen=True)
class Layout:
    """How to read files of one family, and the terms of their publication."""

    read: Callable[[Released, Iterable[str]], SavedModel]
    licence: str
    redistribution: bool = False
    """Whether the terms allow others to publish the weights again."""


LAYOUTS: dict[str, Layout] = {
    "msm-mae": Layout(ntt.read_msm_mae, ntt.LICENCE.format("msm-mae")),
    "maskspec": Layout(maskspec.read, maskspec.LICENCE, redistribution=True),
    "audiomae": Layout(audiomae.read, audiomae.LICENCE, redistribution=True),
    "eat": Layout(eat.read, eat.LICENCE.format("cwx-worst-one/EAT"), redistribution=True),
    "sslam": Layout(eat.read_sslam, eat.LICENCE.format("ta012/SSLAM"), redistribution=True),
    "bat": Layout(bat.read, bat.LICENCE, redistribution=True),
    "m2d": Layout(ntt.read_m2d, ntt.LICENCE.format("m2d")),
    "matpac": Layout(matpac.read, matpac.LICENCE),
}
