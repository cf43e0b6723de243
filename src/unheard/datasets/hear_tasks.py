"""Real tasks as folders of HEAR or X-ARES: the label tables of `unheard.datasets.filename_labels`, and two generators.

drum-events     drum hits at random times over game music; kits and tracks of train, valid and test are disjoint
gm-multilabel   one to four instrument families at once; trained on one soundfont, tested on another

Every other name is a label table. ``mode`` split has the table's train and test sides, and a fifth of train for
validation. ``mode`` folds tests every clip once, which narrows the confidence interval; it is the default for tables
with folds. Test clips of either mode are marked ``heldout`` in the manifest of a fetched corpus, so pre-training leaves
them out.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from unheard.addresses import named
from unheard.audio.waveform import Waveform, info, read
from unheard.data.manifest import NAME, local_corpus, read_manifest
from unheard.data.splits import published_validation
from unheard.datasets.drum_events import MUSIC, drum_items
from unheard.datasets.filename_labels import missing_packages_error, offline_labels
from unheard.datasets.filename_rules import TASKS
from unheard.datasets.note_mixtures import mixture_items
from unheard.datasets.notes import FONTS, GM_TASKS, Player
from unheard.datasets.sources import fetch
from unheard.datasets.write_hear_folder import Item, TaskSpec, write_folder
from unheard.datasets.xares_folder import table_name, table_task, write_xares_folder
from unheard.errors import ConfigError, DataError
from unheard.progress import Track, silent

Mode = Literal["auto", "folds", "split"]
ACCURACY = ("top1_acc", "mAP", "aucroc", "d_prime")  # scores of HEAR's scene tasks
BALANCED = ("mAP", "top1_acc", "aucroc", "d_prime")  # classes differ in size: the primary score is a mean over classes
TAGS = ("mAP", "aucroc", "d_prime")
EVENTS = ("event_onset_200ms_fms", "segment_1s_er")  # as DCASE 2016 task 2
POSTPROCESSING = {"event_postprocessing_grid": {"median_filter_ms": [250], "min_duration": [125, 250]}}  # likewise
PACKAGES = ".packages"
"""Folder of the packages that are fetched for tasks; an output at an address has no copy of it."""
GENERATED = ("drum-events", "gm-multilabel")


@dataclass(frozen=True)
class TaskRecipe:
    """Length of clips in seconds (about twice the median, six at most: our choice), scores, and crops for each file."""

    seconds: float
    scores: tuple[str, ...] = BALANCED
    crops: int = 1


HEAR_TASKS = {
    "drum-hit": TaskRecipe(2.0),
    "sound-kind": TaskRecipe(4.0),
    "speech-music-effect": TaskRecipe(6.0),
    "unit-action": TaskRecipe(2.0),
    "voice-id": TaskRecipe(2.0, ACCURACY),
    "vocal-type": TaskRecipe(2.0),
    "soundtrack-id": TaskRecipe(6.0, ACCURACY, crops=3),
    "stamp-voice": TaskRecipe(3.0, ACCURACY),
    "gm-family": TaskRecipe(3.0, ACCURACY),
    "gm-pitch": TaskRecipe(3.0, ACCURACY),
    "gm-pitch-programs": TaskRecipe(3.0, ACCURACY),
    "drum-events": TaskRecipe(8.0, EVENTS),
    "gm-multilabel": TaskRecipe(3.0, TAGS),
}
"""Every task of `build_task`."""


@dataclass(frozen=True)
class TaskOptions:
    """Options for writing a task.

    Parameters
    ----------
    sample_rates : tuple of int
        Hz; one folder of sounds for each.
    seconds : float, optional
        Length of every clip. Default: that of the task.
    mode : {"auto", "folds", "split"}
    seed : int
        Seed of the two generators; label tables do not depend on it.
    layout : {"hear", "xares"}
        Layout of the folder.
    """

    sample_rates: tuple[int, ...] = (16000,)
    seconds: float | None = None
    mode: Mode = "auto"
    seed: int = 0
    layout: Literal["hear", "xares"] = "hear"


@dataclass(frozen=True)
class TaskReport:
    """Result of `build_task`: the folder, clips of each split, and the number of test files that a manifest does not
    mark.
    """

    folder: Path
    clips: dict[str, int]
    not_held_out: int

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain values."""
        return asdict(self) | {"folder": named(self.folder)}

    def lines(self) -> list[str]:
        """Return the report as lines of text."""
        counts = ", ".join(f"{split} {count}" for split, count in self.clips.items())
        remark = (
            f"; {self.not_held_out} test files are not held out in the corpus's manifest: fetch it again before"
            " pre-training on it"
        )
        return [f"{named(self.folder)}: {counts} clips{remark if self.not_held_out else ''}"]


def build_task(
    name: str,
    out: Path | str,
    corpus: Path | str | None = None,
    options: TaskOptions | None = None,
    *,
    overwrite: bool = False,
    track: Track = silent,
) -> TaskReport:
    """Write a task as a folder of HEAR or X-ARES below ``out``.

    Parameters
    ----------
    name : str
        One of `HEAR_TASKS`.
    corpus : Path, optional
        Folder that `fetch` wrote, also at an address. Default: ``out/.packages``, into which missing
        packages of the task are fetched.

    Raises
    ------
    ConfigError
        For an unknown task or option, or when the task's folder exists and ``overwrite`` is false.
    DataError
        When packages are missing or cannot be fetched, or a class is missing from a split.
    """
    options = options or TaskOptions()
    if name not in HEAR_TASKS:
        raise ConfigError(f"there is no task {name!r}; choose one of {', '.join(HEAR_TASKS)}")
    making, out = HEAR_TASKS[name], Path(out)
    seconds = making.seconds if options.seconds is None else options.seconds
    if not 0.1 <= seconds <= 600:
        raise ConfigError(f"--seconds is the length of a task's clips, from 0.1 to 600; got {seconds:g}")
    with local_corpus(corpus or out / PACKAGES, packages_of(name)) as root:
        lacking = _lacking(name, root)
        if lacking and corpus:
            raise missing_packages_error(name, lacking, root)
        for package in lacking:
            fetch(package, root, track)
        items, mode = _items(name, root, seconds, options)
        event = name == "drum-events"
        notes: dict[str, Any] = {
            "packages": list(packages_of(name)),
            "seed": options.seed,
            "sources_not_held_out": _not_held_out(root, items),
        }
        if event:
            notes |= {"evaluation_params": POSTPROCESSING}
        sheet = TaskSpec(task_name(name), mode, seconds, making.scores, event, name == "gm-multilabel", notes)
        return _written(sheet, items, out, options, overwrite=overwrite, track=track)


def refuse_same_names(names: Sequence[str]) -> None:
    """Raise a ConfigError if two tasks, or tables, would be one folder, of which the second replaces the first."""
    taken: dict[str, str] = {}
    for name in names:
        folder = task_name(name)
        if folder in taken:
            raise ConfigError(
                f"{taken[folder]} and {name} would both be the task {folder}; give each once, rename a table, or build"
                " the second into another -o"
            )
        taken[folder] = name


def task_name(name: str) -> str:
    """Return the name of a task or of a label table, with which the name of its folder begins."""
    return name.replace("-", "_") if name in HEAR_TASKS else table_name(Path(name))


def build_table_task(
    table: Path, out: Path, options: TaskOptions, *, overwrite: bool = False, track: Track = silent
) -> TaskReport:
    """Write the task of a label table as a folder of X-ARES. Parameters and errors as in `build_task`."""
    if options.layout != "xares" or options.mode != "auto":
        raise ConfigError(f"{table}: a table is written with --layout xares, and without --mode")
    sheet, items = table_task(table, options.seconds, options.seed)
    return _written(sheet, items, out, options, overwrite=overwrite, track=track)


def _written(
    sheet: TaskSpec, items: Sequence[Item], out: Path, options: TaskOptions, *, overwrite: bool, track: Track
) -> TaskReport:
    """Write the folder of a task in the layout of the options."""
    rates = options.sample_rates
    if options.layout == "hear":
        folder = write_folder(sheet, items, out, rates, overwrite=overwrite, track=track)
    elif len(rates) != 1:
        raise ConfigError(f"--layout xares has one sample rate; got {', '.join(map(str, rates))}")
    else:
        folder = write_xares_folder(sheet, items, out, rates[0], overwrite=overwrite, track=track)
    counts = dict(sorted(Counter(item.split for item in items).items()))
    return TaskReport(folder, counts, sheet.notes.get("sources_not_held_out", 0))


def packages_of(name: str) -> tuple[str, ...]:
    """Return the packages of a task."""
    if name == "gm-pitch-programs":
        return (FONTS["fluid"],)
    if name == "drum-events":
        return (*TASKS["drum-hit"].packages, *MUSIC)
    return TASKS[name].packages if name in TASKS else tuple(FONTS.values())


def _lacking(name: str, root: Path) -> list[str]:
    """Return the packages of a task that a folder lacks."""
    there = {row["package"] for row in read_manifest(root)} if (root / NAME).exists() else set()
    return [each for each in packages_of(name) if each not in there and not any((root / each).rglob("*.sf2"))]


def _not_held_out(root: Path, items: Sequence[Item]) -> int:
    """Return the number of test files that the manifest does not exclude from pre-training."""
    if not (root / NAME).exists():
        return 0
    free = {row["path"] for row in read_manifest(root) if row["heldout"] != "1"}
    return len({item.source for item in items if item.split == "test" or item.split.startswith("fold")} & free)


def _items(name: str, root: Path, seconds: float, options: TaskOptions) -> tuple[list[Item], str]:
    """Return the clips of a task, and its mode."""
    if name in GENERATED:
        if options.mode == "folds":
            raise ConfigError(f"task {name} is generated for train, valid and test; leave --mode out")
        make = drum_items if name == "drum-events" else mixture_items
        return make(root, seconds, options.seed), "split"
    rows = offline_labels(name, root)
    modes = [mode for mode in ("folds", "split") if any(row[mode.removesuffix("s")] for row in rows)]
    mode = modes[0] if options.mode == "auto" else options.mode
    if mode not in modes:
        raise ConfigError(f"task {name} has no mode {mode}; choose {' or '.join(modes)}, or leave --mode out")
    crops = HEAR_TASKS[name].crops
    player = Player(root) if name in GM_TASKS else None
    items = []
    for number, (row, split) in enumerate(zip(rows, _splits(rows, mode), strict=True)):
        stem = re.sub(r"[^\w-]+", "_", PurePosixPath(row["path"]).stem)
        for crop in range(crops):
            tail = f"-{crop}" if crops > 1 else ""
            wav = (
                partial(player.note, row["path"])
                if player
                else partial(_crop, root / row["path"], seconds, (crop + 1) / (crops + 1))
            )
            if not player and crops == 1:
                wav = partial(_crop, root / row["path"], seconds, 0.0)
            items.append(Item(f"{number:05d}-{stem}{tail}", split, (row["label"],), wav, row["path"], row["group"]))
    return items, mode


def _splits(rows: Sequence[dict[str, str]], mode: str) -> list[str]:
    """Return the split of each row; validation rows come from train."""
    if mode == "folds":
        return [f"fold{int(row['fold']):02d}" for row in rows]
    splits = [row["split"] for row in rows]
    train = [index for index, split in enumerate(splits) if split == "train"]
    chosen = published_validation([rows[index]["label"] for index in train], [rows[index]["group"] for index in train])
    for index, validates in zip(train, chosen, strict=True):
        splits[index] = "valid" if validates else "train"
    return splits


def _crop(path: Path, seconds: float, place: float, rate: int) -> Waveform:
    """Return ``seconds`` of a file around the relative position ``place``; 0 is its beginning."""
    if not path.exists():
        raise DataError(f"{path}: is in the manifest but missing; fetch its package again")
    start = max(0.0, min(info(path).seconds - seconds, place * info(path).seconds - seconds / 2))
    return read(path, rate, start=start, seconds=seconds)[0]
