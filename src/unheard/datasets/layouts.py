"""Convert public data sets in their original layout to a labels CSV with their official splits or folds.

Only the data set's own tables are read, no sound file is opened. Columns of the CSV: path (relative to the CSV), label
(several joined by ``|``), and those of split, fold, group and known that the data set has. ``known`` lists the
annotated classes of a clip, joined by ``|``. The others are unknown rather than absent, and `unheard finetune` leaves
them out of loss and score.

A reader yields all clips in the tables of the data set. Clips without a file (deleted videos, incomplete downloads) are
left out and counted. The layout is searched in the given folder and in the folders in it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from unheard.addresses import named
from unheard.data.manifest import from_table
from unheard.datasets import layout_music, layout_sounds
from unheard.datasets.layout_tables import ClipRow, find
from unheard.errors import ConfigError, DataError
from unheard.files import write_table
from unheard.remote.reading import copied_folder

COLUMNS = ("path", "label", "split", "fold", "group", "known")
TABLES = (".csv", ".tsv", ".txt", ".json")  # suffixes of what is read; of all other files, only the names
SHOWN = 3  # examples of missing files in a report


@dataclass(frozen=True)
class Layout:
    """Layout of a public data set.

    Parameters
    ----------
    expected : tuple of str
        Files or folders that identify it, relative to its root; ``a or b`` where copies differ.
    read : callable
        Function from the root to rows with paths relative to the root.
    """

    expected: tuple[str, ...]
    read: Callable[[Path], Iterator[ClipRow]]


_AUDIOSET = ("class_labels_indices.csv", "balanced_train_segments.csv", "eval_segments.csv")
_COMMANDS = ("validation_list.txt", "testing_list.txt")
_DCASE = ("meta.csv", "evaluation_setup/fold1_train.csv", "evaluation_setup/fold1_evaluate.csv")
_OPENMIC = ("openmic-2018-aggregated-labels.csv", "partitions/split01_train.csv", "partitions/split01_test.csv")
_NSYNTH = ("nsynth-train/examples.json", "nsynth-valid/examples.json", "nsynth-test/examples.json")
LAYOUTS: dict[str, Layout] = {
    "audioset": Layout((*_AUDIOSET, "unbalanced_train_segments.csv"), layout_sounds.audioset),
    "audioset-20k": Layout(_AUDIOSET, partial(layout_sounds.audioset, balanced=True)),
    "esc50": Layout(("meta/esc50.csv", "audio"), layout_sounds.esc50),
    "us8k": Layout(("metadata/UrbanSound8K.csv", "audio/fold1"), layout_sounds.us8k),
    "speech-commands-v1": Layout((*_COMMANDS, "bed"), partial(layout_sounds.speech_commands, second=False)),
    "speech-commands-v2": Layout((*_COMMANDS, "backward"), partial(layout_sounds.speech_commands, second=True)),
    "fsd50k": Layout(
        ("FSD50K.ground_truth/dev.csv", "FSD50K.ground_truth/eval.csv", "FSD50K.dev_audio"), layout_sounds.fsd50k
    ),
    "dcase2019-task1a": Layout(_DCASE, layout_sounds.dcase2019),
    "openmic": Layout(_OPENMIC, layout_music.openmic),
    "nsynth": Layout(_NSYNTH, partial(layout_music.nsynth, label="instrument_family_str")),
    "nsynth-pitch": Layout(_NSYNTH, partial(layout_music.nsynth, label="pitch")),
    "gtzan": Layout(("genres_original/blues or genres/blues or blues",), layout_music.gtzan),
    "magnatagatune": Layout(("annotations_final.csv",), layout_music.magnatagatune),
}


@dataclass(frozen=True)
class ImportReport:
    """Result of an import.

    Parameters
    ----------
    table : Path
    clips : int
    sides : dict of str to int
        Clips of each split or fold.
    classes : int
    missing : tuple of str
        Files in the data set's tables that are missing.
    """

    table: Path
    clips: int
    sides: dict[str, int]
    classes: int
    missing: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain values."""
        return {**vars(self), "table": named(self.table), "missing": list(self.missing)}

    def lines(self) -> list[str]:
        """Return the report as lines of text."""
        sides = ", ".join(f"{side} {count}" for side, count in self.sides.items())
        report = [f"{named(self.table)}: {self.clips} clips of {self.classes} classes; {sides}"]
        if self.missing:
            report.append(
                f"{len(self.missing)} clips left out, their file is missing: {', '.join(self.missing[:SHOWN])} ..."
            )
        return report


def import_labels(name: str, folder: Path | str, out: Path | str) -> ImportReport:
    """Write the labels CSV of a public data set.

    Parameters
    ----------
    name : str
        One of `LAYOUTS`.
    folder : Path
        Folder into which the data set was unpacked. Of one at an address, only the tables are copied.
    out : Path
        CSV to write.

    Raises
    ------
    ConfigError
        For an unknown layout.
    DataError
        When the folder holds another layout, none of its sounds are there, or the table cannot be written.

    Examples
    --------
    >>> import_labels("esc50", "ESC-50-master", "esc50.csv").sides  # doctest: +SKIP
    {'1': 400, '2': 400, '3': 400, '4': 400, '5': 400}
    """
    if name not in LAYOUTS:
        raise ConfigError(
            f"there is no layout {name!r}; choose one of {', '.join(LAYOUTS)}, raven, audacity, webdataset, hf-parquet"
        )
    with copied_folder(folder, placeholder=lambda name: PurePosixPath(name).suffix not in TABLES) as place:
        return _import(name, _root(name, place), Path(out))


def _import(name: str, root: Path, out: Path) -> ImportReport:
    rows, missing = [], []
    for row in LAYOUTS[name].read(root):
        if (root / row["path"]).is_file():
            rows.append(row)
        else:
            missing.append(row["path"])
    if not rows:
        expected = (
            f"the tables name {len(missing)} clips, such as {missing[0]}" if missing else "its tables name no clips"
        )
        raise DataError(f"{root} holds no sound file of {name}: {expected}; unpack the audio there")
    rows = from_table(rows, root, out)
    columns = [column for column in COLUMNS if column in ("path", "label") or any(row.get(column) for row in rows)]
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_table(out, columns, [{column: row.get(column, "") for column in columns} for row in rows])
    except OSError as error:
        raise DataError(f"cannot write the labels of {name} to {out}: {error}") from error
    sides = Counter(row.get("split") or row.get("fold", "") for row in rows)
    classes = {label for row in rows for label in row["label"].split("|") if label}
    return ImportReport(out, len(rows), dict(sorted(sides.items())), len(classes), tuple(missing))


def _root(name: str, folder: Path) -> Path:
    """Return the folder with all expected files: the given one, or one in it."""
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; give the folder into which {name} was unpacked")
    expected = LAYOUTS[name].expected
    for root in (folder, *sorted(path for path in folder.iterdir() if path.is_dir())):
        if all(find(root, each) for each in expected):
            return root
    lacking = ", ".join(each for each in expected if not find(folder, each)) or "some of its files"
    raise DataError(f"{folder} does not hold {name}: it lacks {lacking}; expected there: {', '.join(expected)}")
