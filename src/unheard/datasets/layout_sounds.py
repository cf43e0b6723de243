"""Readers of data sets of sound events, scenes and spoken words; see `unheard.datasets.layouts`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from unheard.audio.folders import find_audio
from unheard.datasets.layout_tables import ClipRow, column, lines, table
from unheard.errors import DataError

YOUTUBE_ID = 11  # characters


def audioset(root: Path, balanced: bool = False) -> Iterator[ClipRow]:
    """Read AudioSet: labels by display name; train (all, or the balanced 20 thousand) and test.

    The three lists and ``class_labels_indices.csv`` are those that Google publishes. Files may be anywhere below the
    root as ``ID.wav``, ``YID.wav`` or ``ID_start_end.flac``. They are identified by the id of the video, which occurs
    once in the data set.
    """
    names = {row["mid"]: row["display_name"].strip() for row in table(root / "class_labels_indices.csv")}
    sides = (
        {"balanced_train": "train", "eval": "test"}
        if balanced
        else {"balanced_train": "train", "unbalanced_train": "train", "eval": "test"}
    )
    listed = {
        row["id"]: (side, "|".join(names.get(mid, mid) for mid in row["mids"].split(",")))
        for part, side in sides.items()
        for row in table(root / f"{part}_segments.csv", columns=("id", "start", "end", "mids"))
    }
    for path in find_audio(root):
        ids = (
            path.stem[:YOUTUBE_ID],
            path.stem[1 : YOUTUBE_ID + 1],
        )  # a Y before the id, for ids that begin with a hyphen
        found = next((listed.pop(name) for name in ids if name in listed), None)
        if found:
            yield {"path": path.relative_to(root).as_posix(), "label": found[1], "split": found[0]}
    for name, (side, label) in listed.items():
        yield {"path": f"{name}.wav", "label": label, "split": side}  # missing file: counted


def esc50(root: Path) -> Iterator[ClipRow]:
    """Read ESC-50: five folds; group: the freesound clip that a sound was cut from."""
    source = root / "meta/esc50.csv"
    for row in table(source):
        name, fold, label, group = (column(row, key, source) for key in ("filename", "fold", "category", "src_file"))
        yield {"path": f"audio/{name}", "label": label, "fold": fold, "group": group}


def us8k(root: Path) -> Iterator[ClipRow]:
    """Read UrbanSound8K: ten folds; group: the freesound clip."""
    source = root / "metadata/UrbanSound8K.csv"
    for row in table(source):
        name, fold, label, group = (column(row, key, source) for key in ("slice_file_name", "fold", "class", "fsID"))
        yield {"path": f"audio/fold{fold}/{name}", "label": label, "fold": fold, "group": group}


def speech_commands(root: Path, second: bool) -> Iterator[ClipRow]:
    """Read Speech Commands V1 (30 words) or V2 (35 words): every word is a class; group: the speaker.

    Files that neither list names are training files, as in the data set's readme. Recordings of background noise are
    left out.

    Raises
    ------
    DataError
        When V1 is requested and the folder holds V2.
    """
    if not second and (root / "backward").exists():
        raise DataError(f"{root} has the word backward, which came with V2; import it as speech-commands-v2")
    sides = dict.fromkeys(lines(root / "validation_list.txt"), "valid") | dict.fromkeys(
        lines(root / "testing_list.txt"), "test"
    )
    there = {path.relative_to(root).as_posix() for path in find_audio(root)}
    for path in sorted(there | set(sides)):
        word, _, name = path.partition("/")
        if name and not word.startswith("_"):
            yield {
                "path": path,
                "label": word,
                "split": sides.get(path, "train"),
                "group": name.partition("_nohash_")[0],
            }


def fsd50k(root: Path) -> Iterator[ClipRow]:
    """Read FSD50K: 200 classes, several a clip; train and valid of the development set, test: the evaluation set."""
    for part in ("dev", "eval"):
        source = root / f"FSD50K.ground_truth/{part}.csv"
        for row in table(source):
            side = "test" if part == "eval" else {"val": "valid"}.get(column(row, "split", source), "train")
            label = column(row, "labels", source).replace(",", "|")
            yield {"path": f"FSD50K.{part}_audio/{column(row, 'fname', source)}.wav", "label": label, "split": side}


def dcase2019(root: Path) -> Iterator[ClipRow]:
    """Read DCASE 2019 Task 1A (TAU Urban Acoustic Scenes, development set): train and test of fold 1; group: city and
    place.

    Recordings that neither list of fold 1 names (one city is excluded from training) are left out.
    """
    lists = {"train": root / "evaluation_setup/fold1_train.csv", "test": root / "evaluation_setup/fold1_evaluate.csv"}
    sides = {column(row, "filename", source): side for side, source in lists.items() for row in table(source, "\t")}
    source = root / "meta.csv"
    for row in table(source, "\t"):
        name, label, group = (column(row, key, source) for key in ("filename", "scene_label", "identifier"))
        if name in sides:
            yield {"path": name, "label": label, "split": sides[name], "group": group}
