"""Ambiguous tables are refused with a clear error; other spellings of a table give the same labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from unheard.audio.waveform import from_array, read
from unheard.data.annotations import LabelTable
from unheard.data.class_sets import AnnotatedClasses
from unheard.data.corpus import open_corpus
from unheard.data.label_table import read_labels
from unheard.data.shard_layout import Texts
from unheard.data.tables import read_csv
from unheard.errors import DataError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("clips")
    for number in range(6):
        stereo = np.stack([np.full(8000, 0.1 * (number + 1)), np.linspace(-0.5, 0.5, 8000)], axis=1)
        soundfile.write(root / f"{number}.wav", stereo, 16000, "FLOAT")
    return root


def table(folder: Path, *rows: str, header: str = "path,label") -> Path:
    file = folder / "labels.csv"
    file.write_text("\n".join((header, *rows)) + "\n")
    return file


ROWS = ("0.wav,a", "1.wav,b", "2.wav,a", "3.wav,b")


@pytest.mark.parametrize("cell", ["", " ", "|", " | "])
def test_an_empty_cell_does_not_turn_a_table_into_one_of_several_labels(cell: str, folder: Path) -> None:
    with pytest.raises(DataError, match=r"row 6 has no label \(1 rows\)"):
        read_labels(table(folder, *ROWS, f"4.wav,{cell}"))


def test_clips_of_none_of_several_labels_are_what_they_were(folder: Path) -> None:
    assert read_labels(table(folder, *ROWS, "4.wav,a|b", "5.wav,")).multilabel
    found = read_labels(table(folder, *(f"{row}," for row in ROWS), "4.wav,,a|b", header="path,label,known"))
    assert found.multilabel and found.target[4].tolist() == [0, 0]


@pytest.mark.parametrize("word", ["nan", "NaN", "NULL", "N/A", "<NA>"])
def test_words_for_an_empty_cell_are_no_classes(word: str, folder: Path) -> None:
    with pytest.raises(DataError, match="row 3 has the label .* programs write for an empty cell"):
        read_labels(table(folder, "0.wav,a", f"1.wav,{word}", "2.wav,b"))


@pytest.mark.parametrize("column", ["known", "fold", "group"])
def test_words_for_an_empty_cell_are_no_folds_groups_or_annotated_classes(column: str, folder: Path) -> None:
    rows = (*(f"{row},a" for row in ROWS[:3]), f"{ROWS[3]},NaN")
    with pytest.raises(DataError, match=f"{column} of row 5 is 'NaN', which programs write for an empty cell"):
        read_labels(table(folder, *rows, header=f"path,label,{column}"))


@pytest.mark.parametrize("column", ["label", "fold", "group"])
def test_a_name_in_two_unicode_forms_is_refused(column: str, folder: Path) -> None:
    names = ("caf\u00e9", "cafe\u0301", "x", "x")
    header = "path,label" if column == "label" else f"path,label,{column}"
    rows = [f"{n}.wav,{'' if column == 'label' else 'ab'[n % 2] + ','}{name}" for n, name in enumerate(names)]
    with pytest.raises(DataError, match=f"{column} 'caf.*' is written in two Unicode forms"):
        read_labels(table(folder, *rows, header=header))
    with pytest.raises(DataError, match="written in two Unicode forms"):
        LabelTable(Texts.of(names).categories())
    assert LabelTable(Texts.of(names[1:]).categories()).classes == ("cafe\u0301", "x")


@pytest.mark.parametrize("name", ["Split", "START", "Label"])
def test_a_column_in_capitals_is_refused_because_it_would_not_be_read(name: str, folder: Path) -> None:
    header = f"path,{'' if name == 'Label' else 'label,'}{name}"
    cells = "a" if name == "Label" else "a,test" if name == "Split" else "a,0.1"
    for reader in (read_labels, open_corpus):
        with pytest.raises(DataError, match=f"has the column '{name}', which is read only as '{name.lower()}'"):
            reader(table(folder, f"0.wav,{cells}", header=header))
    assert len(open_corpus(table(folder, "0.wav,a,test", header="path,label,Splits")).clips) == 1


@pytest.mark.parametrize(
    ("column", "cell"), [("split", " Test"), ("heldout", "1"), ("heldout", "1.0"), ("heldout", " True")]
)
def test_every_spelling_of_a_held_out_row_is_left_out_of_a_corpus(column: str, cell: str, folder: Path) -> None:
    found = open_corpus(table(folder, "0.wav,", f"1.wav,{cell}", header=f"path,{column}"))
    assert ([clip.path for clip in found.clips], found.held_out) == (["0.wav"], 1)


def test_an_unknown_mark_of_a_held_out_row_is_refused(folder: Path) -> None:
    with pytest.raises(DataError, match=r"heldout of 1.wav is 'fold 3'; use 1 for a held-out sound, else 0"):
        open_corpus(table(folder, "0.wav,0", "1.wav,fold 3", header="path,heldout"))


@pytest.mark.parametrize(("start", "end"), [(0.3, 0.1), (0.2, 0.2)])
def test_a_part_that_ends_before_it_starts_is_refused_the_same_everywhere(
    start: float, end: float, folder: Path
) -> None:
    file = table(folder, "0.wav,a,,", f"1.wav,b,{start},{end}", header="path,label,start,end")
    for reader in (read_labels, open_corpus):
        with pytest.raises(DataError, match=f"ends at {end:g} s, which is not after its start at {start:g} s"):
            reader(file)


def test_semicolons_tabs_and_workbooks_are_named(folder: Path) -> None:
    for letter, name in ((";", "semicolons"), ("\t", "tabs")):
        with pytest.raises(DataError, match=f"separated by {name}"):
            read_labels(table(folder, *(row.replace(",", letter) for row in ROWS), header=f"path{letter}label"))
    (folder / "book.csv").write_bytes(b"PK\x03\x04rest")
    with pytest.raises(DataError, match="a workbook, not a CSV"):
        read_labels(folder / "book.csv")
    (folder / "binary.csv").write_bytes(b"path\0label")
    with pytest.raises(DataError, match="a binary file"):
        read_labels(folder / "binary.csv")


def test_rows_of_commas_are_no_rows_and_values_behind_the_last_column_are_an_error(folder: Path) -> None:
    assert len(read_labels(table(folder, *ROWS, ",,", ",,"))) == 4
    with pytest.raises(DataError, match="row 3 has more values"):
        read_labels(table(folder, "0.wav,a", "1.wav,b,c", "2.wav,a"))


@given(
    cells=st.lists(
        st.tuples(st.text("abc ,;\"'é\n", min_size=1, max_size=8), st.text("xyz,|", max_size=5)), min_size=1, max_size=6
    ),
    mark=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    line=st.sampled_from(["\n", "\r\n"]),
    trailing=st.integers(0, 2),
)
def test_a_table_reads_the_same_in_every_spelling(
    cells: list[tuple[str, str]], mark: str, line: str, trailing: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    def quoted(text: str) -> str:
        return '"' + text.replace('"', '""') + '"'

    body = line.join(["path,label", *(f"{quoted(a)},{quoted(b)}" for a, b in cells), *([","] * trailing), ""])
    file = tmp_path_factory.mktemp("csv") / "t.csv"
    file.write_bytes(body.encode(mark))
    assert [(row["path"], row["label"]) for row in read_csv(file, ("path", "label"))] == cells


def test_a_part_keeps_its_channels_so_that_training_and_scoring_take_the_same_one(folder: Path) -> None:
    labels = read_labels(table(folder, "0.wav,a,0.1,0.3", "1.wav,b,0.1,0.3", header="path,label,start,end"))
    part = labels.sound(0)
    assert isinstance(part, tuple) and part[0].shape == (2, 3200)
    for channel in ("left", "right", "mix"):
        trained, _ = read(folder / "0.wav", channel=channel, start=0.1, seconds=0.2)  # type: ignore[arg-type]
        assert np.array_equal(from_array(*part, channel=channel), trained)  # type: ignore[arg-type]


def test_one_label_a_clip_with_classes_that_are_not_annotated_is_a_multilabel_table(folder: Path) -> None:
    """With softmax, classes that are not annotated would count as absent."""
    found = read_labels(table(folder, "0.wav,a,a|b", "1.wav,b,", "2.wav,c,a|c", header="path,label,known"))
    assert found.multilabel and found.ternary_targets.tolist() == [[1, 0, -1], [0, 1, 0], [0, -1, 1]]
    whole = read_labels(table(folder, "0.wav,a,a|b|c", "1.wav,b,", "2.wav,c,a|b|c", header="path,label,known"))
    assert not whole.multilabel and whole.known is None


@pytest.mark.parametrize("rows", [("0.wav,a,a", "1.wav,b,b"), ("0.wav,a|b,", "1.wav,b,b", "2.wav,,c")])
def test_annotation_without_an_absent_class_is_refused(rows: tuple[str, ...], folder: Path) -> None:
    with pytest.raises(
        DataError, match=r"no class is annotated as absent in any row, .*; list the classes that are absent"
    ):
        read_labels(table(folder, *rows, header="path,label,known"))


@pytest.mark.parametrize(
    ("rows", "place", "count"),
    [
        (("0.wav,a,,", "1.wav,b,,", "0.wav,b,,"), "0.wav is in the rows 2, 4", 1),
        (("0.wav,a|b,,1", "1.wav,c,0,", "0.wav,b,,1", "1.wav,b,0,"), "0.wav is in the rows 2, 4", 2),
    ],
)
def test_a_clip_in_several_rows_with_different_labels_is_refused(rows, place, count, folder: Path) -> None:  # type: ignore[no-untyped-def]
    message = rf"{place} with different labels \({count} such clips\); write all labels of a clip in one row"
    with pytest.raises(DataError, match=message):
        read_labels(table(folder, *rows, header="path,label,start,end"))


def test_equal_rows_and_other_parts_of_a_file_are_no_contradiction(folder: Path) -> None:
    rows = ("0.wav,a,,", "0.wav,a,,", "0.wav,b,0.1,", "0.wav,a,0.1,0.2", "1.wav,b|a,,", "1.wav,a|b,,")
    assert len(read_labels(table(folder, *rows, header="path,label,start,end"))) == 6


@pytest.mark.parametrize("column", ["label", "caption"])
def test_a_corpus_refuses_words_for_an_empty_cell(column: str, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.full(8000, 0.1), 16000)
    (tmp_path / "corpus.csv").write_text(f"path,{column}\na.wav,nan\n")
    with pytest.raises(DataError, match=f"{column} of a.wav is 'nan', which programs write for an empty cell"):
        open_corpus(tmp_path / "corpus.csv")
    (tmp_path / "corpus.csv").write_text(f"path,{column}\na.wav,\na.wav,nanking\n")
    assert [getattr(clip, column) for clip in open_corpus(tmp_path / "corpus.csv").clips] == ["", "nanking"]


def test_annotated_classes_are_the_dense_matrix() -> None:
    matrix = np.random.default_rng(0).random((40, 5)) < 0.6
    matrix[::4], matrix[1] = True, False
    known = AnnotatedClasses.from_dense(matrix)
    rows = np.array([7, 0, 1, 7])
    assert (
        np.array_equal(known[:], matrix)
        and np.array_equal(known[rows], matrix[rows])
        and np.array_equal(known[1], matrix[1])
    )
    assert np.array_equal(known.take(rows)[:], matrix[rows])
    wide = np.repeat(matrix.all(axis=1)[:, None], 7, axis=1)
    wide[:, [3, 1, 6, 0, 2]] = matrix
    assert np.array_equal(known.renumbered([3, 1, 6, 0, 2], 7)[:], wide)
