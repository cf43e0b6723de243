"""Overwriting an evaluation removes that evaluation and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from unheard.api import evaluating
from unheard.errors import ConfigError
from unheard.evaluation.hear import suite
from unheard.evaluation.report import Report


def test_overwriting_removes_what_an_evaluation_wrote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suite, "evaluate", lambda *arguments: Report())
    monkeypatch.setattr(evaluating, "choose_tasks", lambda *arguments: [])
    (tmp_path / "thesis.txt").write_text("precious")
    (tmp_path / "embeddings" / "someone").mkdir(parents=True)
    (tmp_path / "embeddings" / "someone" / "rows.npy").write_bytes(b"others")
    with pytest.raises(ConfigError, match="is not an evaluation"):
        evaluating.evaluate("random-tiny", tmp_path, tmp_path, overwrite=True)
    assert (tmp_path / "embeddings" / "someone" / "rows.npy").is_file()
    for name in ("scores/fixed", "fits/fixed", "failures/fixed"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("results-robust.json", "results-robust.png", "results-of-mine.txt"):
        (tmp_path / name).write_text("{}")
    evaluating.evaluate("random-tiny", tmp_path, tmp_path, overwrite=True)
    found = {file.name for file in tmp_path.iterdir()}
    assert found == {
        "thesis.txt",
        "results-of-mine.txt",
        *(f"results-heareval.{kind}" for kind in ("csv", "json", "md", "html")),
    }
