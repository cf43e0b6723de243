"""Cache of fits on disk: an interrupted task continues with the next fit and the same random numbers."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from unheard.errors import DataError, warn_damaged
from unheard.evaluation.hear.events import Postprocessing
from unheard.evaluation.hear.fit import FitResult
from unheard.evaluation.hear.head import HyperParams
from unheard.files import FILES, atomic_write, differing_files, file_checksums, read_json, write_json

RNG_STATE_KEY = "random numbers"  # state of torch's generator after the fit


class DiskFitCache:
    """Cache of fits in a folder.

    Each fit is a safetensors file with its weights and the state of the generator after it, and a JSON file with its
    settings and checksum.

    Parameters
    ----------
    folder : Path
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def get(self, index: int) -> FitResult | None:
        """Return a fit and restore the state of the generator after it.

        Return None if its files are missing; also, with a warning, if they are damaged.
        """
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
        torch.set_rng_state(tensors.pop(RNG_STATE_KEY))
        how = Postprocessing(**stored["how"]) if stored["how"] else None
        return FitResult(HyperParams(**stored["hyper"]), tensors, float(stored["score"]), stored["epoch"], how)

    def put(self, index: int, found: FitResult) -> None:
        """Store a fit."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{index:03d}.safetensors"
        with atomic_write(path) as unfinished:
            save_file({**found.state, RNG_STATE_KEY: torch.get_rng_state()}, unfinished)
        settings = {"hyper": asdict(found.hyper), "score": str(found.score), "epoch": found.epoch}
        how = asdict(found.postprocessing) if found.postprocessing else None
        write_json(path.with_suffix(".json"), {**settings, "how": how, FILES: file_checksums(self.folder, [path.name])})
