"""Search of a table of embeddings by example."""

import csv
import errno
import io
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import soundfile

import unheard
from unheard.cli import main
from unheard.embedding.search import EmbeddingTable, Example, Hit
from unheard.embedding.table_files import write_table
from unheard.embedding.tables import TableWriter
from unheard.errors import ConfigError, DataError

RATE = 16000


def clicks(seconds, times):
    """Return quiet noise with a chirp of half a second at each time."""
    wav = 0.003 * np.random.default_rng(0).standard_normal(round(seconds * RATE))
    for time in times:
        t = np.arange(RATE // 2) / RATE
        wav[round(time * RATE) :][: len(t)] += 0.5 * np.sin(2 * np.pi * (500 + 3000 * t) * t)
    return wav


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("searched")
    soundfile.write(place / "long.wav", clicks(12, (2, 7)), RATE)
    soundfile.write(place / "chirp.wav", clicks(1, (0,)), RATE)
    soundfile.write(place / "noise.wav", clicks(1, ()), RATE)
    unheard.embed("random-tiny", place / "long.wav", place / "emb.parquet", window=1.0)
    return place


def made(file, values, step=3, **columns):
    """Write a table of given vectors."""
    import pyarrow as pa

    values = np.asarray(values, np.float32)
    flat = pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])
    names = {"path": [f"{n}.wav" for n in range(len(values))], "seconds": np.ones(len(values))} | columns
    block = pa.table({**names, "embedding": flat})
    write_table(
        file,
        lambda: iter([block.slice(at, step) for at in range(0, len(values), step)]),
        {"size": values.shape[1], "pool": "mean"},
    )
    return EmbeddingTable(file)


def test_a_table_with_vectors_that_are_not_finite_is_refused(tmp_path):
    values = np.eye(8)
    values[5, 2], values[7, 0] = np.nan, np.inf
    with pytest.raises(DataError, match=r"vectors that are not finite, the first is row 6; embed"):
        made(tmp_path / "bad.parquet", values)


def test_windows_with_the_sound_of_the_example_come_first(folder):
    hits = unheard.search(folder / "emb.parquet", like=folder / "chirp.wav", k=12)
    assert {hit.start for hit in hits[:2]} == {2.0, 7.0} and len(hits) == 12
    assert hits[1].score > 0.5 > hits[2].score
    hits = unheard.search(folder / "emb.parquet", like=folder / "noise.wav", unlike=[folder / "chirp.wav"], k=12)
    assert {hit.start for hit in hits[-2:]} == {2.0, 7.0}


@pytest.mark.parametrize("end", [".parquet", ".npz", ".csv"])
def test_a_table_of_several_layers_is_continued_and_searched(folder, tmp_path, end):
    out, chirp = tmp_path / f"emb{end}", folder / "chirp.wav"
    options = ["--layer", "3", "--layer", "12", "--pool", "mean+std", "--window", "1"]
    assert main(["embed", "random-tiny", str(folder / "noise.wav"), "-o", str(out), *options]) == 0
    chosen = {"layer": [3, 12], "pool": "mean+std", "window": 1.0}
    report = unheard.embed("random-tiny", [folder / "noise.wav", folder / "long.wav"], out, resume=True, **chosen)
    assert (report.embedded, report.resumed) == (1, 1)
    hits = unheard.search(out, like=chirp, k=2)
    assert {round(hit.start) for hit in hits} == {2, 7} and all(hit.path.endswith("long.wav") for hit in hits)
    with pytest.raises(ConfigError, match="--layer is 3, 12, now 12, 3"):
        unheard.embed("random-tiny", [folder], out, resume=True, **{**chosen, "layer": [12, 3]})


def test_rows_of_the_example_itself_are_left_out(folder, monkeypatch):
    monkeypatch.chdir(folder)
    hits = unheard.search("emb.parquet", like="long.wav@2-3", k=12)
    assert hits[0].start == 7.0 and len(hits) == 11
    assert {hit.start for hit in unheard.search("emb.parquet", like="long.wav@2.5-3.5", k=12)}.isdisjoint({2.0, 3.0})
    assert unheard.search("emb.parquet", like="long.wav", k=12) == []


@pytest.mark.parametrize("end", [".parquet", ".npz", ".csv"])
def test_scores_are_cosines_of_centred_vectors(tmp_path, end):
    values = np.random.default_rng(1).standard_normal((50, 8)).astype(np.float32) + 5
    table = made(tmp_path / f"made{end}", values)
    like, unlike = values[[3, 4]], values[[9]]

    def unit(each):
        return (each - values.mean(axis=0)) / np.linalg.norm(each - values.mean(axis=0), axis=-1, keepdims=True)

    query = unit(like).mean(axis=0) - unit(unlike).mean(axis=0)
    expected = unit(values) @ query / np.linalg.norm(query)
    hits = table.search(like, unlike, 50)
    assert [hit.path for hit in hits] == [f"{n}.wav" for n in np.argsort(-expected)]
    np.testing.assert_allclose([hit.score for hit in hits], np.sort(expected)[::-1], atol=2e-5)


def test_equal_rows_keep_the_order_of_the_table(tmp_path):
    values = np.tile(np.random.default_rng(2).standard_normal((7, 33)).astype(np.float32), (30, 1))
    hits = made(tmp_path / "made.npz", values).search(values[:1], values[:0], 8)
    assert [hit.path for hit in hits] == [f"{7 * n}.wav" for n in range(8)]


def test_frames_and_clips_are_left_out_by_time_and_path(tmp_path):
    values = np.eye(4, dtype=np.float32)
    frames = made(tmp_path / "made.npz", values, path=["a"] * 4, time_ms=np.array([50, 150, 250, 350], np.float32))
    assert {hit.start for hit in frames.search(values[:1], values[:0], 9, [Example("a", 0.1, 0.3)])} == {0.05, 0.35}
    clips = made(tmp_path / "clips.npz", values)
    assert {hit.path for hit in clips.search(values[:1], values[:0], 9, [Example("2.wav")])} == {
        "0.wav", "1.wav", "3.wav",
    }  # fmt: skip


def test_other_models_and_wrong_examples_are_refused(folder, tmp_path):
    table, chirp = folder / "emb.parquet", folder / "chirp.wav"
    with pytest.raises(ConfigError, match=r"was made by random-tiny with the fingerprint .*random-small has"):
        unheard.search(table, like=chirp, model="random-small")
    with pytest.raises(ConfigError, match="there is no sound file"):
        unheard.search(table, like=folder / "none.wav")
    with pytest.raises(ConfigError, match="not after its start"):
        unheard.search(table, like=f"{chirp}@2-1")
    with pytest.raises(DataError, match="no such table"):
        unheard.search(folder / "none.parquet", like=chirp)
    with pytest.raises(ConfigError, match="needs an example"):
        unheard.search(table, like=[])


def test_a_table_of_a_model_that_has_moved(folder, tmp_path):
    import shutil

    from unheard.embedding.loading import load_own
    from unheard.weights.checkpoint import Provenance, save_model

    own = load_own("random-tiny")
    save_model(tmp_path / "old", own.learner, own.config, own.statistics, Provenance())
    unheard.embed(tmp_path / "old", folder / "long.wav", tmp_path / "emb.npz", window=1.0)
    shutil.move(tmp_path / "old", tmp_path / "new")
    with pytest.raises(ConfigError, match=r"was made by .*old, which cannot be loaded; give --model"):
        unheard.search(tmp_path / "emb.npz", like=folder / "chirp.wav")
    hits = unheard.search(tmp_path / "emb.npz", like=folder / "chirp.wav", model=tmp_path / "new", k=1)
    assert hits[0].start in (2.0, 7.0)


def test_memory_does_not_grow_with_the_table(tmp_path):
    """160 MB of vectors, opened and searched within 110 MB: blocks of 20,000 rows, 32 MB each, in a few copies."""
    pytest.importorskip("resource")
    made(tmp_path / "made.parquet", np.random.default_rng(0).random((100_000, 400), np.float32), step=20_000)
    program = (
        "import resource, sys\nimport numpy as np\nfrom unheard.embedding.search import EmbeddingTable\n"
        "import pyarrow.parquet\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\nbefore = peak()\n"
        "table = EmbeddingTable(sys.argv[1])\none = np.ones((1, 400), np.float32)\n"
        "hits = table.search(one, one[:0], 5)\nprint(len(table), len(hits), peak() - before)"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "made.parquet")]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    rows, hits, grown = map(int, done.stdout.split())
    assert (rows, hits) == (100_000, 5)
    assert grown / (1024 if sys.platform == "darwin" else 1) < 110 * 1024, f"{grown} kB"


def test_a_full_disk_is_named(tmp_path, monkeypatch):
    made(tmp_path / "made.parquet", np.ones((5, 8)))

    class Full(io.RawIOBase):
        def write(self, values):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("unheard.embedding.vector_file.TemporaryFile", lambda **options: Full())
    with pytest.raises(DataError, match=r"made.parquet cannot be copied .*No space left on device"):
        EmbeddingTable(tmp_path / "made.parquet")


def test_search_from_the_command_line(folder, tmp_path, capsys):
    words = ["search", str(folder / "emb.parquet"), "--like", f"{folder / 'chirp.wav'}@0.2-0.8", "-k", "2"]
    assert main([*words, "-o", str(tmp_path / "hits.csv"), "--json"]) == 0
    hits = [Hit(**hit) for hit in json.loads(capsys.readouterr().out)["hits"]]
    assert {hit.start for hit in hits} == {2.0, 7.0} and hits[0].score >= hits[1].score
    with (tmp_path / "hits.csv").open() as file:
        assert [float(row["start"]) for row in csv.DictReader(file)] == [hit.start for hit in hits]
    assert main([*words, "-o", str(tmp_path / "hits.csv")]) == 2 and "exists" in capsys.readouterr().err
    assert main(words) == 0 and "long.wav" in capsys.readouterr().out


@pytest.mark.parametrize("options", [{}, {"processes": 2}])
def test_a_table_with_relative_paths_in_another_working_directory(tmp_path, monkeypatch, options):
    for name in "abc":
        soundfile.write(tmp_path / f"{name}.wav", clicks(1, ()), RATE)
    (tmp_path / "deep").mkdir()
    monkeypatch.chdir(tmp_path)
    files = ["a.wav", "b.wav"]
    unheard.embed("random-tiny", files, "emb.parquet", device="cpu")
    monkeypatch.chdir(tmp_path / "deep")
    hits = unheard.search("../emb.parquet", like="../a.wav")
    assert [hit.path for hit in hits] == ["b.wav"]  # not the example
    with pytest.raises(ConfigError, match=rf"are relative to {tmp_path}; give the command there: cd {tmp_path}$"):
        unheard.embed("random-tiny", ["../b.wav", "../c.wav"], "../emb.parquet", device="cpu", resume=True, **options)
    monkeypatch.chdir(tmp_path)
    report = unheard.embed("random-tiny", [*files, "c.wav"], "emb.parquet", device="cpu", resume=True)
    assert (report.rows, report.resumed) == (3, 2)


def test_an_interrupted_job_with_relative_paths_in_another_working_directory(tmp_path, monkeypatch):
    for name in "ab":
        soundfile.write(tmp_path / f"{name}.wav", clicks(1, ()), RATE)
    (tmp_path / "deep").mkdir()
    monkeypatch.chdir(tmp_path)
    model = unheard.load("random-tiny", device="cpu")
    with monkeypatch.context() as patch:
        patch.setattr(TableWriter, "finish", interrupted)
        with pytest.raises(KeyboardInterrupt):
            unheard.embed(model, ["a.wav", "b.wav"], "emb.parquet")
    monkeypatch.chdir(tmp_path / "deep")
    with pytest.raises(ConfigError, match="give the command there"):
        unheard.embed(model, ["../a.wav", "../b.wav"], "../emb.parquet", resume=True)
    monkeypatch.chdir(tmp_path)
    assert unheard.embed(model, ["a.wav", "b.wav"], "emb.parquet", resume=True).resumed == 2


def interrupted(*given):
    raise KeyboardInterrupt
