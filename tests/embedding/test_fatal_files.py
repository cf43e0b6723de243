"""Files on which the process dies are named and left out; other files that were being read are not."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile

from unheard.embedding import tables
from unheard.embedding.tables import TableWriter

JOB = """
import os, sys
from unheard.audio import decode
from unheard.embedding import tables
place = sys.argv[4]
begin = getattr(decode._Sndfile, place)
def crash(self, *given):
    if str(given[0] if place == "__init__" else self.path).endswith("2.wav"):
        os.kill(os.getpid(), 9)
    return begin(self, *given)
setattr(decode._Sndfile, place, crash)
if __name__ == "__main__":
    from unheard.embedding.bulk import embed_table
    from unheard.embedding.loading import load
    tables.PART_SECONDS = 0.0
    model = load("random-tiny")
    model.set_speed(workers=int(sys.argv[3]))
    report = embed_table(model, [sys.argv[1]], sys.argv[2], resume=True)
    print(report.skipped)
"""


@pytest.mark.parametrize("place", ["_next", "__init__"], ids=["samples", "header"])
def test_a_file_that_kills_the_process_is_named_and_skipped(tmp_path, place):
    folder, out = tmp_path / "audio", tmp_path / "emb.npz"
    folder.mkdir()
    for index in range(6):
        noise = np.random.default_rng(index).standard_normal(4000 * (index + 1)) * 0.1
        soundfile.write(folder / f"{index}.wav", noise, 16000)
    (tmp_path / "job.py").write_text(JOB)
    command = [sys.executable, str(tmp_path / "job.py"), str(folder), str(out)]
    assert subprocess.run([*command, "3", place], capture_output=True).returncode == -9
    assert subprocess.run([*command, "0", place], capture_output=True, text=True).returncode == 0
    with np.load(out) as arrays:
        assert sorted(Path(path).name for path in arrays["path"]) == [f"{number}.wav" for number in (0, 1, 3, 4, 5)]


PARTS = """
import json, os, pathlib, sys, time
import pyarrow.parquet as pq
from unheard.audio import decode
from unheard.embedding import segments, tables
from unheard.embedding.bulk import embed_segments_table, embed_table
from unheard.embedding.job import Options
kind, folder, out, second = *sys.argv[1:4], float(sys.argv[4])
parts = tables.parts_folder(pathlib.Path(out))
begin = decode._Sndfile._next
def stored():
    try:
        names = json.loads((parts / "manifest.json").read_text())["files"]
        return any(path.endswith("1.wav") for name in names for path in pq.read_table(parts / name)["path"].to_pylist())
    except FileNotFoundError:
        return False
def crash(self, count):
    if str(self.path).endswith("1.wav") and self.came >= 16000 * second:
        time.sleep(0.5)
        while sys.argv[5] == "stored" and not stored():
            time.sleep(0.05)
        os.kill(os.getpid(), 9)
    return begin(self, count)
decode._Sndfile._next = crash
if __name__ == "__main__":
    from unheard.embedding.loading import load
    tables.PART_SECONDS, segments.PENDING = 0.0, 1
    model = load("random-tiny")
    model.set_speed(workers=3, batch_size=2)
    if kind == "segments":
        report = embed_segments_table(model, folder + "/parts.csv", out, resume=True)
    else:
        report = embed_table(model, [folder], out, Options(frames=False, window=2.0), resume=True)
    print([os.path.basename(path) for path, _ in report.skipped], report.rows)
"""


@pytest.mark.parametrize(
    ("kind", "second", "before"),
    [("windows", 30, "none"), ("windows", 60, "stored"), ("segments", 0, "none"), ("segments", 2, "stored")],
)
def test_a_file_of_many_rows_that_kills_the_process_is_found(tmp_path, kind, second, before):
    """Before it dies, no row of the file is stored, or some are; those are kept."""
    folder, out = tmp_path / "audio", tmp_path / "emb.parquet"
    folder.mkdir()
    for index in range(4):
        noise = np.random.default_rng(index).standard_normal(16000 * (70 if index == 1 else 4)) * 0.1
        soundfile.write(folder / f"{index}.wav", noise, 16000)
    rows = [f"{index}.wav,{start},{start + 1}" for start in range(3) for index in range(4)]
    (folder / "parts.csv").write_text("path,start,end\n" + "\n".join(rows) + "\n")
    (tmp_path / "job.py").write_text(PARTS)
    command = [sys.executable, str(tmp_path / "job.py"), kind, str(folder), str(out), str(second), before]
    assert subprocess.run(command, capture_output=True, timeout=120).returncode == -9
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("['1.wav']")
    names = [Path(path).name for path in pq.read_table(out)["path"].to_pylist()]
    each = 2 if kind == "windows" else 3
    assert {name: names.count(name) for name in ("0.wav", "2.wav", "3.wav")} == dict.fromkeys(
        ("0.wav", "2.wav", "3.wav"), each
    )
    assert ("1.wav" in names) == (before == "stored")


def test_two_deaths_while_parts_of_a_good_file_are_read_do_not_leave_it_out(tmp_path):
    out, path = tmp_path / "emb.parquet", str(tmp_path / "long.wav")
    soundfile.write(path, np.full(16000, 0.1), 16000)
    for number in range(3):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(TableWriter, "__exit__", lambda self, *_: self._lock.__exit__(None, None, None))
            with TableWriter(out, {"segments": None, "window": 1.0}, 2, resume=True) as table:  # killed at the end
                assert table.fatal(16000) == {}
                for _ in range(4):
                    table.begin(path, together=5)
                table.add(path, np.zeros(2), start=float(number), end=number + 1.0)
                table._flush()


def test_only_the_latest_files_are_suspects_and_they_come_first(tmp_path):
    out, paths = tmp_path / "emb.npz", [str(tmp_path / f"{number}.wav") for number in range(5)]
    for path in paths:
        soundfile.write(path, np.full(1600, 0.1), 16000)
    writer = TableWriter(out, {}, 2)
    writer.__enter__()
    writer.add(paths[0], np.zeros(2), seconds=0.1)
    for path in paths[:4]:
        writer.begin(path, together=3)
    writer._flush()
    writer._lock.__exit__(None, None, None)  # the process dies here
    with TableWriter(out, {}, 2, resume=True) as again:
        assert again.suspects() == {*paths[1:4]}
        assert again.fatal(16000) == {}


@pytest.mark.parametrize("written", [False, True])
def test_an_interrupt_while_a_part_is_written_doubles_no_row(tmp_path, monkeypatch, written):
    out, plain, calls = tmp_path / "table.parquet", tables.write_json, []

    def interrupted(*given):
        calls.append(given)
        if written or len(calls) > 1:
            plain(*given)
        if len(calls) == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(tables, "write_json", interrupted)
    monkeypatch.setattr(tables, "PART_SECONDS", 0.0)
    with pytest.raises(KeyboardInterrupt), TableWriter(out, {}, 2) as table:
        table.add("a.wav", np.ones(2, np.float32))
    with TableWriter(out, {}, 2, resume=True) as again:
        assert len(again.done()) == 1
        assert again.finish() == 1
