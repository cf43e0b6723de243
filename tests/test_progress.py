"""Progress without a terminal: a line at every tenth, the last one included."""

from __future__ import annotations

import pytest

from unheard.progress import bar, silent


@pytest.mark.parametrize(
    ("total", "shown"), [(1, [1]), (3, [1, 2, 3]), (20, list(range(2, 21, 2))), (25, [*range(2, 25, 2), 25])]
)
def test_lines_come_at_every_tenth_and_at_the_end(
    total: int, shown: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert list(bar(range(total), total, "files")) == list(range(total))
    assert capsys.readouterr().err.splitlines() == [f"files: {done}/{total}" for done in shown]


def test_an_item_that_failed_is_not_counted(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ZeroDivisionError):
        [1 / item for item in bar([1, 0], 2, "files")]
    assert capsys.readouterr().err.splitlines() == ["files: 1/2"]


def test_silence_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(silent("ab", 2, "letters")) == ["a", "b"]
    assert capsys.readouterr().err == ""
