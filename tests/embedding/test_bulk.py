"""A folder in, a table out, whatever happens in between."""

import csv
import errno

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile

from unheard.embedding import tables
from unheard.embedding.bulk import embed_table
from unheard.embedding.embedder import Options
from unheard.embedding.loading import load
from unheard.errors import ConfigError, DataError


@pytest.fixture(scope="module")
def model():
    return load("random-tiny")


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "audio"
    (place / "deep").mkdir(parents=True)
    generator = np.random.default_rng(0)
    for index in range(6):
        soundfile.write(place / f"deep/{index}.wav", generator.standard_normal(4000 * (index + 1)).astype(np.float32) * 0.1, 16000)
    (place / "broken.mp3").write_text("no sound")
    (place / "readme.txt").write_text("not audio, ignored")
    return place


def test_one_row_a_file_in_every_format(model, folder, tmp_path):
    reports = {end: embed_table(model, [folder], tmp_path / f"emb{end}") for end in (".parquet", ".npz", ".csv")}
    for report in reports.values():
        assert (report.rows, report.embedded, len(report.skipped)) == (6, 6, 1)
        assert report.skipped[0][0].endswith("broken.mp3")
    table = pq.read_table(tmp_path / "emb.parquet")
    assert table.column_names == ["path", "seconds", "embedding"]
    vectors = np.array(table["embedding"].to_pylist(), dtype=np.float32)
    with np.load(tmp_path / "emb.npz") as arrays:
        np.testing.assert_array_equal(arrays["embedding"], vectors)
        assert arrays["path"].tolist() == table["path"].to_pylist()
    with (tmp_path / "emb.csv").open() as file:
        rows = list(csv.reader(file))
    assert rows[0][:3] == ["path", "seconds", "e0"] and len(rows) == 7
    np.testing.assert_allclose(np.array(rows[1][2:], dtype=np.float32), vectors[0], rtol=1e-5)
    np.testing.assert_allclose(vectors[2], model.embed(table["path"][2].as_py()).scene, atol=1e-5)


def test_frames_give_one_row_a_time_step(model, folder, tmp_path):
    report = embed_table(model, [folder / "deep/5.wav"], tmp_path / "emb.parquet", Options(frames=True))
    table = pq.read_table(tmp_path / "emb.parquet")
    expected = model.embed(folder / "deep/5.wav")
    assert table.column_names == ["path", "seconds", "time_ms", "embedding"] and report.rows == len(expected.frames)
    np.testing.assert_allclose(table["time_ms"].to_numpy(), expected.times_ms)


def test_an_interrupted_job_goes_on_and_gives_the_same_table(model, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "PART_VALUES", 1000)

    def stop(items, total, description):
        for index, item in enumerate(items):
            if index == 3:
                raise KeyboardInterrupt
            yield item

    embed_table(model, [folder], tmp_path / "whole.npz")
    monkeypatch.setattr("unheard.embedding.embedder.PENDING", 1)
    with pytest.raises(KeyboardInterrupt):
        embed_table(model, [folder], tmp_path / "emb.npz", track=stop)
    assert not (tmp_path / "emb.npz").exists()
    with pytest.raises(ConfigError, match="interrupted job; go on with --resume"):
        embed_table(model, [folder], tmp_path / "emb.npz")
    report = embed_table(model, [folder], tmp_path / "emb.npz", resume=True)
    assert report.resumed > 0 and report.rows == 6
    with np.load(tmp_path / "emb.npz") as ours, np.load(tmp_path / "whole.npz") as whole:
        assert ours["path"].tolist() == whole["path"].tolist()
        np.testing.assert_allclose(ours["embedding"], whole["embedding"], atol=1e-5)
    assert not list(tmp_path.glob(".emb*"))


def test_an_existing_table_is_refused_unless_told(model, folder, tmp_path):
    embed_table(model, [folder], tmp_path / "emb.csv")
    with pytest.raises(ConfigError, match="--overwrite"):
        embed_table(model, [folder], tmp_path / "emb.csv")
    assert embed_table(model, [folder], tmp_path / "emb.csv", overwrite=True).rows == 6
    assert embed_table(model, [folder], tmp_path / "emb.csv", resume=True).rows == 6


def test_wrong_names_folders_and_endings(model, folder, tmp_path):
    with pytest.raises(DataError, match="no file or folder"):
        embed_table(model, [tmp_path / "nothing"], tmp_path / "emb.csv")
    with pytest.raises(ConfigError, match="must end in"):
        embed_table(model, [folder], tmp_path / "emb.xlsx")
    with pytest.raises(DataError, match="none of the 1 files could be read"):
        embed_table(model, [folder / "broken.mp3"], tmp_path / "emb.csv")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no audio in"):
        embed_table(model, [tmp_path / "empty"], tmp_path / "emb.csv")


def test_a_full_disk_is_one_clear_error_and_leaves_no_half_table(model, folder, tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("pyarrow.parquet.write_table", full)
    with pytest.raises(DataError, match=r"could not write .*No space left on device"):
        embed_table(model, [folder], tmp_path / "emb.parquet")
    assert not (tmp_path / "emb.parquet").exists()


def test_mean_and_deviation_are_twice_as_long(model, folder, tmp_path):
    embed_table(model, [folder / "deep"], tmp_path / "emb.npz", Options(pool="mean+std", frames=False))
    with np.load(tmp_path / "emb.npz") as arrays:
        assert arrays["embedding"].shape == (6, 1920)
