"""Files on which the process dies are named and left out; other files that were being read are not."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from unheard.embedding import tables
from unheard.embedding.tables import TableWriter

JOB = """
import os, sys
from unheard.audio import decode
from unheard.embedding import tables
begin = decode._Sndfile._next
def crash(self, count):
    if str(self.path).endswith("2.wav"):
        os.kill(os.getpid(), 9)
    return begin(self, count)
decode._Sndfile._next = crash
if __name__ == "__main__":
    from unheard.embedding.bulk import embed_table
    from unheard.embedding.loading import load
    tables.PART_SECONDS = 0.0
    model = load("random-tiny")
    model.set_speed(workers=int(sys.argv[3]))
    report = embed_table(model, [sys.argv[1]], sys.argv[2], resume=True)
    print(report.skipped)
"""


def test_a_file_that_kills_the_process_is_named_and_skipped(tmp_path):
    folder, out = tmp_path / "audio", tmp_path / "emb.npz"
    folder.mkdir()
    for index in range(6):
        noise = np.random.default_rng(index).standard_normal(4000 * (index + 1)) * 0.1
        soundfile.write(folder / f"{index}.wav", noise, 16000)
    (tmp_path / "job.py").write_text(JOB)
    command = [sys.executable, str(tmp_path / "job.py"), str(folder), str(out), "3"]
    assert subprocess.run(command, capture_output=True).returncode == -9
    assert subprocess.run([*command[:-1], "0"], capture_output=True, text=True).returncode == 0
    with np.load(out) as arrays:
        assert sorted(Path(path).name for path in arrays["path"]) == [f"{number}.wav" for number in (0, 1, 3, 4, 5)]


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
