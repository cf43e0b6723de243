"""Sounds in the rows of an HDF5 file: the samples of the files, and clear errors."""

from __future__ import annotations

import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import soundfile

from unheard.audio.folders import find_sounds
from unheard.audio.waveform import read
from unheard.cli import main
from unheard.errors import AudioError, AudioWarning, UnheardError


@pytest.fixture
def sounds(tmp_path: Path) -> list[Path]:
    folder = tmp_path / "sounds"
    folder.mkdir()
    paths = [folder / f"{number}.{end}" for number, end in enumerate(("mp3", "mp3", "flac"))]
    for seed, path in enumerate(paths):
        soundfile.write(path, 0.1 * np.random.default_rng(seed).standard_normal(16000), 16000)
    return paths


def packed(file: Path, sounds: list[Path], dataset: str = "mp3", names: list[str] | None = None) -> Path:
    """An HDF5 file as MaskSpec's scripts write it."""
    with h5py.File(file, "a") as out:
        rows = out.create_dataset(dataset, (len(sounds),), h5py.vlen_dtype("uint8"))
        for row, path in enumerate(sounds):
            rows[row] = np.frombuffer(path.read_bytes(), np.uint8)
        if names is not None:
            out.create_dataset("audio_name", data=np.array(names, "S32"))
            out.create_dataset("target", data=np.zeros((len(sounds), 66), np.uint8))
    return file


def test_rows_are_the_files(sounds: list[Path], tmp_path: Path) -> None:
    file = packed(tmp_path / "a.h5", sounds, names=["Yone.mp3", "folder/Ytwo", "Ythree.flac"])
    members = find_sounds(file)
    assert [path.relative_to(file).as_posix() for path in members] == ["0/Yone.mp3", "1/Ytwo.mp3", "2/Ythree.flac"]
    for member, path in zip(members, sounds, strict=True):
        ours, rate = read(member)
        wanted, its_rate = read(path)
        np.testing.assert_array_equal(ours, wanted)
        assert rate == its_rate


def test_the_table_of_an_archive_has_the_vectors_of_the_files(sounds: list[Path], tmp_path: Path) -> None:
    packed(tmp_path / "b.hdf5", sounds)
    tables = []
    (tmp_path / "b.hdf5").rename(tmp_path / "b.hdf")  # the suffix of the files of PaSST
    for number, source in enumerate((tmp_path / "b.hdf", sounds[0].parent)):
        out = tmp_path / f"{number}.npz"
        assert main(["embed", "random-tiny", str(source), "-o", str(out)]) == 0
        tables.append(np.load(out))
    np.testing.assert_array_equal(tables[0]["embedding"], tables[1]["embedding"])


def test_what_cannot_be_read_is_named(sounds: list[Path], tmp_path: Path) -> None:
    whole = packed(tmp_path / "whole.h5", sounds)
    torn = tmp_path / "torn.h5"
    torn.write_bytes(whole.read_bytes()[:-5000])
    with pytest.raises(AudioError, match="cannot be read as an HDF5 file"):
        read(find_sounds(torn)[-1])
    with pytest.raises(AudioError, match=r"whole\.h5/7: no such file in the archive"):
        read(whole / "7")
    two = packed(packed(tmp_path / "two.h5", sounds, "first"), sounds, "second")
    with pytest.raises(AudioError, match="its datasets first, second hold bytes, and none is called mp3 or"):
        read(find_sounds(two)[-1])
    with h5py.File(tmp_path / "weights.h5", "w") as other:
        other.create_dataset("kernel", data=np.zeros((3, 3)))
        other["gone"] = h5py.SoftLink("/nothing")
    assert find_sounds(tmp_path / "weights.h5") == []


@pytest.mark.parametrize("kind", ["int16", "float32"])
def test_rows_of_samples_are_wav_files(kind: str, tmp_path: Path) -> None:
    """An HDF5 file as PANNs' scripts write it; the name of a file from which samples are is kept without its suffix."""
    values = np.random.default_rng(0).uniform(-0.5, 0.5, (3, 800))
    stored = (values * 32768).astype("int16") if kind == "int16" else values.astype("float32")
    with h5py.File(tmp_path / "a.h5", "w") as out:
        out.create_dataset("waveform", data=stored)
        out.create_dataset("audio_name", data=np.array(["Yone.wav", "Ytwo.mp3", "Ythree"], "S11"))
    with pytest.raises(AudioError, match=r"a\.h5: .*its dataset waveform has no attribute sample_rate with a rate"):
        read(find_sounds(tmp_path / "a.h5")[0])
    with h5py.File(tmp_path / "a.h5", "a") as out:
        out.attrs["sample_rate"] = np.int32(32000)
    members = find_sounds(tmp_path / "a.h5")
    assert [path.parent.name + "/" + path.name for path in members] == ["0/Yone.wav", "1/Ytwo.wav", "2/Ythree.wav"]
    for row, member in enumerate(members):
        ours, rate = read(member)
        assert rate == 32000
        np.testing.assert_array_equal(ours, stored[row] / np.float32(32768 if kind == "int16" else 1))


def test_names_that_are_not_a_list_are_left_out(sounds: list[Path], tmp_path: Path) -> None:
    file = packed(tmp_path / "d.h5", sounds)
    with h5py.File(file, "a") as other:
        other.create_group("audio_name")
    assert [path.name for path in find_sounds(file)] == ["0", "1", "2"]


def test_without_the_package_the_extra_is_named(
    sounds: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = packed(tmp_path / "c.h5", sounds)
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.warns(AudioWarning, match=r"c\.h5: .*unheard\[hdf5\]"):
        assert find_sounds(file) == []
    with pytest.raises(UnheardError, match="hdf5"):
        read(file / "0")
