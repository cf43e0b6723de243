"""``unheard data pack`` and ``unheard data targets``: store what training reads, once for a corpus."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from unheard.addresses import named
from unheard.api.options import TargetOptions
from unheard.cli.shell import (
    DONE,
    Continue,
    DeviceOption,
    Flat,
    GrowingOut,
    JobOptions,
    Json,
    LocalGrowingOut,
    Strict,
    allow_code,
    data,
    emit,
    one_task,
    planned,
    status,
    verb,
)
from unheard.errors import ConfigError
from unheard.progress import bar

if TYPE_CHECKING:
    from unheard.data.pack_clip import PackConfig
    from unheard.data.store import Store
    from unheard.jobs.running import TaskReport

NAME = "objectives.distill.teachers.0.name"


@Flat
@dataclass(frozen=True)
class FrontEnd:
    """Choice of the recipe whose front end transforms the sounds.

    Parameters
    ----------
    recipe
        Recipe whose front end is used: a name listed by unheard recipes, or a .py file, which is executed.
    no_code
        Refuse a recipe that is a .py file.
    """

    recipe: str = "msm-mae"
    no_code: bool = False


@Flat
@dataclass(frozen=True)
class PackOptions:
    """What is stored, and how.

    Parameters
    ----------
    store
        spec: spectrograms. wav: 16-bit waveforms, transformed during training. Default: the input of the recipe.
    dtype
        Data type of spectrograms; uint8 needs half the space.
    rate
        Sample rate of waveforms in Hz. Default: that of the front end.
    workers
        Number of threads of each process; auto: one per core of the process.
    shard_mb
        Size of a shard in MB. A process packs whole shards, so a small corpus needs smaller ones for several processes.
    """

    store: Literal["spec", "wav"] | None = None
    dtype: Literal["float16", "uint8"] = "float16"
    rate: int | None = None
    workers: int | Literal["auto"] = "auto"
    shard_mb: int = 256


@verb("unheard data pack my_audio/ -o corpora/mine", data)
def pack(
    *sources: Path,
    out: GrowingOut,
    front_end: FrontEnd = FrontEnd(),
    options: PackOptions = PackOptions(),
    job: Annotated[JobOptions, Flat] = JobOptions(),
    resume: Continue = False,
    json: Json = False,
    strict: Strict = False,
) -> int:
    """Pack a corpus for training as spectrograms or waveforms. A partly packed folder is completed.

    Parameters
    ----------
    sources
        Folders of audio, archives (.tar, .parquet, .h5), CSVs with a column path, or fetched corpora.
        Sources and -o may be at addresses such as s3://BUCKET/FOLDER.
    """
    if not sources:
        raise ConfigError("give at least one source: a folder of audio, an archive, a CSV, or a fetched corpus")
    allow_code(front_end.recipe, front_end.no_code)
    from unheard.data.corpus import open_corpus
    from unheard.data.pack import pack as transform
    from unheard.data.packing.job import PackJob, estimate_pack, pack_in_tasks
    from unheard.jobs.addressed import in_tasks_at
    from unheard.jobs.addressed_job import refuse_parts_at
    from unheard.jobs.engines import Spread
    from unheard.jobs.running import TaskReport

    packing, spread = _packing(front_end.recipe, options), Spread(**vars(job.spread))
    threads = None if options.workers == "auto" else options.workers
    packed = PackJob(open_corpus(sources, bar), packing, out, threads, options.shard_mb * 2**20)
    if job.plan:
        return planned(estimate_pack(packed, spread), json)
    if spread == Spread():
        refuse_parts_at(out)
        stored: Store | TaskReport = transform(packed.corpus, packing, out, threads, bar, packed.shard_bytes)
    else:
        stored = in_tasks_at(out, spread, "pack", lambda place: pack_in_tasks(replace(packed, out=place), spread, bar))
    if isinstance(stored, TaskReport):
        return one_task(stored, out, "clips packed", json, strict)
    return _packed(stored, out, packing, json, strict)


def _packing(recipe: str, options: PackOptions) -> PackConfig:
    """Return what is stored of a clip."""
    from unheard.data.pack_clip import PackConfig
    from unheard.recipes import find_recipe

    chosen = find_recipe(recipe)
    waves = (options.store or chosen.data.input) == "wav"
    if options.rate is not None and not (waves and options.rate > 0):
        raise ConfigError(
            f"--rate is the sample rate of waveforms in Hz, such as 48000, and needs --store wav; got {options.rate}"
        )
    for name, value in (("--shard-mb", options.shard_mb), ("--workers", options.workers)):
        if isinstance(value, int) and value < 1:
            raise ConfigError(f"{name} must be at least 1; got {value}")
    return PackConfig(chosen.frontend, "int16" if waves else options.dtype, options.rate)


def _packed(packed: Store, out: Path, packing: PackConfig, json: bool, strict: bool) -> int:
    """Print the summary of a packed corpus."""
    mean, std = packed.statistics.mean[0], packed.statistics.std[0]
    lines = [
        *(f"skipped {skipped.path}: {skipped.reason}" for skipped in packed.skipped),
        (
            f"{len(packed)} clips, {packed.seconds_total / 3600:.2f} hours, {len(packed.skipped)} skipped;"
            f" {f'waves at {packing.rate} Hz, ' if packing.waves else ''}spectrogram mean {mean:.4f}, deviation"
            f" {std:.4f}; packed in {named(out)}"
        ),
    ]
    lines += packed.header.notes
    values = {
        "out": named(out),
        "clips": len(packed),
        "hours": packed.seconds_total / 3600,
        "store": packed.header.kind,
        "clipped": packed.header.clipped,
        "held_out": packed.header.held_out,
        "statistics": {"mean": mean, "std": std},
        "skipped": [asdict(skipped) for skipped in packed.skipped],
    }
    emit(lines, values, json)
    return status(len(packed.skipped), strict)


@verb("unheard data join corpora/speech corpora/music -o corpora/both", data)
def join(*parts: Path, out: LocalGrowingOut, json: Json = False) -> int:
    """Make one packed corpus of several, in seconds: shards are linked, not copied, and the parts may be deleted.

    Parameters
    ----------
    parts
        Packed corpora with the same front end and type, in the order of their clips.
    """
    from unheard.data.packing.joining import join_packed

    joined = join_packed(parts, out, bar)
    lines = [
        f"{len(joined)} clips, {joined.seconds_total / 3600:.2f} hours of {len(parts)} corpora; joined in {named(out)}"
    ]
    values = {"out": named(out), "clips": len(joined), "hours": joined.seconds_total / 3600, "parts": len(parts)}
    emit(lines, values, json)
    return DONE


@verb("unheard data targets corpora/mine --teacher models/clap -o targets/clap", data)
def targets(
    *sources: Path,
    teacher: str,
    options: Annotated[TargetOptions, Flat] = TargetOptions(),
    out: GrowingOut,
    job: Annotated[JobOptions, Flat] = JobOptions(),
    resume: Continue = False,
    device: DeviceOption = "auto",
    json: Json = False,
) -> int:
    """Compute a teacher's targets once for a corpus, for unheard pretrain. A partly written folder is completed.

    Parameters
    ----------
    sources
        A corpus packed with --store wav. For one process also folders of audio, archives (.tar, .parquet, .h5) and CSVs
        with a column path that fit into memory: give those of unheard pretrain, in the same order.
    teacher
        Folder of a Hugging Face CLAP, hf:DIR, hear:MODULE, or any model of ours.
    """
    from unheard import api
    from unheard.jobs.engines import Spread
    from unheard.jobs.running import TaskReport
    from unheard.teachers.storing import TargetsConfig
    from unheard.teachers.target_tasks import estimate_targets

    if not sources:
        raise ConfigError("give at least one source: a packed corpus, a folder of audio, an archive, or a CSV")
    if job.plan:
        config = TargetsConfig(teacher, **vars(options))
        return planned(estimate_targets(sources, config, device, Spread(**vars(job.spread))), json)
    stored = api.targets(sources, teacher, out, **vars(options), **vars(job.spread), device=device, track=bar)
    if isinstance(stored, TaskReport):
        return one_task(stored, out, "clips computed", json, False)
    header, size = stored.header, sum(shard.nbytes for shard in stored.shards)
    kept = "" if header.explained is None else f" ({header.explained:.1%} of the variance)"
    lines = [
        f"{header.clips} clips, {header.seconds / 3600:.2f} hours; {len(stored.index.times)} columns of {stored.rows} x"
        f" {header.dim} channels{kept}, {size / 1e6:.1f} MB; targets of {header.teacher} in {named(out)}",
        f"use them with: unheard pretrain {' '.join(map(named, sources))} -o RUN --recipe distill --set"
        f" {NAME}={named(out)}",
    ]
    values = {
        "out": named(out),
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
