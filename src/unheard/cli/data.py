"""``unheard data``: check, generate, fetch, label and verify corpora."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

from cyclopts import Parameter

from unheard.addresses import address_of, named
from unheard.cli.shell import (
    ADDRESS,
    DONE,
    USER_ERROR,
    Flat,
    GrowingOut,
    Json,
    Out,
    Overwrite,
    Strict,
    data,
    emit,
    status,
    verb,
)
from unheard.errors import ConfigError, DataError
from unheard.progress import bar
from unheard.remote.outputs import local_output, refuse_other_kind_at
from unheard.remote.writing import relocated, working_place

if TYPE_CHECKING:
    from unheard.datasets.hear_tasks import TaskOptions, TaskReport

TasksOut: TypeAlias = Annotated[
    Path,
    Parameter(
        name=["--out", "-o"],
        help=f"Folder to write. Other tasks in it are kept; one that exists needs --overwrite. {ADDRESS}",
    ),
]
TABLES = (".csv", ".tsv")
"""Suffixes of label tables."""


@verb("unheard data check my_audio/", data)
def check(*paths: Path, json: Json = False, strict: Strict = False) -> int:
    """Check sound files, and list those that are unreadable, truncated, empty, silent, clipped, duplicate or unusual.

    Parameters
    ----------
    paths
        Sound files, archives (.tar, .parquet, .h5), and folders that are searched recursively; other files are ignored.
        A sound in several of them is checked once.
    """
    from unheard.audio.folders import find_each_sound
    from unheard.data.check import check as check_files

    if not paths:
        raise ConfigError("give at least one path: a sound file, an archive, or a folder that holds some")
    report = check_files(paths[0] if len(paths) == 1 else find_each_sound(paths), bar)
    if not report.files:
        raise DataError(
            f"{', '.join(map(str, paths))}: holds no sound files that can be read here; expected wav, flac, ogg, opus,"
            " mp3 or aiff files in it or below it"
        )
    emit(report.lines(), report.to_json(), json)
    return status(not report.clean, strict)


@verb("unheard data generate -o sounds/ --clips 60", data)
def generate(*, out: Out, clips: int = 300, seed: int = 0, overwrite: Overwrite = False, json: Json = False) -> int:
    """Generate a labelled set of sounds: strings, bars, drums, chirps, voices, noises.

    Parameters
    ----------
    clips
        Number of clips; with at least 12, every family is in train and in test.
    seed
        Random seed; the same seed gives identical files.
    """
    from unheard.datasets.generate import make_sounds

    # other files in the folder are kept
    with local_output(out, kind="folder", resume=overwrite, verb="generate") as place:
        make_sounds(place, clips, seed, track=bar)
    labels = named(out / "labels.csv")
    emit([f"{clips} sounds and their labels: {labels}"], {"labels": labels, "clips": clips, "seed": seed}, json)
    return DONE


@verb("unheard data fetch S -o corpora/S", data)
def fetch(name: str, /, *, out: GrowingOut, json: Json = False, strict: Strict = False) -> int:
    """Fetch a corpus of real sounds with the package manager of the system.

    Parameters
    ----------
    name
        S, M or L (hours to tens of hours), soundfonts, or the name of one package with sounds.
    """
    from unheard.datasets.packages import packages
    from unheard.datasets.sources import fetch as get

    packages(name)  # an unknown one is refused before what is at an address is copied
    with local_output(out, kind="folder", resume=True, verb="fetch") as place:
        report = relocated(get(name, place, bar), place, out)
    emit(report.lines(), report.to_json(), json)
    return status(len(report.skipped), strict)


@verb("unheard data labels drum-hit corpora/M -o drum-hit.csv", data)
def labels(name: str, corpus: Path, /, *, out: Out, overwrite: Overwrite = False, json: Json = False) -> int:
    """Write the label table of a task on fetched sounds, for unheard probe.

    Parameters
    ----------
    name
        Task name, such as drum-hit, unit-action or gm-family.
    corpus
        Folder that unheard data fetch wrote, also at an address.
    """
    from unheard.datasets.filename_labels import write_labels

    with local_output(out, kind="file", overwrite=overwrite, verb="labels") as place:
        write_labels(name, corpus, place, bar)
    emit([f"labels: {named(out)}"], {"labels": named(out)}, json)
    return DONE


@Flat
@dataclass(frozen=True)
class TaskShape:
    """Form of the tasks.

    Parameters
    ----------
    sample_rate
        Sample rate in Hz; may be repeated, except with --layout xares.
    seconds
        Length of every clip. Default: that of the task; clips of a table keep their lengths.
    mode
        folds: test every clip once. split: use the train and test split of the table. auto: folds if the task has them.
    seed
        Random seed of generated tasks, and of the folds of a table without split and fold.
    layout
        hear: folders of hear-preprocess. xares: tar files for unheard evaluate --mode xares.
    """

    sample_rate: tuple[int, ...] = (16000,)
    seconds: float | None = None
    mode: Literal["auto", "folds", "split"] = "auto"
    seed: int = 0
    layout: Literal["hear", "xares"] = "hear"


@verb("unheard data tasks drum-hit unit-action -o tasks/", data)
def tasks(
    *names: str,
    out: TasksOut,
    corpus: Path | None = None,
    shape: TaskShape = TaskShape(),
    overwrite: Overwrite = False,
    json: Json = False,
) -> int:
    """Build tasks on real sounds as folders of HEAR or X-ARES, for unheard evaluate.

    Parameters
    ----------
    names
        Task names, such as drum-hit, unit-action or drum-events; "all" builds every task. With --layout xares also
        label tables, such as sounds/labels.csv.
    corpus
        Folder that unheard data fetch wrote, also at an address. Default: the packages are fetched into -o.
    """
    from unheard.datasets.hear_tasks import HEAR_TASKS, TaskOptions, refuse_same_names

    if not names:
        raise ConfigError(f"name the tasks to build: all, or some of {', '.join(HEAR_TASKS)}")
    rates = tuple(dict.fromkeys(shape.sample_rate))
    options = TaskOptions(rates, shape.seconds, shape.mode, shape.seed, shape.layout)
    chosen = tuple(HEAR_TASKS) if names == ("all",) else names
    if unknown := [name for name in chosen if name not in HEAR_TASKS and Path(name).suffix.lower() not in TABLES]:
        raise ConfigError(f"no task is called {unknown[0]!r}; choose all, or some of {', '.join(HEAR_TASKS)}")
    refuse_same_names(chosen)
    refuse_other_kind_at(out, "folder")
    built = _build(chosen, out, corpus, options, overwrite)
    emit([line for report in built for line in report.lines()], [report.to_json() for report in built], json)
    return DONE


def _build(
    names: Sequence[str], out: Path, corpus: Path | None, options: TaskOptions, overwrite: bool
) -> list[TaskReport]:
    """Build tasks. One that an earlier command left behind, because its upload failed, is built again."""
    from unheard.datasets.hear_tasks import HEAR_TASKS, build_table_task, build_task, task_name

    left = [path.name for path in working_place(out, "tasks").glob("*")] if address_of(out) else []
    built = []
    with local_output(out, resume=True, verb="tasks") as place:  # other tasks in the folder are kept
        for name in names:
            stem = task_name(name)
            again = overwrite or any(folder == stem or folder.startswith(f"{stem}-") for folder in left)
            built.append(
                build_task(name, place, corpus, options, overwrite=again, track=bar)
                if name in HEAR_TASKS
                else build_table_task(Path(name), place, options, overwrite=again, track=bar)
            )
    return [relocated(report, place, out) for report in built]


@verb("unheard data captions corpora/M -o captions/M.csv", data)
def captions(corpus: Path, /, *, out: Out, notes: bool = True, overwrite: Overwrite = False, json: Json = False) -> int:
    """Write captions of fetched sounds, from their names and folders, for unheard pretrain --recipe clap-mini.

    Parameters
    ----------
    corpus
        Folder that unheard data fetch wrote, also at an address.
    notes
        Also render notes of the General MIDI soundfont into the folder of the table, if the corpus contains it.
    """
    from unheard.datasets.captions import write_captions

    with local_output(out, kind="file", overwrite=overwrite, verb="captions") as place:
        write_captions(corpus, place, notes, bar)
    emit([f"captions: {named(out)}"], {"captions": named(out)}, json)
    return DONE


@verb("unheard data verify corpora/mine runs/first emb.parquet", data)
def verify(*paths: Path, json: Json = False) -> int:
    """Verify the checksums of packed corpora, models, runs and tables. Exit with 2 if a file differs.

    Parameters
    ----------
    paths
        Folders, searched recursively, and tables of embeddings or predictions.
    """
    from unheard.embedding.verify import verify as compare

    if not paths:
        raise ConfigError("give at least one path: a packed corpus, a model, a run, or a table of embeddings")
    found = compare(paths, bar)
    emit([*found, f"{len(found)} files are damaged or missing"], {"damaged": found}, json)
    return USER_ERROR if found else DONE
