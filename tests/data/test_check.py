"""A check of a folder with one file for every kind of finding."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from unheard.data import check as module
from unheard.data.check import check
from unheard.errors import DataError

RATE = 16000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("trouble")
    time = np.arange(RATE) / RATE
    sine = 0.5 * np.sin(2 * np.pi * 440 * time)
    soundfile.write(root / "good.wav", (32767 * sine).astype(np.int16), RATE)
    soundfile.write(
        root / "loud.wav", sine / np.abs(sine).max() * 0.999, RATE
    )  # touches full scale, but is not cut off
    soundfile.write(root / "same.flac", (32767 * sine).astype(np.int16), RATE)
    soundfile.write(root / "clipped.wav", np.clip(4 * sine, -1, 1), RATE)
    soundfile.write(root / "silent.ogg", np.zeros(RATE), RATE)
    soundfile.write(root / "empty.wav", np.zeros(0), RATE)
    soundfile.write(root / "short.wav", sine[:400], RATE)
    soundfile.write(root / "offset.wav", 0.3 * sine + 0.2, RATE)
    soundfile.write(root / "many.wav", np.stack([sine * gain for gain in (0.1, 0.2, 0.3, 0.4)], axis=1), RATE)
    soundfile.write(root / "fast.wav", 0.9 * sine, 384000)
    soundfile.write(root / "nan.wav", np.full(100, np.nan, np.float32), RATE, subtype="FLOAT")
    (root / "nothing.wav").touch()
    (root / "text.mp3").write_text("these are words")
    (root / "notes.txt").write_text("not looked at")
    soundfile.write(root / "cut.flac", np.random.default_rng(0).uniform(-0.5, 0.5, RATE), RATE)
    (root / "cut.flac").write_bytes((root / "cut.flac").read_bytes()[:9000])
    return root


def test_finds_each_trouble_in_its_file(folder: Path) -> None:
    found = {kind: set(paths) for kind, paths in check(folder).findings.items()}
    assert found["unreadable"] == {"text.mp3", "nan.wav"}
    assert found["cut"] == {"cut.flac"}
    assert found["empty"] == {"empty.wav", "nothing.wav"}
    assert found["silent"] == {"silent.ogg"}
    assert found["clipped"] == {"clipped.wav"}
    assert found["duplicate"] == {"same.flac"}
    assert found["odd"] == {"short.wav", "offset.wav", "many.wav", "fast.wav"}


def test_says_what_exactly_and_totals(folder: Path) -> None:
    report = check(folder)
    assert report.findings["odd"]["many.wav"] == "4 channels"
    assert report.findings["odd"]["short.wav"] == "only 25 ms long"
    assert report.findings["duplicate"]["same.flac"] == "same samples as good.wav"
    assert report.files == 14
    assert report.channels[4] == 1
    assert report.rates[384000] == 1
    assert report.hours == pytest.approx(8 / 3600, rel=0.2)
    assert not report.clean
    json.dumps(report.to_json())
    lines = report.lines()
    assert any("many.wav: 4 channels" in line for line in lines)
    assert "4 odd" in lines[-1]


def test_blocks_do_not_change_the_findings(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = check(folder, workers=1)
    monkeypatch.setattr(module, "BLOCK", 1000)
    assert check(folder, workers=3) == whole


def test_a_clean_folder_and_a_list_of_files(folder: Path, tmp_path: Path) -> None:
    assert check([folder / "good.wav"]).clean
    assert check(tmp_path).files == 0


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file or folder"):
        check(tmp_path / "nowhere")


def test_the_sound_that_models_get_is_checked(tmp_path: Path) -> None:
    time = np.arange(2 * RATE) / RATE
    tone = 0.5 * np.sin(2 * np.pi * 440 * time)
    soundfile.write(tmp_path / "antiphase.wav", np.stack([tone, -tone], 1), RATE)
    soundfile.write(tmp_path / "short.wav", tone[:20], RATE)
    for hertz in (30, 40, 55, 100, 440, 2000):
        soundfile.write(tmp_path / f"full_{hertz}.wav", np.sin(2 * np.pi * hertz * time), RATE, "PCM_16")
        soundfile.write(
            tmp_path / f"cut_off_{hertz}.wav", np.clip(1.5 * np.sin(2 * np.pi * hertz * time), -1, 1), RATE, "PCM_16"
        )
    found = {kind: set(paths) for kind, paths in check(tmp_path).findings.items()}
    assert "antiphase.wav" in found["silent"]
    assert (
        not found["silent"] & {f"full_{hertz}.wav" for hertz in (55, 100, 440, 2000)}
        and "short.wav" not in found["silent"]
    )
    assert found["clipped"] == {f"cut_off_{hertz}.wav" for hertz in (30, 40, 55, 100, 440, 2000)}
    assert "channels cancel" in check(tmp_path).findings["silent"]["antiphase.wav"]


def test_sound_in_the_last_moment_is_no_silence_and_floats_above_full_scale_are_named(tmp_path: Path) -> None:
    late = np.zeros(2 * RATE + 2000)
    late[-1800:] = 0.5 * np.sin(np.arange(1800) * 0.3)
    soundfile.write(tmp_path / "late.wav", late, RATE)
    soundfile.write(tmp_path / "loud.wav", 1.5 * np.sin(np.arange(RATE) * 0.3), RATE, subtype="FLOAT")
    found = check(tmp_path).findings
    assert not found["silent"] and found["odd"] == {"loud.wav": "peak of 1.5 times full scale"}


def test_a_single_file_is_checked(folder: Path) -> None:
    report = check(folder / "clipped.wav")
    assert report.files == 1 and set(report.findings["clipped"]) == {"clipped.wav"}
