"""Packed clips that runs share: found while the files are the same, packed once by two runs that begin together."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile

from unheard.audio.frontend import MATPAC, MSM_MAE_16K
from unheard.data.label_table import read_labels
from unheard.data.open_store import Cache
from unheard.finetuning import clips
from unheard.finetuning import shared_corpus as shared
from unheard.finetuning.clips import PackedLabelledClips, open_sounds
from unheard.outputs import LOCK, locked_folder

HOLD = """
import sys, time
from pathlib import Path
from unheard.outputs import locked_folder
with locked_folder(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def table(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for number in range(6):
        soundfile.write(tmp_path / f"{number}.wav", rng.normal(0, 0.1, (3000 + 500 * number, 2)), 16000)
    (tmp_path / "broken.wav").write_bytes(b"no sound")
    rows = [f"{number}.wav,{'ab'[number % 2]},,," for number in range(6)]
    write(tmp_path / "labels.csv", [*rows, "0.wav,a,0.05,0.15,", "broken.wav,b,,,"])
    return tmp_path / "labels.csv"


def write(file: Path, rows: list[str]) -> Path:
    file.write_text("\n".join(["path,label,start,end,split", *rows]) + "\n")
    return file


def opened(
    table: Path, place: Path | None, lines: list[str] | None = None, channel: str = "mix", matpac: bool = False
) -> PackedLabelledClips:
    log = (lines if lines is not None else []).append
    return open_sounds(
        read_labels(table),
        MATPAC if matpac else MSM_MAE_16K,
        channel,
        Cache(table.parent / "own"),
        shared=place,
        log=log,  # type: ignore[arg-type]
    )


def corpora(place: Path) -> list[str]:
    return sorted(folder.name for folder in place.iterdir())


def test_a_second_run_finds_what_the_first_packed(table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place, lines = tmp_path / "shared", list[str]()
    own, first = opened(table, None), opened(table, place, lines)
    assert len(corpora(place)) == 1 and lines == [] and not (tmp_path / "own").exists()
    monkeypatch.setattr(clips, "scan_files", lambda *_: pytest.fail("headers are read again"))
    write(
        table,
        [
            line.replace(",a,", ",b,", 1) if line.startswith("4") else line
            for line in table.read_text().splitlines()[1:]
        ],
    )
    second = opened(table, place, lines)
    assert len(lines) == 1 and "uses the packed clips in" in lines[0] and len(corpora(place)) == 1
    assert second.store.fingerprint == first.store.fingerprint == own.store.fingerprint
    for one in (first, second):
        assert np.array_equal(one.rows, own.rows) and len(one.rows) == 7 and len(one.store.skipped) == 1
        for clip in range(7):
            assert np.array_equal(one.store.samples(clip), own.store.samples(clip))
    assert first.target[4].tolist() == [1, 0] and second.target[4].tolist() == [0, 1]


def test_other_files_parts_channels_and_front_ends_are_packed_again(table: Path, tmp_path: Path) -> None:
    place, rows = tmp_path / "shared", table.read_text().splitlines()[1:]
    opened(table, place)
    opened(table, place, channel="left")
    opened(table, place, matpac=True)
    assert len(corpora(place)) == 3
    opened(write(table, [*rows[:6], "0.wav,a,0.05,0.16,", rows[7]]), place)
    opened(write(table, rows[1:]), place)
    assert len(corpora(place)) == 5
    before = opened(write(table, rows), place)
    state = (tmp_path / "3.wav").stat()
    soundfile.write(tmp_path / "3.wav", np.random.default_rng(9).normal(0, 0.1, (4500, 2)), 16000)
    os.utime(tmp_path / "3.wav", ns=(state.st_atime_ns, state.st_mtime_ns + 1))
    assert (tmp_path / "3.wav").stat().st_size == state.st_size
    after = opened(table, place)
    assert len(corpora(place)) == 6 and before.store.fingerprint != after.store.fingerprint


def test_a_run_waits_for_another_one_that_packs_the_same(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared, "POLL_SECONDS", 0.05)
    place, lines = tmp_path / "shared", list[str]()
    folder = shared.shared_folder(place, read_labels(table), clips.PackConfig(MSM_MAE_16K, "int16"))
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None and other.stdin is not None and other.stdout.readline() == "held\n"
        release = threading.Timer(1.0, other.stdin.close)
        release.start()
        found = opened(table, place, lines)
        release.join()
    assert len(found.rows) == 7 and len(lines) == 1 and f"is being written by process {other.pid}" in lines[0]
    assert not (folder / LOCK).exists()


def test_what_another_run_packed_meanwhile_is_not_packed_again(table: Path, tmp_path: Path) -> None:
    place = tmp_path / "shared"
    first = opened(table, place)
    folder = place / corpora(place)[0]
    times = {file: file.stat().st_mtime_ns for file in folder.iterdir()}
    corpus = clips._corpus(read_labels(table), lambda items, *_: items)  # type: ignore[arg-type]
    again = shared.pack_shared(corpus, clips.PackConfig(MSM_MAE_16K, "int16"), folder)
    assert again.fingerprint == first.store.fingerprint and times == {
        file: file.stat().st_mtime_ns for file in folder.iterdir()
    }
    with locked_folder(folder):  # whoever reads needs no lock
        assert opened(table, place).store.fingerprint == first.store.fingerprint
