"""Progress shows what is embedded: minutes of a few long recordings, otherwise files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

import unheard
from unheard.embedding import bulk, embedding_model
from unheard.embedding.bulk import embed_segments_table, embed_table
from unheard.embedding.embedder import Model
from unheard.embedding.job import Options
from unheard.embedding.table_jobs import audio_progress


class Shown:
    """A progress that records what it shows."""

    def __init__(self, most: int = 10**9) -> None:
        self.most, self.done, self.total, self.description = most, 0, 0, ""

    def __call__(self, items: Iterable[Any], total: int, description: str) -> Iterator[Any]:
        self.total, self.description = total, description
        for item in items:
            yield item
            self.done += 1
            if self.done == self.most:
                return


@pytest.fixture(scope="module")
def model() -> Model:
    loaded = unheard.load("random-tiny", "cpu")
    assert isinstance(loaded, Model)
    return loaded


def sounds(folder: Path, seconds: list[float]) -> Path:
    folder.mkdir()
    generator = np.random.default_rng(0)
    for number, length in enumerate(seconds):
        noise = generator.normal(0, 0.1, round(length * 16000))
        soundfile.write(folder / f"{number:02}.wav", noise, 16000)
    return folder


def stored_with_shown(shown: Shown, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that gets what is shown whenever rows are stored."""
    found: list[int] = []

    class Writer(bulk.TableWriter):
        def add(self, *given: Any, **more: Any) -> None:
            found.append(shown.done)
            super().add(*given, **more)

    monkeypatch.setattr(bulk, "TableWriter", Writer)
    return found


@pytest.mark.parametrize(
    "options", [Options(frames=False), Options(frames=False, window=10.0, hop=10.0)], ids=["files", "windows"]
)
def test_minutes_of_long_recordings_are_shown(
    options: Options, model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = Shown()
    stored = stored_with_shown(shown, monkeypatch)
    monkeypatch.setattr(audio_progress, "FEW", 2)
    folder = sounds(tmp_path / "sounds", [90.0, 150.0])
    embed_table(model, [folder], tmp_path / "x.parquet", options, track=shown)
    assert (shown.description, shown.total, shown.done) == ("embedding, minutes of audio", 4, 4)
    if options.window is None:
        assert 1 <= stored[0] < 4  # the first file is done, and the second is not
    else:
        assert stored == sorted(stored) and stored[0] == 0 and set(stored) >= {1, 2}
    monkeypatch.setattr(audio_progress, "FEW", 1)
    embed_table(model, [folder], tmp_path / "y.parquet", options, track=shown)
    assert (shown.description, shown.total) == ("embedding", 2)


@pytest.mark.parametrize("kind", ["files", "windows", "segments"])
def test_a_file_counts_when_it_is_embedded_and_not_when_it_is_read(
    kind: str, model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = Shown()
    stored = stored_with_shown(shown, monkeypatch)
    folder = sounds(tmp_path / "sounds", [0.5] * 8)
    (folder / "03.wav").write_text("no sound")
    if kind == "segments":
        table = tmp_path / "segments.csv"
        table.write_text("path,start,end\n" + "".join(f"{path},0,0.4\n" for path in sorted(folder.iterdir())))
        report = embed_segments_table(model, table, tmp_path / "x.parquet", track=shown)
    else:
        options = Options(frames=False) if kind == "files" else Options(frames=False, window=1.0, hop=1.0)
        report = embed_table(model, [folder], tmp_path / "x.parquet", options, track=shown)
    assert (shown.description, shown.total, shown.done, len(report.skipped)) == ("embedding", 8, 8, 1)
    assert all(done <= number + 1 for number, done in enumerate(stored))  # one file is skipped


def test_no_header_is_read_for_a_progress_that_is_not_shown(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    original = audio_progress.open_sound
    monkeypatch.setattr(audio_progress, "open_sound", lambda path: (read.append(path), original(path))[1])
    folder = sounds(tmp_path / "sounds", [0.5] * 3)
    embed_table(model, [folder], tmp_path / "silent.parquet")
    assert read == []
    embed_table(model, [folder], tmp_path / "shown.parquet", track=Shown())
    assert len(read) == 3


def test_a_display_that_ends_early_ends_the_job(model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding_model, "PENDING", 1)
    folder = sounds(tmp_path / "sounds", [0.5] * 60)
    report = embed_table(model, [folder], tmp_path / "x.parquet", track=Shown(most=5))
    assert 5 <= report.embedded < 60
