"""Targets of feature distillation, computed once for a corpus."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from unheard.progress import Track, silent

if TYPE_CHECKING:
    from unheard.teachers.stored import StoredTargets


def targets(
    data: str | Path,
    teacher: str,
    out: str | Path,
    *,
    stage: Literal["final", "middle"] = "final",
    projected: bool = False,
    pca: int | None = None,
    device: str = "cpu",
    track: Track = silent,
) -> StoredTargets:
    """Compute the feature maps of a frozen teacher for every clip of a corpus, and store them as float16.

    Parameters
    ----------
    data : path
        A corpus packed as waves, or a folder or table of sounds that fits into memory.
    teacher : str
        Folder of a Hugging Face CLAP, ``hf:DIR``, ``hear:MODULE``, or any model of this library.
    out : path
        Folder to write; partly stored targets of the same corpus and teacher are completed.
    stage, projected, pca
        See `TargetOptions`.

    Raises
    ------
    DataError
        When the corpus holds no waves, ``out`` holds other targets, or the teacher returns values that cannot be
        stored.
    CheckpointError
        When the teacher cannot be loaded.

    Examples
    --------
    >>> import unheard
    >>> unheard.api.targets("corpora/mine", "models/clap", "targets/clap", pca=128)  # doctest: +SKIP
    """
    from unheard.teachers.storing import TargetsConfig, store_targets

    return store_targets(data, TargetsConfig(teacher, stage, projected, pca), out, device, track)
