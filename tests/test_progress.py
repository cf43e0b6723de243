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


def test_lines_of_a_long_job_have_the_remaining_time(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([0.0, 40.0, 80.0, 120.0])
    monkeypatch.setattr("unheard.progress.time.monotonic", lambda: next(clock))
    assert list(bar(range(3), 3, "files")) == [0, 1, 2]
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["files: 1/3, about 1 min 20 s left", "files: 2/3, about 40 s left", "files: 3/3"]


def test_an_item_that_failed_is_not_counted(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ZeroDivisionError):
        [1 / item for item in bar([1, 0], 2, "files")]
    assert capsys.readouterr().err.splitlines() == ["files: 1/2"]


def test_silence_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(silent("ab", 2, "letters")) == ["a", "b"]
    assert capsys.readouterr().err == ""
