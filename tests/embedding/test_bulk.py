"""Embedding of a folder to a table, with interruptions and errors."""

import contextlib
import csv
import errno
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile

from unheard.embedding import tables
from unheard.embedding.bulk import embed_table
from unheard.embedding.embedder import Model, Options
from unheard.embedding.loading import load
from unheard.embedding.table_files import ROWS, read_blocks, read_identity
from unheard.embedding.tables import TableWriter
from unheard.errors import ConfigError, DataError
from unheard.outputs import locked_file
from unheard.progress import silent
from unheard.weights.built_in import reinitialised
from unheard.weights.checkpoint import SavedModel


@pytest.fixture(scope="module")
def model():
    return load("random-tiny")


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "audio"
    (place / "deep").mkdir(parents=True)
    generator = np.random.default_rng(0)
    for index in range(6):
        soundfile.write(
            place / f"deep/{index}.wav", generator.standard_normal(4000 * (index + 1)).astype(np.float32) * 0.1, 16000
        )
    (place / "broken.mp3").write_text("no sound")
    (place / "readme.txt").write_text("not audio, ignored")
    return place


def one_by_one(model, monkeypatch):
    """Read and encode one window at a time."""
    monkeypatch.setattr("unheard.embedding.embedding_model.PENDING", 1)
    monkeypatch.setattr(model, "batch_size", 1)
    monkeypatch.setattr(model, "workers", 0)


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


def test_an_interrupted_job_continues_and_gives_the_same_table(model, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "PART_VALUES", 1000)

    def stop(items, total, description):
        for index, item in enumerate(items):
            if index == 3:
                raise KeyboardInterrupt
            yield item

    embed_table(model, [folder], tmp_path / "whole.npz")
    one_by_one(model, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        embed_table(model, [folder], tmp_path / "emb.npz", track=stop)
    assert not (tmp_path / "emb.npz").exists()
    with pytest.raises(ConfigError, match="interrupted job; continue it with --resume"):
        embed_table(model, [folder], tmp_path / "emb.npz")
    report = embed_table(model, [folder], tmp_path / "emb.npz", resume=True)
    assert report.resumed > 0 and report.rows == 6
    with np.load(tmp_path / "emb.npz") as ours, np.load(tmp_path / "whole.npz") as whole:
        assert ours["path"].tolist() == whole["path"].tolist()
        np.testing.assert_allclose(ours["embedding"], whole["embedding"], atol=1e-5)
    assert not list(tmp_path.glob(".emb*"))


@pytest.mark.parametrize("stopped_at", [0, 2])
def test_an_interrupted_replacement_is_continued_without_the_rows_of_the_old_table(
    model, folder, tmp_path, monkeypatch, stopped_at
):
    files, out = [folder / f"deep/{index}.wav" for index in range(4)], tmp_path / "emb.npz"
    embed_table(model, files[:2], out)
    shutil.copy(files[3], files[1])  # the sound has changed since
    one_by_one(model, monkeypatch)

    def stop(items, total, description):
        for index, item in enumerate(items):
            if index == stopped_at:
                raise KeyboardInterrupt
            yield item

    with pytest.raises(KeyboardInterrupt):
        embed_table(model, files[1:], out, overwrite=True, track=stop)
    report = embed_table(model, files[1:], out, resume=True)
    assert report.rows == 3
    with np.load(out) as found:
        assert found["path"].tolist() == [str(file) for file in files[1:]]
        np.testing.assert_allclose(found["embedding"][0], model.embed(files[3]).scene, atol=1e-5)
    assert not list(tmp_path.glob(".emb*"))


def test_an_existing_table_is_refused_without_a_flag(model, folder, tmp_path):
    embed_table(model, [folder], tmp_path / "emb.csv")
    with pytest.raises(ConfigError, match="--overwrite"):
        embed_table(model, [folder], tmp_path / "emb.csv")
    assert embed_table(model, [folder], tmp_path / "emb.csv", overwrite=True).rows == 6
    before = (tmp_path / "emb.csv").stat()
    report = embed_table(model, [folder], tmp_path / "emb.csv", resume=True)
    assert (report.rows, report.embedded, report.resumed) == (6, 0, 6)
    assert (tmp_path / "emb.csv").stat() == before  # nothing was to be done
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


def vectors_of(file):
    with np.load(file) as arrays:
        return dict(zip(arrays["path"].tolist(), arrays["embedding"], strict=True))


@pytest.mark.parametrize("end", [".parquet", ".npz", ".csv"])
def test_resuming_a_finished_table_adds_new_files_and_keeps_the_rows(model, folder, tmp_path, end, monkeypatch):
    out = tmp_path / f"emb{end}"
    embed_table(model, [folder / "deep"], out)
    monkeypatch.chdir(tmp_path)
    soundfile.write(folder / "deep/new.wav", np.full(4000, 0.1), 16000)
    report = embed_table(model, ["audio/deep", folder / "deep"], out, resume=True)  # two spellings, one row a file
    assert (report.rows, report.embedded, report.resumed) == (7, 1, 6)
    embed_table(model, [folder / "deep"], tmp_path / f"all{end}")
    rows = [
        [(row["path"].split("/")[-1], row["seconds"]) for b in read_blocks(f) for row in b.to_pylist()]
        for f in (out, tmp_path / f"all{end}")
    ]
    assert sorted(rows[0]) == sorted(rows[1])
    assert rows[0][-1][0] == "new.wav"


@pytest.mark.parametrize("end", [".parquet", ".npz", ".csv"])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (Options(layer=3, frames=False), "--layer is None, now 3"),
        (Options(pool="max", frames=False), "--pool is mean, now max"),
        (Options(pool="mean+std", frames=False), "size is 960, now 1920"),
        (Options(frames=True), "--frames is False, now True"),
    ],
)
def test_resume_with_other_options_is_refused(model, folder, tmp_path, end, options, message):
    embed_table(model, [folder / "deep/0.wav"], tmp_path / f"emb{end}")
    with pytest.raises(ConfigError, match=message):
        embed_table(model, [folder], tmp_path / f"emb{end}", options, resume=True)


def test_resume_with_another_model_is_refused_for_parts_and_for_tables(model, folder, tmp_path, monkeypatch):
    one_by_one(model, monkeypatch)
    other = Model(reinitialised(SavedModel(model.learner, model.config, model.statistics, model.provenance), seed=5))

    def stop(items, total, description):
        for index, item in enumerate(items):
            if index == 3:
                raise KeyboardInterrupt
            yield item

    for name, track in (("table.parquet", silent), ("parts.parquet", stop)):
        with contextlib.suppress(KeyboardInterrupt):
            embed_table(model, [folder / "deep"], tmp_path / name, track=track)
        with pytest.raises(ConfigError, match="the model is different"):
            embed_table(other, [folder / "deep"], tmp_path / name, resume=True)
        assert embed_table(model, [folder / "deep"], tmp_path / name, resume=True).rows == 6


def test_an_interrupt_loses_nothing_that_was_embedded(model, folder, tmp_path, monkeypatch):
    one_by_one(model, monkeypatch)

    def stop(items, total, description):
        for index, item in enumerate(items):
            if index == 4:
                raise KeyboardInterrupt
            yield item

    with pytest.raises(KeyboardInterrupt):
        embed_table(model, [folder / "deep"], tmp_path / "emb.npz", track=stop)  # with the real size of a part
    assert embed_table(model, [folder / "deep"], tmp_path / "emb.npz", resume=True).resumed == 4


def test_rows_are_stored_after_a_while(model, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "PART_SECONDS", 0.0)
    one_by_one(model, monkeypatch)
    seen = []

    def look(items, total, description):
        for item in items:
            seen.append(len(list((tmp_path / ".emb.npz.parts").glob("part-*"))))
            yield item

    embed_table(model, [folder / "deep"], tmp_path / "emb.npz", track=look)
    assert seen == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("name", ["manifest.json", "part-000000.parquet"])
def test_damaged_parts_are_refused(model, folder, tmp_path, name, monkeypatch):
    monkeypatch.setattr(TableWriter, "finish", lambda self: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        embed_table(model, [folder / "deep"], tmp_path / "emb.npz")
    monkeypatch.undo()
    part = tmp_path / ".emb.npz.parts" / name
    content = part.read_bytes()
    for place in range(0, len(content), max(1, len(content) // 40)):
        part.write_bytes(content[:place] + bytes([content[place] ^ 2]) + content[place + 1 :])
        with pytest.raises(DataError, match="--overwrite"):
            embed_table(model, [folder / "deep"], tmp_path / "emb.npz", resume=True)
    part.write_bytes(content)
    assert embed_table(model, [folder / "deep"], tmp_path / "emb.npz", resume=True).embedded == 0


@pytest.mark.parametrize("end", [".parquet", ".npz", ".csv"])
def test_no_flipped_bit_of_a_table_is_read_as_a_row(model, folder, tmp_path, end):
    file = tmp_path / f"emb{end}"
    embed_table(model, [folder / "deep"], file)
    content, wanted = file.read_bytes(), [block.to_pydict() for block in read_blocks(file)]
    rng = np.random.default_rng(0)
    for place in rng.integers(0, len(content), 60):
        file.write_bytes(content[:place] + bytes([content[place] ^ 1 << rng.integers(8)]) + content[place + 1 :])
        try:
            read_identity(file)
            found = [block.to_pydict() for block in read_blocks(file)]
        except DataError:
            continue
        assert found == wanted


def test_a_table_in_work_is_refused(model, folder, tmp_path):
    with locked_file(tmp_path / "emb.npz"), pytest.raises(ConfigError, match=r"emb.npz is being written by process"):
        embed_table(model, [folder], tmp_path / "emb.npz", overwrite=True)


def test_joining_parts_takes_little_memory(model, tmp_path):
    import tracemalloc

    size = model.embedding_size
    with TableWriter(tmp_path / "emb.npz", {}, size) as table:
        for number in range(3 * tables.PART_VALUES // (size * 1000)):
            table.add(
                f"{number}.wav", np.zeros((1000, size), np.float32), seconds=1.0, time_ms=np.zeros(1000, np.float32)
            )
        tracemalloc.start()
        table.finish()
        assert tracemalloc.get_traced_memory()[1] < 2.5 * 4 * ROWS * size  # a few blocks, however many rows there are
        tracemalloc.stop()
