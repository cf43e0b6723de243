"""Sounds in archives: the same samples as from files, in every format, and paths that name them."""

from __future__ import annotations

import subprocess
import tarfile
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile

from unheard.audio.archives.members import byte_size, file_state, is_sound_file, open_bytes
from unheard.audio.decode import av_installed
from unheard.audio.folders import find_sounds, missing_files
from unheard.audio.waveform import info, read
from unheard.errors import AudioError, AudioWarning, DataError

RATE = 22050
SOUND = (0.3 * np.sin(np.arange(RATE) * 0.2) + 0.05 * np.random.default_rng(0).standard_normal(RATE)).astype(np.float32)
FORMATS = ("wav", "flac", "ogg", "opus", "mp3", "aiff", "au", "w64", "caf")


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a sound in every format, and with files that need a correction."""
    folder = tmp_path_factory.mktemp("sounds")
    for end in FORMATS:
        kind = {"opus": ("OGG", "OPUS")}.get(end, (end.upper(), None))
        wav, rate = (SOUND, RATE) if end != "opus" else (SOUND, 24000)
        soundfile.write(folder / f"{end}.{end}", np.stack([wav, -0.5 * wav], 1), rate, kind[1], format=kind[0])
    wav = (folder / "wav.wav").read_bytes()
    (folder / "open.wav").write_bytes(wav[:4] + b"\xff" * 4 + wav[8:40] + b"\xff" * 4 + wav[44:])
    for name in ("flac.flac", "ogg.ogg", "mp3.mp3", "wav.wav"):
        (folder / f"cut-{name}").write_bytes((folder / name).read_bytes()[:-3000])
    (folder / "bad.mp3").write_text("no sound")
    (folder / "empty.wav").touch()
    make = [imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error", "-i", folder / "wav.wav"]
    subprocess.run([*make, "-q:a", "5", "-write_xing", "0", folder / "variable.mp3"], check=True)
    if av_installed():
        subprocess.run([*make, folder / "aac.m4a"], check=True)
    return folder


@pytest.fixture(scope="module")
def archives(sounds: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the same sounds in a tar file, and in a parquet file of three row groups."""
    folder, paths = tmp_path_factory.mktemp("archives"), sorted(sounds.iterdir())
    with tarfile.open(folder / "a.tar", "w") as tar:
        for path in reversed(paths):
            tar.add(path, path.name)
    rows = pa.table({"audio": [{"bytes": path.read_bytes(), "path": path.name} for path in paths]})
    pq.write_table(rows, folder / "b.parquet", row_group_size=len(paths) // 3 + 1)
    pq.write_table(pa.table({"embedding": [[1.0]]}), folder / "vectors.parquet")
    return folder


def result(path: Path) -> object:
    """What reading a sound gives: samples, header and warnings, or the error; without its path."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        try:
            header, part = info(path), read(path, 16000, start=0.2, seconds=0.3)[0].tobytes()
            values = (read(path)[0].tobytes(), part, header.seconds, header.frames, header.note, header.subtype)
        except AudioError as error:
            values = (str(error).removeprefix(f"{path}: "),)
    return values, [str(warning.message).removeprefix(f"{path}: ") for warning in found]


def test_same_samples_as_files(sounds: Path, archives: Path) -> None:
    """In every format, for files that are corrected, truncated, damaged or empty; and from threads."""
    names = sorted(path.name for path in sounds.iterdir())
    expected = [result(sounds / name) for name in names]
    found = find_sounds(archives)
    assert found == [
        *(archives / "a.tar" / name for name in names),
        *(archives / "b.parquet" / str(row) / name for row, name in enumerate(names)),
    ]
    assert list(map(result, found)) == [*expected, *expected]
    good = [archives / "a.tar" / f"{end}.{end}" for end in FORMATS] * 4
    with ThreadPoolExecutor(4) as pool:
        for path, wav in zip(good, pool.map(lambda path: read(path)[0], good), strict=True):
            np.testing.assert_array_equal(wav, read(sounds / path.name)[0])
    for name in names:
        member = archives / "a.tar" / name
        assert open_bytes(member).read() == (sounds / name).read_bytes()
        assert byte_size(member) == (sounds / name).stat().st_size


def test_paths_that_name_members(archives: Path, tmp_path: Path) -> None:
    """A member is found where a table names it; nothing else is."""
    good = ("a.tar/wav.wav", "./a.tar//wav.wav", "b.parquet/16/wav.wav", "a.tar")
    bad = ("a.tar/none.wav", "b.parquet/0/wav.wav", "b.parquet/99", "none.tar/wav.wav", "vectors.parquet/0")
    names = [path.relative_to(archives).as_posix() for path in find_sounds(archives)]
    row = next(name for name in names if name.startswith("b.parquet") and name.endswith("/wav.wav"))
    good = (*good[:2], row, good[3])
    assert missing_files(str(archives), [*good, *bad]) == set(bad)
    assert all(is_sound_file(archives / name) for name in good)
    assert file_state(archives / "a.tar/wav.wav") == file_state(archives / "a.tar")
    with pytest.raises(AudioError, match=r"a\.tar/none\.wav: no such file in the archive"):
        read(archives / "a.tar/none.wav")
    with pytest.raises(AudioError, match="an archive, not one sound"):
        read(archives / "a.tar")
    folder = tmp_path / "folder.tar"  # a folder with the suffix of an archive
    folder.mkdir()
    soundfile.write(folder / "a.wav", SOUND, RATE)
    assert find_sounds(tmp_path) == [folder / "a.wav"] and len(read(folder / "a.wav")[0]) == len(SOUND)


def test_changed_archive_is_indexed_again(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    for size in (100, 5000):
        soundfile.write(tmp_path / "a.wav", SOUND[:size], RATE)
        with tarfile.open(path, "w") as tar:
            tar.add(tmp_path / "a.wav", "a.wav")
        assert len(read(path / "a.wav")[0]) == size


def test_archives_that_cannot_be_read(archives: Path, tmp_path: Path) -> None:
    """A damaged archive follows its members; one without sounds is no sound; compressed ones are counted."""
    content = (archives / "a.tar").read_bytes()
    (tmp_path / "cut.tar").write_bytes(content[: len(content) // 2])
    (tmp_path / "noise.parquet").write_bytes(content[:3000])
    (tmp_path / "more.tar.gz").write_bytes(b"\x1f\x8b")
    (tmp_path / "vectors.parquet").write_bytes((archives / "vectors.parquet").read_bytes())
    with pytest.warns(AudioWarning, match="1 compressed tar files are left out"):
        found = find_sounds(tmp_path)
    assert found[-2:] == [tmp_path / "cut.tar", tmp_path / "noise.parquet"] and len(found) > 2
    for path, reason in (
        (found[-2], "bytes are there; download it again"),
        (found[-1], "cannot be read as a parquet file"),
        (tmp_path / "more.tar.gz", "a compressed tar file"),
    ):
        with pytest.raises(AudioError, match=reason):
            read(path)
    assert find_sounds(tmp_path / "vectors.parquet") == []
    with pytest.raises(DataError, match="no such file or folder"):
        find_sounds(tmp_path / "none.tar")


def test_rows_of_parquet_files(sounds: Path, tmp_path: Path) -> None:
    """Rows without a name, without bytes and without a value; columns with other names, and several of them."""
    mp3 = (sounds / "variable.mp3").read_bytes()
    values = [
        {"bytes": mp3, "path": None},
        {"bytes": None, "path": "x/elsewhere.mp3"},
        None,
        {"bytes": mp3, "path": "n"},
    ]
    column = pa.array(values, pa.struct([("bytes", pa.large_binary()), ("path", pa.string())]))
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"sound": column}), path)
    assert find_sounds(path) == [path / "0", path / "1/elsewhere.mp3", path / "2", path / "3"]
    assert info(path / "0").frames == info(path / "3").frames == info(sounds / "variable.mp3").frames
    for name in ("1/elsewhere.mp3", "2"):
        with pytest.raises(AudioError, match="holds no bytes"):
            read(path / name)
    pq.write_table(pa.table({"sound": column, "audio": column.slice(0, 1).take([0, 0, 0, 0])}), path)
    assert len(find_sounds(path)) == 4 and byte_size(path / "1") == len(mp3)
    pq.write_table(pa.table({"sound": column, "noise": column}), path)
    with pytest.raises(AudioError, match="sound, noise hold sounds, and none is called audio"):
        read(find_sounds(path)[0])
