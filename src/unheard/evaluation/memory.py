"""Fits on disk, so that an interrupted task goes on with the next fit and the same random numbers."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from unheard.evaluation.events import Postprocessing
from unheard.evaluation.fit import Fit
from unheard.evaluation.head import Hyper
from unheard.files import atomic_write

RNG = "random numbers"  # torch's generator after the fit


class Disk:
    """One safetensors file a fit in a folder, with the state of the generator after it.

    Parameters
    ----------
    folder : Path
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def get(self, index: int) -> Fit | None:
        """The fit of this number, having put the generator where it left it; None when it is not known, or its file is torn."""
        path = self.folder / f"{index:03d}.safetensors"
        if not path.is_file():
            return None
        try:
            with safe_open(path, "pt") as file:
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                told = json.loads(file.metadata()["fit"])
        except SafetensorError:
            return None
        torch.set_rng_state(tensors.pop(RNG))
        how = Postprocessing(**told["how"]) if told["how"] else None
        return Fit(Hyper(**told["hyper"]), tensors, told["score"], told["epoch"], how)

    def put(self, index: int, found: Fit) -> None:
        """Remember a fit."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{index:03d}.safetensors"
        how = asdict(found.how) if found.how else None
        told = {"hyper": asdict(found.hyper), "score": found.score, "epoch": found.epoch, "how": how}
        with atomic_write(path) as unfinished:
            save_file({**found.state, RNG: torch.get_rng_state()}, unfinished, {"fit": json.dumps(told)})
