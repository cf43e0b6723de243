"""A table is read as Python's csv module reads its plain form, whatever program wrote it."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unheard.data.label_table import Labels, read_labels
from unheard.data.tables import read_columns, read_csv

NAMES = ("dog", "dog; small", "a, b", 'the "blue" one', "é", "cat's", "x y", "3")
FILES = ("a.wav", "b c.wav", "d,e.wav", "f;g.wav", "h'.wav", "é.wav")
SPACES = st.sampled_from(["", " ", "  ", "\t"])
SPELLINGS = {
    "encoding": st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    "line": st.sampled_from(["\n", "\r\n", "\r"]),
    "quoting": st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
}
ROWS = st.lists(
    st.tuples(
        st.sampled_from(FILES), st.lists(st.sampled_from(NAMES), max_size=3), st.sampled_from(["", "one", "two, or 2"])
    ),
    min_size=2,
    max_size=8,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("tables")
    for name in FILES:
        (root / name).touch()
    return root


def write(file: Path, records: list[list[str]], encoding: str, line: str, quoting: int, end: bool = True) -> Path:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator=line, quoting=quoting).writerows(records)  # type: ignore[arg-type]
    file.write_bytes((text.getvalue() if end else text.getvalue().removesuffix(line)).encode(encoding))
    return file


def plain(file: Path, records: list[list[str]]) -> list[dict[str, str]]:
    """What Python's csv module reads of the records written as plain UTF-8."""
    with write(file, records, "utf-8", "\n", csv.QUOTE_MINIMAL).open(newline="", encoding="utf-8") as text:
        return list(csv.DictReader(text))


@settings(max_examples=60)
@given(
    rows=ROWS,
    extra=st.lists(st.text(max_size=6).filter(lambda text: "\0" not in text), min_size=8, max_size=8),
    **SPELLINGS,
    end=st.booleans(),
)
def test_every_spelling_gives_the_values_of_the_plain_one(
    folder: Path,
    rows: list[tuple[str, list[str], str]],
    extra: list[str],
    encoding: str,
    line: str,
    quoting: int,
    end: bool,
) -> None:
    lone = [text.encode("utf-8", "ignore").decode().replace("\r", "").replace("\n", "") for text in extra]
    records = [
        ["path", "label", "remark"],
        *([path, "|".join(names), lone[at]] for at, (path, names, _) in enumerate(rows)),
    ]
    wanted = plain(folder / "plain.csv", records)
    file = write(folder / "table.csv", records, encoding, line, quoting, end)
    assert read_csv(file, ("path", "label")) == wanted
    columns = read_columns(file, ("path",), ("remark", "absent"))
    assert columns == {"path": [row["path"] for row in wanted], "remark": [row["remark"] for row in wanted]}


@settings(max_examples=60)
@given(
    rows=ROWS,
    spaces=st.lists(SPACES, min_size=4, max_size=4),
    repeated=st.booleans(),
    empty=st.integers(0, 3),
    **SPELLINGS,
)
def test_labels_are_the_names_in_each_cell(
    folder: Path,
    rows: list[tuple[str, list[str], str]],
    spaces: list[str],
    repeated: bool,
    empty: int,
    encoding: str,
    line: str,
    quoting: int,
) -> None:
    rows = [("a.wav", ["dog", "é"], ""), *rows]  # several labels, so that none is allowed
    first, second, third, fourth = spaces

    def cell(names: list[str]) -> str:
        """Spaces around names, empty names, and names twice change nothing."""
        written = [f"{first}{name}{second}" for name in (names + names[:1] if repeated else names)]
        return "|".join(written + [third] * (empty == 1)) if written else fourth

    header = [f"{first}path{second}", f"label{third}", f"group{fourth}", f"{first}start"]
    records = [header]  # each row is a clip of its own: labels of one clip must be in one row
    records += [[row[0], cell(row[1]), f"{third}{row[2]}{fourth}", str(at)] for at, row in enumerate(rows)]
    records += [["", "", "", ""]] * empty  # spreadsheets leave rows of commas
    found = read_labels(write(folder / "labels.csv", records, encoding, line, quoting))
    wanted = plain(
        folder / "plain.csv",
        [["path", "label", "group"], *([path, "|".join(names), group] for path, names, group in rows)],
    )
    assert [path.name for path in found.paths] == [row["path"] for row in wanted]
    assert found.classes == sorted({name for _, names, _ in rows for name in names})
    assert [_names(found, clip) for clip in range(len(found))] == [
        set(filter(None, row["label"].split("|"))) for row in wanted
    ]
    assert found.group == [row["group"] for row in wanted] and found.multilabel


def _names(labels: Labels, clip: int) -> set[str]:
    return {labels.classes[number] for number in np.flatnonzero(labels.target[clip])}
