"""Tables with one row a window or a segment of a recording."""

import csv
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile

import unheard
from unheard.audio.waveform import read
from unheard.cli import main
from unheard.embedding import segments, tables
from unheard.embedding.bulk import embed_segments_table, embed_table
from unheard.embedding.job import Options
from unheard.embedding.loading import load
from unheard.embedding.segments import cut_file
from unheard.errors import AudioWarning, ConfigError, DataError


@pytest.fixture(scope="module")
def model():
    return load("random-tiny")


@pytest.fixture
def folder(tmp_path):
    place, rng = tmp_path / "audio", np.random.default_rng(0)
    place.mkdir()
    for name, rate, seconds in (("a", 16000, 7.5), ("b", 44100, 4.0), ("c", 22050, 0.3)):
        soundfile.write(place / f"{name}.wav", 0.1 * rng.standard_normal(round(rate * seconds)), rate)
    return place


def rows(path):
    table = pq.read_table(path)
    assert table.column_names == ["path", "start", "end", "embedding"]
    times = list(zip(*(table[name].to_pylist() for name in ("path", "start", "end")), strict=True))
    return times, np.array(table["embedding"].to_pylist(), np.float32)


def test_one_row_a_window_with_the_times_of_the_file(model, folder, tmp_path):
    report = unheard.embed(model, folder, tmp_path / "emb.parquet", window=3.0, hop=1.5)
    times, vectors = rows(tmp_path / "emb.parquet")
    expected = {"a": [(0, 3), (1.5, 4.5), (3, 6), (4.5, 7.5)], "b": [(0, 3), (1.5, 4)], "c": [(0, 0.3)]}
    assert times == [(str(folder / f"{name}.wav"), *each) for name in "abc" for each in expected[name]]
    assert (report.rows, report.embedded) == (7, 3)
    for (path, start, end), vector in zip(times, vectors, strict=True):  # the last ones: the mean over real frames
        wav, rate = read(path, 16000, start=start, seconds=end - start)
        np.testing.assert_allclose(vector, model.embed((wav, rate)).scene, atol=2e-2 if "b.wav" in path else 1e-5)


@pytest.mark.parametrize(("window", "hop"), [(0.5, 0.5), (0.5, 0.13), (0.4, 1.1), (9.0, 2.0)])
def test_windows_read_in_blocks_equal_those_of_the_whole_file(folder, monkeypatch, window, hop):
    whole = list(cut_file(str(folder / "a.wav"), 16000, window, hop))
    stream = segments.stream
    monkeypatch.setattr(segments, "stream", lambda path, rate: stream(path, rate, block_seconds=0.17))
    blocks = list(cut_file(str(folder / "a.wav"), 16000, window, hop))
    wav, _ = read(folder / "a.wav", 16000)
    assert len(whole) == len(blocks)
    for number, (one, two) in enumerate(zip(whole, blocks, strict=True)):
        begin = round(number * hop * 16000)
        assert (one.start, one.end) == (two.start, two.end) and one.start == pytest.approx(number * hop)
        np.testing.assert_array_equal(one.sound[0], two.sound[0])
        np.testing.assert_array_equal(one.sound[0], wav[begin : begin + round(window * 16000)])
    assert hop > window or whole[-1].end == 7.5


def test_a_rest_of_the_resampler_is_no_window(tmp_path):
    soundfile.write(tmp_path / "six.wav", np.full(132301, 0.1), 22050)  # 96,001 samples at 16 kHz
    assert [(each.start, each.end) for each in cut_file(str(tmp_path / "six.wav"), 16000, 3.0, 3.0)] == [(0, 3), (3, 6)]


@pytest.mark.parametrize("end", [".parquet", ".npz", ".csv"])
def test_a_job_that_stops_inside_a_recording_continues_there(model, folder, tmp_path, end, monkeypatch):
    options = Options(frames=False, window=0.5, hop=0.25)
    embed_table(model, [folder], tmp_path / f"whole{end}", options)
    monkeypatch.setattr(tables, "PART_VALUES", 1000)
    monkeypatch.setattr(segments, "PENDING", 1)
    monkeypatch.setattr(model, "batch_size", 4)
    monkeypatch.setattr(model, "workers", 0)
    cut, stopping = cut_file, [True]

    def stop(path, *rest):
        for number, segment in enumerate(cut(path, *rest)):
            if stopping and path.endswith("b.wav") and number == 9:
                raise KeyboardInterrupt
            yield segment

    monkeypatch.setattr("unheard.embedding.segments.cut_file", stop)
    with pytest.raises(KeyboardInterrupt):
        embed_table(model, [folder], tmp_path / f"emb{end}", options)
    stopping.clear()
    soundfile.write(folder / "0.wav", np.full(4000, 0.1), 16000)  # a new file before the unfinished one
    report = embed_table(model, [folder], tmp_path / f"emb{end}", options, resume=True)
    assert report.resumed == 1 and report.embedded == 3
    found, whole = (
        {(path, start, stop_): vector for block in tables.read_blocks(tmp_path / f"{name}{end}")
         for path, start, stop_, vector in zip(
             *(block[each].to_pylist() for each in ("path", "start", "end", "embedding")), strict=True)}
        for name in ("emb", "whole")
    )  # fmt: skip
    assert len(found) == report.rows == len(whole) + 1
    for key, vector in whole.items():
        np.testing.assert_allclose(found[key], vector, atol=1e-5)
    with pytest.raises(ConfigError, match="hop is 0.25, now 0.5"):
        embed_table(model, [folder], tmp_path / f"emb{end}", Options(frames=False, window=0.5), resume=True)
    with pytest.raises(ConfigError, match="window is 0.5, now None"):
        embed_table(model, [folder], tmp_path / f"emb{end}", resume=True)


def test_a_file_with_bad_samples_keeps_its_rows_before_them(model, tmp_path, monkeypatch):
    wav = np.full(32000, 0.1, np.float32)
    wav[30000] = np.nan
    soundfile.write(tmp_path / "bad.wav", wav, 16000, subtype="FLOAT")
    stream = segments.stream
    monkeypatch.setattr(segments, "stream", lambda path, rate: stream(path, rate, block_seconds=0.5))
    report = unheard.embed(model, tmp_path / "bad.wav", tmp_path / "emb.parquet", window=0.5)
    assert [each[1:] for each in rows(tmp_path / "emb.parquet")[0]] == [(0, 0.5), (0.5, 1), (1, 1.5)]
    assert "not finite" in report.skipped[0][1] and "rows up to 1.5 s are kept" in report.skipped[0][1]


def test_segments_of_a_table(model, folder, tmp_path):
    (folder / "parts.csv").write_text("path,start,end,label\nb.wav,1,2.5,x\na.wav,,0.5,y\na.wav,7,,z\na.wav,7,,again\n")
    report = unheard.embed(model, None, tmp_path / "emb.parquet", segments=folder / "parts.csv")
    times, vectors = rows(tmp_path / "emb.parquet")
    assert times == [(str(folder / n), s, e) for n, s, e in (("b.wav", 1, 2.5), ("a.wav", 0, 0.5), ("a.wav", 7, 7.5))]
    np.testing.assert_allclose(vectors[0], model.embed(read(folder / "b.wav", 16000, start=1, seconds=1.5)).scene)
    assert (report.rows, report.embedded) == (3, 3)
    with (folder / "parts.csv").open("a") as file:
        file.write("c.wav,0,0.2,x\nc.wav,8,9,x\n")
    report = embed_segments_table(model, folder / "parts.csv", tmp_path / "emb.parquet", resume=True)
    assert (report.rows, report.embedded, report.resumed) == (4, 1, 3)
    assert "starts at 8 s" in report.skipped[0][1]
    with pytest.raises(ConfigError, match="segments is True, now None"):
        embed_table(model, [folder], tmp_path / "emb.parquet", resume=True)


def test_a_row_to_the_end_is_not_the_stored_one_of_the_same_start(model, folder, tmp_path):
    (folder / "parts.csv").write_text("path,start,end\na.wav,0,1\n")
    out, whole = tmp_path / "emb.parquet", [(0, 1), (0, 7.5)]
    embed_segments_table(model, folder / "parts.csv", out)
    (folder / "parts.csv").write_text("path,start,end\na.wav,,\na.wav,0,1\n")
    assert embed_segments_table(model, folder / "parts.csv", out, resume=True).embedded == 1
    assert [each[1:] for each in rows(out)[0]] == whole
    assert embed_segments_table(model, folder / "parts.csv", out, resume=True).embedded == 0
    (folder / "parts.csv").write_text("path,start,end\na.wav,,\na.wav,0,7.5\na.wav,0,1\n")
    assert embed_segments_table(model, folder / "parts.csv", out, resume=True).embedded == 1
    assert [each[1:] for each in rows(out)[0]] == [*whole, (0, 7.5)]


def test_wrong_windows_and_segments_are_refused(model, folder, tmp_path):
    for wrong in ({"window": 0.0}, {"window": 1.0, "hop": -1.0}, {"window": float("nan")}):
        with pytest.raises(ConfigError, match="must be at least 0.01 seconds"):
            unheard.embed(model, folder, tmp_path / "emb.parquet", **wrong)
    with pytest.raises(ConfigError, match="leave frames and pool none out"):
        unheard.embed(model, folder, tmp_path / "emb.parquet", frames=True, window=1.0)
    (folder / "parts.csv").write_text("path,start,end\nnone.wav,0,1\n")
    with pytest.raises(DataError, match=r"do not exist, the first none\.wav"):
        unheard.embed(model, None, tmp_path / "emb.parquet", segments=folder / "parts.csv")
    with pytest.raises(ConfigError, match="and not both"):
        unheard.embed(model, folder, tmp_path / "emb.parquet", segments=folder / "parts.csv")
    assert not (tmp_path / "emb.parquet").exists()


def test_windows_and_segments_from_the_command_line(folder, tmp_path, capsys):
    common = ["random-tiny", "-o", str(tmp_path / "emb.csv")]
    assert main(["embed", *common, str(folder), "--window", "3", "--hop", "1.5"]) == 0
    with (tmp_path / "emb.csv").open() as file:
        assert next(csv.reader(file))[:4] == ["path", "start", "end", "e0"]
    (folder / "parts.csv").write_text("path,start,end\na.wav,0,1\n")
    assert main(["embed", *common, "--segments", str(folder / "parts.csv"), "--overwrite"]) == 0
    assert "1 segments embedded" in capsys.readouterr().out
    assert main(["embed", *common, "--overwrite"]) == 2 and "not both" in capsys.readouterr().err


def test_windows_with_an_encoder_of_others(hf_model, folder, tmp_path):
    report = unheard.embed(f"hf:{hf_model('wav2vec2')}", folder / "a.wav", tmp_path / "emb.parquet", window=3.0)
    assert report.rows == 3 and [each[1:] for each in rows(tmp_path / "emb.parquet")[0]] == [(0, 3), (3, 6), (6, 7.5)]


@pytest.mark.parametrize("kind", ["windows", "segments"])
def test_files_are_read_at_the_same_time_and_the_table_does_not_depend_on_workers(model, tmp_path, monkeypatch, kind):
    rng = np.random.default_rng(0)
    for name in "abcdef":
        soundfile.write(tmp_path / f"{name}.wav", rng.standard_normal(16000) * 0.1, 16000)
    (tmp_path / "bad.wav").write_bytes(b"RIFF")
    (tmp_path / "parts.csv").write_text("path,start,end\n" + "".join(f"{name}.wav,0.1,0.7\n" for name in "abcdef"))
    name = {"windows": "cut_file", "segments": "load_segment"}[kind]
    original, open_files, most = getattr(segments, name), [0], [0]

    def slow(*given):
        open_files[0] += 1
        most[0] = max(most[0], open_files[0])
        late = time.monotonic() + 5
        while most[0] < model.workers and time.monotonic() < late:
            time.sleep(0.01)
        open_files[0] -= 1
        return original(*given)

    def windows(*given):
        yield from slow(*given)

    place = "unheard.embedding.segments.cut_file" if kind == "windows" else "unheard.embedding.bulk.load_segment"
    monkeypatch.setattr(place, windows if kind == "windows" else slow)
    found = []
    for workers in (0, 3):
        monkeypatch.setattr(model, "workers", workers)
        most[0], out = 0, tmp_path / f"{workers}.parquet"
        if kind == "windows":
            report = embed_table(model, [tmp_path], out, Options(frames=False, window=0.4))
            assert [Path(path).name for path, _ in report.skipped] == ["bad.wav"]
        else:
            report = embed_segments_table(model, tmp_path / "parts.csv", out)
        assert report.rows == (18 if kind == "windows" else 6) and most[0] == max(1, workers)
        found.append(rows(out))
    assert found[0][0] == found[1][0]
    np.testing.assert_allclose(found[0][1], found[1][1], atol=1e-5)


def test_a_segment_that_ends_after_its_file_is_named(model, folder, tmp_path):
    (folder / "parts.csv").write_text("path,start,end\nb.wav,1,4.04\nb.wav,1,400\n")  # 0.04 s are rounding
    with pytest.warns(AudioWarning, match=r"b.wav: a segment ends at 400 s, but the file lasts 4.000 s") as found:
        embed_segments_table(model, folder / "parts.csv", tmp_path / "parts.csv")
    assert len(found) == 1
    with pytest.warns(AudioWarning, match="the example ends at 400 s, but the file lasts 4.000 s"):
        unheard.search(
            tmp_path / "parts.csv", f"{folder / 'a.wav'}@0-1", unlike=f"{folder / 'b.wav'}@1-400", model=model
        )
