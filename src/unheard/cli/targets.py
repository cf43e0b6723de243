"""``unheard data targets``: compute the targets of feature distillation once for a corpus."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from unheard.api.options import TargetOptions
from unheard.cli.shell import DONE, DeviceOption, Flat, GrowingOut, Json, data, emit, torch_device, verb
from unheard.progress import bar

NAME = "objectives.distill.teachers.0.name"


@verb("unheard data targets corpora/mine --teacher models/clap -o targets/clap", data)
def targets(
    source: Path,
    /,
    *,
    teacher: str,
    options: Annotated[TargetOptions, Flat] = TargetOptions(),
    out: GrowingOut,
    device: DeviceOption = "auto",
    json: Json = False,
) -> int:
    """Compute a teacher's targets once for a corpus, for unheard pretrain. A partly written folder is completed.

    Parameters
    ----------
    source
        A corpus packed with --store wav, or a folder of audio that fits into memory.
    teacher
        Folder of a Hugging Face CLAP, hf:DIR, hear:MODULE, or any model of ours.
    """
    from unheard import api

    stored = api.targets(source, teacher, out, **vars(options), device=torch_device(device), track=bar)
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
