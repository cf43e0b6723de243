"""Sounds, labels and tables at addresses: the same values as from local files."""

from __future__ import annotations

import tarfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
from tests.remote.store import Fault, Store

import unheard
from unheard.addresses import address_of
from unheard.audio.folders import find_sounds
from unheard.audio.waveform import info, read
from unheard.cli import main
from unheard.data.check import check
from unheard.data.corpus import open_corpus
from unheard.data.label_table import read_labels
from unheard.embedding.embedding_model import EmbeddingModel
from unheard.errors import AudioError, ConfigError, DataError, RemoteError
from unheard.files import write_text
from unheard.remote.writing import upload_folder, working_place

RATE = 16000


@pytest.fixture(scope="module")
def model() -> EmbeddingModel:
    return unheard.load("random-tiny", device="cpu")


@pytest.fixture
def sounds(tmp_path: Path) -> Path:
    """A folder with sounds of four formats, some in an archive, and labels."""
    folder, generator = tmp_path / "sounds", np.random.default_rng(0)
    (folder / "deep").mkdir(parents=True)
    names = ["a.wav", "b.flac", "c.ogg", "deep/d.mp3", "deep/e.wav"]
    for number, name in enumerate(names):
        soundfile.write(folder / name, 0.1 * generator.standard_normal(RATE // 4 * (1 + number)), RATE)
    with tarfile.open(folder / "more.tar", "w") as tar:
        tar.add(folder / "a.wav", "inside/f.wav")
    (folder / ".hidden.wav").write_bytes(b"no sound")
    rows = "".join(f"{name},{'high' if number % 2 else 'low'}\n" for number, name in enumerate(names))
    (folder / "labels.csv").write_text("path,label\n" + rows)
    return folder


def put(folder: Path, address: str) -> str:
    """Upload a folder. Return the address."""
    names = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    upload_folder(folder, address, names)
    return address


def test_sounds_and_archives_are_found_and_decoded_as_local_ones(sounds: Path, memory: str) -> None:
    put(sounds, memory)
    local, remote = find_sounds(sounds), find_sounds(memory)
    assert [path.relative_to(sounds) for path in local] == [path.relative_to(Path(memory)) for path in remote]
    assert len(local) == 6
    for one, other in zip(local, remote, strict=True):
        np.testing.assert_array_equal(read(one)[0], read(other)[0])
        assert info(one).seconds == info(other).seconds
    assert check(sounds).lines() == check(memory).lines()


def test_several_addresses_are_one_corpus(sounds: Path, memory: str) -> None:
    """Also together with a local folder, whose clips then are below the common folder of this machine."""
    put(sounds, memory)
    local = open_corpus([sounds / "deep", sounds / "more.tar"])
    remote = open_corpus([f"{memory}/deep", f"{memory}/more.tar"])
    assert remote.clips == local.clips and remote.fingerprint() == local.fingerprint() and len(local.clips) == 3
    mixed = open_corpus([f"{memory}/more.tar", sounds / "deep"])
    assert [address_of(mixed.root / clip.path) for clip in mixed.clips] == [f"{memory}/more.tar/inside/f.wav", "", ""]
    with pytest.raises(DataError, match=rf"^{memory}/deep/d\.mp3 is in {memory}/deep and again in {memory}; give each"):
        open_corpus([f"{memory}/deep", memory])


def test_a_table_of_a_bucket_equals_that_of_a_folder(
    model: EmbeddingModel, sounds: Path, store: Store, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(sounds, "s3://sounds/folder")
    store.faults += [Fault("503", "GET", "a.wav"), Fault("cut", "GET", "b.flac"), Fault("503", "PUT", "t.parquet")]
    unheard.embed(model, sounds, tmp := sounds.parent / "local.parquet", window=0.5)
    report = unheard.embed(model, "s3://sounds/folder", "s3://sounds/out/t.parquet", window=0.5)
    assert not store.faults and not report.skipped and str(report.out) == "s3:/sounds/out/t.parquet"
    assert store.keys("out") == ["out/t.parquet"] and not any((place / "out").iterdir())
    (copy := sounds.parent / "copy.parquet").write_bytes(store.get("out/t.parquet"))
    one, other = pq.read_table(tmp), pq.read_table(copy)
    assert one["embedding"].equals(other["embedding"])
    expected = [path.replace(str(sounds), "s3://sounds/folder") for path in one["path"].to_pylist()]
    assert other["path"].to_pylist() == expected

    found = unheard.search("s3://sounds/out/t.parquet", like="s3://sounds/folder/deep/e.wav@0-0.5", model=model, k=3)
    same = unheard.search(tmp, like=f"{sounds}/deep/e.wav@0-0.5", model=model, k=3)
    assert [(hit.score, hit.start) for hit in found] == [(hit.score, hit.start) for hit in same]
    assert main(["data", "verify", "s3://sounds/out/t.parquet"]) == 0
    with pytest.raises(ConfigError, match=r"^s3://sounds/out/t.parquet exists; choose another -o, or replace"):
        unheard.embed(model, "s3://sounds/folder", "s3://sounds/out/t.parquet", window=0.5)


def test_a_csv_table_is_stored_with_its_companion_and_continued(
    model: EmbeddingModel, sounds: Path, memory: str
) -> None:
    put(sounds, memory)
    unheard.embed(model, f"{memory}/a.wav", out := f"{memory}-out/t.csv")
    with pytest.raises(ConfigError, match=r"memory://.*t.csv has another identity"):
        unheard.embed(model, memory, out, window=0.5, resume=True)
    report = unheard.embed(model, memory, out, resume=True)
    assert (report.rows, report.embedded, report.resumed) == (6, 5, 1)
    assert len(unheard.search(out, like=f"{memory}/a.wav", model=model)) == 5


@pytest.mark.parametrize("name", ["t.csv", "t.parquet"])
def test_a_refused_command_leaves_no_copy_of_a_table(
    model: EmbeddingModel, sounds: Path, memory: str, place: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The table may change before the next command."""
    unheard.embed(model, sounds / "a.wav", out := f"{memory}/{name}")
    with pytest.raises(ConfigError, match="has another identity"):
        unheard.embed(model, sounds, out, window=0.5, resume=True)
    assert not list((place / "out").rglob("*.*"))
    with monkeypatch.context() as patch:
        patch.setenv("UNHEARD_CACHE", str(place / "other"))
        unheard.embed(model, sounds / "b.flac", out, resume=True)
    assert unheard.embed(model, sounds / "deep", out, resume=True).rows == 4


def test_a_failed_upload_keeps_the_table_and_is_continued(
    model: EmbeddingModel, sounds: Path, memory: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = f"{memory}/t.parquet"
    with monkeypatch.context() as patch:
        patch.setattr("fsspec.implementations.memory.MemoryFileSystem.put_file", _broken)
        with pytest.raises(
            RemoteError, match=r"could not be written in 3 attempts \(no network\).*is kept in .*with --resume"
        ):
            unheard.embed(model, sounds, out)
    assert working_place(out, "embed").is_file()
    monkeypatch.setattr(model, "embed_many", None)  # nothing is computed again
    assert unheard.embed(model, sounds, out, resume=True).resumed == 6
    assert not working_place(out, "embed").exists()


def _broken(*args: object, **options: object) -> None:
    raise OSError("no network")


def test_labels_and_their_sounds_may_be_at_addresses(sounds: Path, memory: str, tmp_path: Path) -> None:
    put(sounds, memory)
    local = read_labels(sounds / "labels.csv")
    remote = read_labels(f"{memory}/labels.csv")
    (table := tmp_path / "mixed.csv").write_text((sounds / "labels.csv").read_text().replace("\n", f"\n{memory}/", 5))
    mixed = read_labels(table)
    for labels in (remote, mixed):
        assert labels.classes == local.classes
        np.testing.assert_array_equal(read(labels.paths[1])[0], read(local.paths[1])[0])
    table.write_text(table.read_text().replace("b.flac", "missing.flac"))
    with pytest.raises(DataError, match=rf"names 1 files that do not exist, the first {memory}/missing.flac"):
        read_labels(table)


def test_what_cannot_be_used_is_named_by_its_address(
    sounds: Path, memory: str, capsys: pytest.CaptureFixture[str]
) -> None:
    put(sounds, memory)
    with pytest.raises(AudioError, match=rf"^{memory}/none.wav: no such file or folder"):
        read(f"{memory}/none.wav")
    with pytest.raises(AudioError, match=rf"^{memory}/more.tar: an archive, not one sound"):
        read(f"{memory}/more.tar")
    with pytest.raises(DataError, match=rf"{memory}/none: no such file or folder"):
        find_sounds(f"{memory}/none")
    assert main(["embed", "xyz://bucket/a.wav", "-o", "t.csv"]) == 2
    assert "xyz://bucket/a.wav: the scheme xyz:// is unknown" in capsys.readouterr().err
    with pytest.raises(ConfigError, match=rf"{memory}/x.csv: this writes local files only"):
        write_text(Path(f"{memory}/x.csv"), "")


def test_a_file_system_address_is_written_at_once(tmp_path: Path, model: EmbeddingModel, sounds: Path) -> None:
    report = unheard.embed(model, f"file://{sounds}/a.wav", f"file://{tmp_path}/new/t.parquet")
    assert report.rows == 1
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["t.parquet"]


def test_one_sound_at_an_address_is_drawn_and_embedded(tmp_path: Path, sounds: Path) -> None:
    sound = f"file://{sounds}/a.wav"
    assert main(["figure", "masks", "unheard-tiny", sound, "-o", str(tmp_path / "masks.png")]) == 0
    assert main(["embed", sound, "-o", str(tmp_path / "a.csv")]) == 0
