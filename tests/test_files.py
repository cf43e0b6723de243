"""Files are there whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from unheard.files import whole, write_table, write_text


def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    file = write_text(tmp_path / "told.txt", "before")

    def half() -> None:
        with whole(file) as unfinished:
            unfinished.write_text("half")
            raise OSError("no space")

    with pytest.raises(OSError, match="no space"):
        half()
    assert file.read_text() == "before"
    assert list(tmp_path.iterdir()) == [file]


def test_a_table_with_a_bad_row_replaces_nothing(tmp_path: Path) -> None:
    file = write_table(tmp_path / "rows.csv", ("a", "b"), [{"a": "1", "b": "zwei, drei"}])
    with pytest.raises(ValueError, match="c"):
        write_table(file, ("a", "b"), [{"a": "2", "b": ""}, {"c": "3"}])
    assert file.read_text() == 'a,b\n1,"zwei, drei"\n'
    assert list(tmp_path.iterdir()) == [file]
