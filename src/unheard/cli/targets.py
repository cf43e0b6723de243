"""``unheard data targets``: compute the targets of feature distillation once for a corpus."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cyclopts import Parameter

from unheard.cli.shell import DONE, DeviceOption, Json, Out, data, emit, torch_device, verb
from unheard.progress import bar

NAME = "objectives.distill.teachers.0.name"


@Parameter(name="*")
@dataclass(frozen=True)
class TeacherChoice:
    """The teacher, and what is stored of it.

    Parameters
    ----------
    teacher
        Folder of a Hugging Face CLAP, hf:DIR, hear:MODULE, or any model of ours.
    stage
        Feature map of CLAP: before pooling, or four times finer from an earlier stage.
    projected
        Project each position of CLAP's final map into the space of audio and text.
    pca
        Number of channels to keep, by principal components of a sample of the corpus. Default: all channels.
    """

    teacher: str
    stage: Literal["final", "middle"] = "final"
    projected: bool = False
    pca: int | None = None


@verb("unheard data targets corpora/mine --teacher models/clap -o targets/clap", data)
def targets(
    source: Path, /, *, choice: TeacherChoice, out: Out, device: DeviceOption = "auto", json: Json = False
) -> int:
    """Compute a teacher's targets once for a corpus, for unheard pretrain. A partly written folder is completed.

    Parameters
    ----------
    source
        A corpus packed with --store wav, or a folder of audio that fits into memory.
    """
    from unheard import api

    where = torch_device(device)
    stored = api.targets(
        source, choice.teacher, out,
        stage=choice.stage, projected=choice.projected, pca=choice.pca, device=where, track=bar,
    )  # fmt: skip
    header, size = stored.header, sum(shard.nbytes for shard in stored.shards)
    kept = "" if header.explained is None else f" ({header.explained:.1%} of the variance)"
    lines = [
        f"{header.clips} clips, {header.seconds / 3600:.2f} hours; {len(stored.index.times)} columns of {stored.rows} x"
        f" {header.dim} channels{kept}, {size / 1e6:.1f} MB; targets of {header.teacher} in {out}",
        f"use them with: unheard pretrain {source} -o RUN --recipe distill --set {NAME}={out}",
    ]
    values = {
        "out": str(out),
        "teacher": header.teacher,
        "clips": header.clips,
        "hours": header.seconds / 3600,
        "columns": len(stored.index.times),
        "rows": stored.rows,
        "dim": header.dim,
        "explained": header.explained,
        "bytes": size,
    }
    emit(lines, values, json)
    return DONE
