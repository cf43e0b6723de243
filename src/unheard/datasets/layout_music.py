"""Readers of music data sets; see `unheard.datasets.layouts`."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

from unheard.datasets.layout_tables import ClipRow, column, find, json_object, lines, table
from unheard.errors import DataError

PRESENT = 0.5  # smallest relevance of a present instrument: the threshold of OpenMIC's own labels
TAGS = 50  # MagnaTagATune's most frequent tags, as in the literature
MAGNA_SIDES = {
    **dict.fromkeys("0123456789ab", "train"),
    "c": "valid",
    **dict.fromkeys("def", "test"),
}  # by folder, as in the literature
GTZAN_LISTS = {"train": "train_filtered.txt", "valid": "valid_filtered.txt", "test": "test_filtered.txt"}
"""Kereliuk, Sturm and Larsen's split without faulty and repeated excerpts, in the usual files; optional."""


def openmic(root: Path) -> Iterator[ClipRow]:
    """Read OpenMIC-2018: 20 instruments; ``known`` lists the annotated ones of a clip, usually one or two."""
    known: dict[str, list[str]] = defaultdict(list)
    present: dict[str, list[str]] = defaultdict(list)
    source = root / "openmic-2018-aggregated-labels.csv"
    for row in table(source):
        key, instrument = column(row, "sample_key", source), column(row, "instrument", source)
        known[key].append(instrument)
        if float(column(row, "relevance", source)) >= PRESENT:
            present[key].append(instrument)
    for side in ("train", "test"):
        for key in lines(root / f"partitions/split01_{side}.csv"):
            if key in known:
                labels = {"label": "|".join(sorted(present[key])), "known": "|".join(sorted(known[key]))}
                yield {"path": f"audio/{key[:3]}/{key}.ogg", **labels, "split": side}


def nsynth(root: Path, label: str) -> Iterator[ClipRow]:
    """Read NSynth: ``label`` is a key of the examples, such as instrument_family_str or pitch; group: instrument."""
    for side in ("train", "valid", "test"):
        source = root / f"nsynth-{side}/examples.json"
        for name, example in json_object(source).items():
            if not isinstance(example, dict) or not {label, "instrument_str"} <= set(example):
                raise DataError(f"{source}: {name} lacks {label} or instrument_str; get the JSON version of NSynth")
            group = str(example["instrument_str"])
            yield {
                "path": f"nsynth-{side}/audio/{name}.wav",
                "label": str(example[label]),
                "split": side,
                "group": group,
            }


def gtzan(root: Path) -> Iterator[ClipRow]:
    """Read GTZAN: ten genres. Split: the fault-filtered lists if they are there, else ten folds by number (our choice).

    The data set has no official split, and artists occur in several folds.
    """
    blues = find(root, "genres_original/blues or genres/blues or blues") or root
    genres = blues.parent
    files = {
        path.name.rsplit(".", 1)[0]: path
        for path in sorted(genres.glob("*/*.*"))
        if path.suffix in (".wav", ".au", ".mp3")
    }
    found = {side: source for side, name in GTZAN_LISTS.items() if (source := find(root, name) or find(genres, name))}
    if len(found) < len(GTZAN_LISTS):
        for stem, path in files.items():
            number = re.fullmatch(r".+\.(\d{5})", stem)
            if number and path.parent.name == stem.partition(".")[0]:
                yield {
                    "path": path.relative_to(root).as_posix(),
                    "label": path.parent.name,
                    "fold": str(int(number[1]) // 10),
                }
        return
    for side, source in found.items():
        for line in lines(source):
            stem = Path(line).name.rsplit(".", 1)[0]
            genre = stem.partition(".")[0]
            path = files.get(stem, genres / genre / f"{stem}.wav")
            yield {"path": path.relative_to(root).as_posix(), "label": genre, "split": side}


def magnatagatune(root: Path) -> Iterator[ClipRow]:
    """Read MagnaTagATune: the 50 most frequent tags, several a clip; group: the piece that a clip was cut from.

    Folders 0-b are train, c is valid, d-f are test. Clips with none of these tags and empty files are left out.
    """
    source = root / "annotations_final.csv"
    rows = list(table(source, "\t"))
    names = [name for name in rows[0] if name not in ("clip_id", "mp3_path")] if rows else []
    tags = {column(row, "mp3_path", source): [name for name in names if row[name] == "1"] for row in rows}
    counts = Counter(name for present in tags.values() for name in present)
    kept = {name for name, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:TAGS]}
    base = next((folder for folder in ("mp3", "audio") if (root / folder).is_dir()), "")
    for path, present in tags.items():
        file, label = Path(base, path), "|".join(sorted(kept.intersection(present)))
        empty = (root / file).is_file() and not (root / file).stat().st_size
        if label and not empty and path[:1] in MAGNA_SIDES:
            group = re.sub(r"-\d+-\d+\.mp3$", "", Path(path).name)
            yield {"path": file.as_posix(), "label": label, "split": MAGNA_SIDES[path[0]], "group": group}
