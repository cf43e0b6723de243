"""Fits on disk, so that an interrupted task continues with the next fit and the same random numbers."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from unheard.errors import DataError, warn_damaged
from unheard.evaluation.events import Postprocessing
from unheard.evaluation.fit import Fit
from unheard.evaluation.head import Hyper
from unheard.files import FILES, atomic_write, differing_files, file_checksums, read_json, write_json

RNG = "random numbers"  # torch's generator after the fit


class Disk:
    """One safetensors file a fit in a folder, with the state of the generator after it, and a JSON file with its settings and checksum.

    Parameters
    ----------
    folder : Path
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def get(self, index: int) -> Fit | None:
        """The fit of this number, with the generator put where it left it; None when its files are missing or, with a warning, damaged."""
        settings = self.folder / f"{index:03d}.json"
        try:
            stored = read_json(settings)
        except FileNotFoundError:
            return None
        except DataError:
            warn_damaged(settings)
            return None
        if not settings.with_suffix(".safetensors").is_file():
            return None
        if differing := differing_files(self.folder, stored[FILES]):
            warn_damaged(self.folder / differing[0])
            return None
        tensors = load_file(settings.with_suffix(".safetensors"))
        torch.set_rng_state(tensors.pop(RNG))
        how = Postprocessing(**stored["how"]) if stored["how"] else None
        return Fit(Hyper(**stored["hyper"]), tensors, float(stored["score"]), stored["epoch"], how)

    def put(self, index: int, found: Fit) -> None:
        """Store a fit."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{index:03d}.safetensors"
        with atomic_write(path) as unfinished:
            save_file({**found.state, RNG: torch.get_rng_state()}, unfinished)
        settings = {"hyper": asdict(found.hyper), "score": str(found.score), "epoch": found.epoch}
        how = asdict(found.how) if found.how else None
        write_json(path.with_suffix(".json"), {**settings, "how": how, FILES: file_checksums(self.folder, [path.name])})
