"""Tables of the frames of long files: same rows as in one piece, in memory that does not grow with the length."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile

from unheard.embedding import embedding_model, tables
from unheard.embedding.bulk import embed_table
from unheard.embedding.embedder import Model, Options
from unheard.embedding.loading import load
from unheard.embedding.table_jobs.spool import FrameSpool

MEMORY = """
import resource, sys
from unheard.embedding.bulk import embed_table
from unheard.embedding.job import Options
from unheard.embedding.loading import load
model = load("random-tiny")
model.set_speed(batch_size=4)
for path in sys.argv[1:]:
    embed_table(model, [path], path + ".parquet", Options(layer=tuple(range(1, 13))))
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Model:
    model = load("random-tiny")
    assert isinstance(model, Model)
    monkeypatch.setattr(model, "batch_size", 2)
    return model


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for name, seconds in (("a", 1.0), ("b", 60.0), ("c", 3.0), ("d", 45.0)):
        soundfile.write(tmp_path / f"{name}.wav", rng.standard_normal(int(16000 * seconds)) * 0.1, 16000)
    return tmp_path


@pytest.fixture
def small_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding_model, "SPOOL_VALUES", 20_000)
    monkeypatch.setattr(tables, "PART_VALUES", 50_000)


def rows(table: Path) -> list[dict[str, object]]:
    return pq.read_table(table).to_pylist()


@pytest.mark.parametrize("hop", [None, 0.04])
@pytest.mark.parametrize("pool", ["mean", "none"])
def test_frames_in_pieces_are_those_in_memory(
    model: Model,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
    pool: str,
    hop: float | None,
) -> None:
    options = Options(pool=pool, hop=hop)  # type: ignore[arg-type]
    embed_table(model, [folder], tmp_path / "whole.parquet", options)
    request.getfixturevalue("small_memory")
    spooled, add = [], FrameSpool.add
    monkeypatch.setattr(FrameSpool, "add", lambda *given: (spooled.append(given[1]), add(*given)))
    embed_table(model, [folder], tmp_path / "pieces.parquet", options)
    assert {"b.wav", "d.wav"} <= {Path(each).name for each in spooled} < {f"{name}.wav" for name in "abcd"}
    assert rows(tmp_path / "pieces.parquet") == rows(tmp_path / "whole.parquet")


@pytest.mark.usefixtures("small_memory")
def test_a_long_file_that_breaks_off_leaves_no_rows(model: Model, folder: Path, tmp_path: Path) -> None:
    samples, rate = soundfile.read(folder / "b.wav")
    samples[-1000] = np.nan
    soundfile.write(folder / "b.wav", samples, rate, "FLOAT")
    report = embed_table(model, [folder], tmp_path / "emb.parquet", Options())
    assert [Path(path).name for path, _ in report.skipped] == ["b.wav"]
    assert {Path(row["path"]).name for row in rows(tmp_path / "emb.parquet")} == {"a.wav", "c.wav", "d.wav"}


@pytest.mark.usefixtures("small_memory")
@pytest.mark.parametrize("after", [1, 3, 6])
def test_a_job_that_stops_inside_a_long_file_continues(
    model: Model, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    embed_table(model, [folder], tmp_path / "whole.parquet", Options())
    add, count = tables.TableWriter.add, [0]

    def stop(*given: object, **more: object) -> None:
        count[0] += 1
        if count[0] == after:
            raise KeyboardInterrupt
        add(*given, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(tables.TableWriter, "add", stop)
    with pytest.raises(KeyboardInterrupt):
        embed_table(model, [folder], tmp_path / "emb.parquet", Options())
    embed_table(model, [folder], tmp_path / "emb.parquet", Options(), resume=True)
    assert rows(tmp_path / "emb.parquet") == rows(tmp_path / "whole.parquet")


def test_memory_does_not_grow_with_the_length_of_a_file(tmp_path: Path) -> None:
    minute = np.random.default_rng(0).standard_normal(16000 * 60) * 0.1
    for minutes in (3, 9):
        with soundfile.SoundFile(tmp_path / f"{minutes}.flac", "w", 16000, 1) as file:
            for _ in range(minutes):
                file.write(minute)
    command = [sys.executable, "-c", MEMORY, str(tmp_path / "3.flac"), str(tmp_path / "9.flac")]
    short, long = map(int, subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())
    assert long - short < 200  # MB; the frames of six minutes are 104 MB, and three copies were in memory before
