"""Label tables for fetched corpora, from file names and folders, with splits without leakage.

Every task is a rule over manifest rows (`unheard.datasets.sources`); no sound file is opened. Train and test share no
group: a drum kit, a game unit, a package, a voice or a phrase. Groups with copies of one file count as one group in
folds, and a sound with several names is used once. Files of the test side and their copies are left out of
pre-training.

drum-hit              kick, snare, hat, tom, cymbal; test on four unseen kits; or five folds by kit
sound-kind            animal, instrument, object; trained on one package, tested on two others
speech-music-effect   packages of test and train are disjoint (needs wesnoth-1.16-data and naev-data, tier L)
unit-action           voice, attack or death of a game unit; five folds by unit
voice-id              which of 15 actors speaks; test on unseen phrases; or five folds by phrase
vocal-type            pain, effort, speech; test on unseen voices; or five folds by voice
soundtrack-id         which of 12 games a track is from; test on unseen tracks (needs tier L)
stamp-voice           which of nine languages' speakers describes a stamp; one voice and microphone each, so a sanity
                      check only
gm-family, gm-pitch, gm-pitch-programs   rendered notes, see `unheard.datasets.notes`
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from unheard.data.manifest import from_table, local_corpus, read_manifest
from unheard.data.splits import deduplicate, merge_groups_by_content, published_folds
from unheard.datasets.filename_rules import TASKS, FilenameLabelRule, Row
from unheard.datasets.notes import FONTS, GM_TASKS, note_rows, render_notes
from unheard.errors import DataError
from unheard.files import write_table
from unheard.progress import Track, silent

COLUMNS = ("path", "label", "split", "fold", "group")


def offline_labels(name: str, corpus_root: Path | str) -> list[dict[str, str]]:
    """Return the label table of a task.

    Parameters
    ----------
    name : str
        One of `TASKS` or of the gm tasks.
    corpus_root : Path
        Folder that `fetch` wrote. The gm tasks do not read it here: `write_labels` renders their sounds.

    Returns
    -------
    list of dict
        Rows with path (relative to ``corpus_root``; for gm tasks relative to the label table), label, split, fold,
        group. split is empty for a task with folds only, and fold is empty for a task with a split only. A probe
        prefers the split.

    Raises
    ------
    DataError
        For an unknown task, a folder without a manifest, or packages that the task needs and the folder lacks.
    """
    if name in GM_TASKS:
        return [dict(zip(COLUMNS, row, strict=True)) for row in note_rows(name)]
    if name not in TASKS:
        raise DataError(f"there is no task {name!r}; choose one of {', '.join([*TASKS, *GM_TASKS])}")
    present = {row["package"] for row in read_manifest(corpus_root)}
    if lacking := [package for package in TASKS[name].packages if package not in present]:
        raise missing_packages_error(name, lacking, corpus_root)
    return offline_rows(name, corpus_root)


def offline_rows(name: str, corpus_root: Path | str) -> list[dict[str, str]]:
    """Return the rows of one of `TASKS` for the packages in a folder, even if some of its packages are missing."""
    return [dict(zip(COLUMNS, row, strict=True)) for row in _apply(TASKS[name], read_manifest(corpus_root))]


def missing_packages_error(name: str, packages: Sequence[str], corpus_root: Path | str) -> DataError:
    """Return the error for packages of a task that a folder lacks, with the command that fetches them."""
    others = f" (and likewise {', '.join(packages[1:])})" if packages[1:] else ""
    fetch = f"unheard data fetch {packages[0]} -o {corpus_root}{others}"
    return DataError(f"task {name} needs packages that {corpus_root} lacks; run: {fetch}")


def write_labels(name: str, corpus_root: Path | str, out_csv: Path | str, track: Track = silent) -> Path:
    """Write the label table of a task, with paths relative to the table's own folder; gm tasks also render their notes.

    Raises
    ------
    DataError
        As `offline_labels`; also when the table cannot be written or a soundfont is missing.
    """
    out = Path(out_csv)
    with local_corpus(corpus_root, FONTS.values() if name in GM_TASKS else ()) as root:
        rows = offline_labels(name, root)
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
            if name in GM_TASKS:
                render_notes([row["path"] for row in rows], root, out.parent, track)
            else:
                rows = from_table(rows, root, out)
            return write_table(out, COLUMNS, rows)
        except OSError as error:
            raise DataError(f"cannot write the labels of {name} to {out}: {error}") from error


def test_files(corpus_root: Path | str) -> set[str]:
    """Return the paths of a fetched corpus in the test split of some task; its manifest marks them ``heldout``."""
    return test_paths(read_manifest(corpus_root))


def test_paths(manifest: Sequence[Row]) -> set[str]:
    """Return the paths of manifest rows in the test split of some task, and their copies.

    All files of a task that may be scored by folds count as test files.
    """
    labelled = (row for task in TASKS.values() for row in _apply(task, manifest))
    tested = {path for path, _, split, fold, _ in labelled if split == "test" or fold}
    content = {row["sha256"] for row in manifest if row["path"] in tested and row["sha256"]}
    return tested | {row["path"] for row in manifest if row["sha256"] in content}


test_files.__test__ = test_paths.__test__ = False  # type: ignore[attr-defined]  # not for pytest


def _apply(task: FilenameLabelRule, manifest: Sequence[Row]) -> list[tuple[str, ...]]:
    content = {row["path"]: row["sha256"] for row in manifest}
    found = sorted(task.rule([row for row in manifest if row["package"] in task.packages]))
    rows, home = deduplicate(found, content), merge_groups_by_content(found, content)
    if not task.folds:
        return rows
    folds = published_folds([label for _, label, *_ in rows], [home[group] for *_, group in rows], task.folds)
    return [
        (path, label, split, str(fold), home[group])
        for (path, label, split, _, group), fold in zip(rows, folds, strict=True)
    ]
