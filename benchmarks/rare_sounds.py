"""How well the view Label of ``unheard serve`` finds a rare class with 40 answers, over classes of real sounds.

    unheard data fetch L -o L
    python -m benchmarks.rare_sounds unheard-tiny L -o OUT

The pool is the first two seconds of every file of a class, and of random other files. A folder has 5,000 of these
windows: 50 of the class, or fewer if there are fewer, and others. One clip of the class is the example. An oracle
answers 40 questions by file names. Then the threshold that the page chose is applied to all windows of the folder.
Each class is tried in two folders with three examples each.

OUT/pool.csv              the windows: path, start, end
OUT/pool.parquet          their embeddings
OUT/table.md              one row a class, and the mean
"""

from __future__ import annotations

import argparse
import csv
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass, fields
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
import pyarrow as pa

import unheard
from unheard.embedding.search import EmbeddingTable
from unheard.embedding.table_files import read_blocks, read_identity, vectors, write_table
from unheard.files import write_table as write_rows
from unheard.metrics import average_precisions
from unheard.progress import bar
from unheard.serving.folder_vectors import Embedded
from unheard.serving.label_file import LabelFile
from unheard.serving.labelling import Labelling
from unheard.serving.library import File, Library

SECONDS = 2.0
FOLDER, RARE, ANSWERS = 5000, 50, 40
FOLDERS, EXAMPLES = 2, 3
OTHERS = 6000  # files of the pool that are of no class
OURS = "rendered/*"  # notes of benchmarks.tiny.rendered are not recorded sounds


@dataclass(frozen=True)
class Kind:
    """A class: patterns of its files below the corpus, and of files that may sound as the class and are left out."""

    files: tuple[str, ...]
    near: tuple[str, ...] = ()


def voice(language: str) -> Kind:
    """The speaker of a language of klettres."""
    return Kind((f"klettres-data/*/{language}/*",))


def drum(*words: str) -> Kind:
    """Samples of drum kits by words of their names."""
    return Kind(tuple(f"hydrogen*{word}*" for word in words), tuple(f"*{word}*" for word in (*words, "loop", "drum")))


KINDS: dict[str, Kind] = {
    "bullets": Kind(("ufoai-sound/sound/weapons/bullet*",), ("*gun*", "*shot*", "*fire*", "*weapon*", "*sniper*")),
    "footsteps": Kind(("ufoai-sound/sound/footsteps/*",), ("*step*", "*walk*")),
    "cries of soldiers": Kind(("ufoai-sound/sound/soldiers/*", "ufoai-sound/sound/civilians/*"),
                              ("*hurt*", "*death*", "*die*", "*scream*", "*pain*")),
    "snares": drum("snare"),
    "hi-hats": drum("hh", "hat"),
    "bass drums": drum("kick"),
    "cymbals": drum("crash", "ride", "cym"),
    "tabla": Kind(("sonic-pi-samples/*/tabla_*",)),
    "birds": Kind(("widelands-data/*/animals/bird*",), ("*bird*", "*/animals/*", "*ambien*", "*forest*")),
    "Czech voice": voice("cs"),
    "Ukrainian voice": voice("uk"),
    "German voice": voice("de"),
    "Danish voice": voice("da"),
    "Italian voice": voice("it"),
    "Russian voice": voice("ru"),
}  # fmt: skip


@dataclass(frozen=True)
class Found:
    """What one repetition gave.

    Parameters
    ----------
    clips, positive : int
        Clips of the class in the folder, and among the answers.
    ap, precision, recall : float
        Over all windows of the folder; the last two at the threshold of the page.
    others, expected, true : float
        Windows without an answer that reach the threshold, their expected precision, and the true one; NaN for none.
    """

    clips: int
    positive: int
    ap: float
    precision: float
    recall: float
    others: int
    expected: float
    true: float


def matches(name: str, patterns: Sequence[str]) -> bool:
    """Whether a relative path matches one of the patterns, in lower case."""
    return any(fnmatch(name.lower(), pattern) for pattern in patterns)


def write_pool(corpus: Path, out: Path) -> None:
    """Write the first two seconds of the files of all classes, and of `OTHERS` random files of none of them."""
    with (corpus / "manifest.csv").open(newline="") as rows:
        every = [row for row in csv.DictReader(rows) if not fnmatch(row["path"], OURS)]
    seconds = {row["path"]: float(row["seconds"]) for row in every if not Path(row["path"]).name.startswith(".")}
    inside = [name for name in seconds if any(matches(name, kind.files) for kind in KINDS.values())]
    rest = sorted(seconds.keys() - {*inside})
    chosen = np.random.default_rng(0).permutation(len(rest))[:OTHERS]
    names = sorted([*inside, *(rest[at] for at in chosen)])
    windows = [{"path": str(corpus / name), "start": 0.0, "end": min(SECONDS, seconds[name])} for name in names]
    write_rows(out, ("path", "start", "end"), windows)


class Pool:
    """The embedded windows.

    Parameters
    ----------
    corpus : Path
    table : Path
        Their embeddings.
    """

    def __init__(self, corpus: Path, table: Path) -> None:
        self.library = Library(corpus)
        self.identity, self.rows = read_identity(table), pa.concat_tables(read_blocks(table))
        self.vectors = vectors(self.rows).astype(np.float32)
        by_path = {str(file.path): file for file in self.library.files}
        self.files: list[File] = [by_path[path] for path in self.rows["path"].to_pylist()]
        self.names = [file.name for file in self.files]

    def folder(self, kind: Kind, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows of a folder in random order, and whether each has the class."""
        inside = np.array([matches(name, kind.files) for name in self.names])
        near = np.array([matches(name, kind.near) for name in self.names]) & ~inside
        rare = rng.permutation(np.flatnonzero(inside))[:RARE]
        others = rng.permutation(np.flatnonzero(~inside & ~near))[: FOLDER - len(rare)]
        rows = rng.permutation(np.concatenate([rare, others]))
        return rows, np.isin(rows, rare)

    def embedded(self, rows: np.ndarray, path: Path) -> Embedded:
        """Return a folder with some rows, as the server has it."""
        write_table(path, lambda: iter([self.rows.take(pa.array(rows))]), self.identity)
        return Embedded(EmbeddingTable(path), [self.files[row] for row in rows], self.vectors[rows], "folder")


def label(found: Embedded, library: Library, truth: np.ndarray, example: int, folder: Path) -> Found:
    """Answer questions as the user would, and score the head of the page on all windows."""
    answers = LabelFile(folder / f"labels-{example}.csv", library)
    page, row_of = Labelling(found, answers), {file.id: row for row, file in enumerate(found.files)}
    state = page.begin("class", found.vectors[[example]])
    for _ in range(ANSWERS):
        assert state.next is not None
        state = page.answer("class", state.next.id, bool(truth[row_of[state.next.id]]))
    asked = np.isin(np.arange(len(truth)), [row_of[sound] for sound in answers.answers["class"]])
    head = page.head()
    assert head.thresholds is not None
    probability = 1 / (1 + np.exp(-head.logits(found.vectors)[:, 0]))
    detected = probability >= head.thresholds[0]
    others, expected = detected & ~asked, state.head.expected if state.head else None
    return Found(
        int(truth.sum()),
        state.yes,
        float(average_precisions(truth[:, None].astype(int), probability[:, None])[0]),
        rate(truth & detected, detected),
        rate(truth & detected, truth),
        int(others.sum()),
        np.nan if expected is None else expected,
        rate(truth & others, others),
    )


def rate(part: np.ndarray, whole: np.ndarray) -> float:
    """The fraction of a set that is in a part of it; NaN if the set is empty."""
    return float(part.sum() / whole.sum()) if whole.any() else np.nan


def tries(pool: Pool, kind: Kind) -> Iterator[Found]:
    """Yield the result of every folder and example of a class."""
    for seed in range(FOLDERS):
        rng = np.random.default_rng(seed)
        rows, truth = pool.folder(kind, rng)
        with tempfile.TemporaryDirectory() as place:
            found = pool.embedded(rows, Path(place) / "folder.parquet")
            for example in rng.permutation(np.flatnonzero(truth))[:EXAMPLES]:
                yield label(found, pool.library, truth, int(example), Path(place))


def means(rows: np.ndarray) -> np.ndarray:
    """The mean of each column over the rows that have a number; NaN if none has one."""
    numbers = (~np.isnan(rows)).sum(axis=0)
    return np.where(numbers > 0, np.nansum(rows, axis=0) / np.maximum(numbers, 1), np.nan)


def line(name: str, rows: np.ndarray) -> str:
    """One row of the table."""
    clips, positive, ap, precision, recall, others, expected, true = means(rows)
    return (
        f"| {name} | {clips:.0f} | {positive:.1f} | {ap:.2f} | {precision:.2f}, {recall:.2f} | {others:.1f} |"
        f" {expected:.2f}, {true:.2f} |"
    )


def markdown(found: dict[str, list[Found]]) -> str:
    """Markdown: one row a class, and the mean over classes."""
    lines = [
        "| class | clips | with the class among 40 | average precision | precision, recall | others detected |"
        " expected, true precision of these |",
        "|---" * len(fields(Found)[1:]) + "|",
    ]
    arrays = {name: np.array([astuple(each) for each in results], float) for name, results in found.items()}
    lines += [line(name, rows) for name, rows in arrays.items()]
    lines.append(line("mean", np.stack([means(rows) for rows in arrays.values()])))
    every = np.concatenate([*arrays.values()])
    good = float((every[:, 3] >= 0.8).mean())
    empty = int(np.isnan(every[:, 3]).sum())
    note = f"{len(every)} repetitions; precision of 0.8 or better in {good:.2f} of them; nothing detected in {empty}."
    return "\n".join([*lines, "", note, ""])


def main() -> None:
    """Make the pool, embed it, label every class, write the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rare_sounds", description=str(__doc__).splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("corpus", type=Path, help="folder of unheard data fetch, with its manifest.csv")
    parser.add_argument("-o", "--out", type=Path, required=True)
    given = parser.parse_args()
    corpus, pool, table = given.corpus.resolve(), given.out / "pool.csv", given.out / "pool.parquet"
    given.out.mkdir(parents=True, exist_ok=True)
    write_pool(corpus, pool)
    unheard.embed(given.model, None, table, segments=pool, resume=table.exists(), track=bar)
    windows = Pool(corpus, table)
    found = {name: list(tries(windows, kind)) for name, kind in bar(KINDS.items(), len(KINDS), "classes")}
    text = markdown(found)
    (given.out / "table.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
