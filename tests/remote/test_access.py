"""Errors of stores: tried again, then named; nothing half written."""

from __future__ import annotations

from pathlib import Path

import pytest
import s3fs
from tests.remote.store import BUCKET, Fault, Store

from unheard.addresses import address_of
from unheard.errors import ConfigError, RemoteError, UnheardError
from unheard.remote import access, listing
from unheard.remote.listing import exists, files_below, is_file, is_folder
from unheard.remote.reading import open_file
from unheard.remote.writing import upload

CONTENT = bytes(range(256)) * 4096


@pytest.mark.parametrize(
    ("path", "address"),
    [
        ("hf:/models/ast", ""),  # a folder of this machine, for an encoder of transformers
        (Path("hf:/models/ast"), ""),
        ("hf://models/ast", "hf://models/ast"),
        (Path("hf://datasets/user/sounds"), "hf://datasets/user/sounds"),
        (Path("/data") / "s3://bucket/a.wav", "s3://bucket/a.wav"),
        ("sounds/s3.wav", ""),
    ],
)
def test_what_an_address_is(path: str | Path, address: str) -> None:
    assert address_of(path) == address


@pytest.mark.parametrize("kind", ["503", "cut"])
def test_a_fault_that_passes_is_tried_again(store: Store, kind: str) -> None:
    address = store.put("a.bin", CONTENT)
    store.faults.append(Fault(kind, "GET", "a.bin", times=2))
    with open_file(address) as file:
        assert file.read() == CONTENT
    assert not store.faults


def test_below_a_file_there_is_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"RIFF")
    assert is_file(f"file://{tmp_path}/a.wav") and not is_file(f"file://{tmp_path}/a.wav/config.json")


def test_a_fault_that_stays_is_named_and_leaves_nothing(
    store: Store, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = store.put("a.bin", CONTENT)
    monkeypatch.setattr(access, "TRIES", 2)
    monkeypatch.setattr(s3fs.S3FileSystem, "retries", 2)
    store.faults.append(Fault("cut", "GET", "a.bin", times=10_000))
    with pytest.raises(RemoteError, match=r"^s3://sounds/a.bin: could not be read in 2 attempts \(.+\); run"):
        open_file(address)
    assert not [path for path in place.rglob("*") if path.is_file()]


def test_a_store_that_does_not_answer_is_named(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    address = store.put("a.bin", CONTENT)
    monkeypatch.setattr(access, "TRIES", 2)
    monkeypatch.setitem(access.S3_CLIENT, "read_timeout", 0.1)
    monkeypatch.setattr(s3fs.S3FileSystem, "retries", 1)
    store.faults.append(Fault("slow", "GET", "a.bin", times=10_000, seconds=0.4))
    with pytest.raises(RemoteError, match="could not be read in 2 attempts"):
        open_file(address)


def test_an_upload_is_tried_again_and_complete(store: Store, tmp_path: Path) -> None:
    file = tmp_path / "b.bin"
    file.write_bytes(CONTENT)
    store.faults.append(Fault("503", "PUT", "b.bin", times=2))
    upload(file, f"s3://{BUCKET}/folder/b.bin")
    assert store.get("folder/b.bin") == CONTENT


def test_a_failed_upload_leaves_the_old_file(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    address, file = store.put("b.bin", b"old"), tmp_path / "b.bin"
    file.write_bytes(CONTENT)
    monkeypatch.setattr(access, "TRIES", 1)
    monkeypatch.setattr(s3fs.S3FileSystem, "retries", 1)
    store.faults.append(Fault("503", "PUT", "b.bin", times=10_000))
    with pytest.raises(RemoteError, match=r"s3://sounds/b.bin: could not be written"):
        upload(file, address)
    assert store.get("b.bin") == b"old"


def test_what_is_not_there_is_named(store: Store, tmp_path: Path) -> None:
    with pytest.raises(RemoteError, match=r"s3://sounds/a.wav: no such file"):
        open_file(f"s3://{BUCKET}/a.wav")
    with pytest.raises(RemoteError, match="there is no bucket other"):
        files_below("s3://other/folder")
    file = tmp_path / "b.bin"
    file.touch()
    with pytest.raises(RemoteError, match="its bucket or folder is not there"):
        upload(file, "s3://other/b.bin")


def test_missing_credentials_are_named(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", "/nowhere")
    s3fs.S3FileSystem.clear_instance_cache()
    try:
        with pytest.raises(RemoteError, match=r"there are no credentials for this store; set AWS_ACCESS_KEY_ID"):
            exists(f"s3://{BUCKET}/a.wav")
    finally:
        s3fs.S3FileSystem.clear_instance_cache()


def test_an_unknown_scheme_and_a_missing_package_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="the scheme xyz:// is unknown"):
        exists("xyz://bucket/a.wav")
    with pytest.raises(ConfigError, match="xyz://bucket/a.wav: the scheme"):
        exists(Path("xyz://bucket/a.wav"))

    def missing(*args: object, **options: object) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr("fsspec.core.url_to_fs", missing)
    with pytest.raises(UnheardError, match=r"needs the package s3fs.*pip install 'unheard\[remote\]'"):
        exists("s3://bucket/a.wav")
    with pytest.raises(UnheardError, match=r"needs the package gcsfs.*pip install gcsfs"):
        exists("gs://bucket/a.wav")


def test_files_below_a_folder_are_listed_once(store: Store) -> None:
    for name in ("a.wav", "b/c.wav", "b/d.wav"):
        store.put(f"folder/{name}", name.encode())
    store.put("folder2/e.wav", b"")
    assert {name: entry.size for name, entry in files_below("s3://sounds/folder/").items()} == {
        "a.wav": 5,
        "b/c.wav": 7,
        "b/d.wav": 7,
    }
    assert is_folder("s3://sounds/folder/b") and not is_folder("s3://sounds/fold")
    store.requests.clear()
    with open_file("s3://sounds/folder/b/c.wav") as file:
        assert file.read() == b"b/c.wav"
    assert store.requests == [("GET", "/sounds/folder/b/c.wav")]


def test_a_replaced_file_is_read_again(memory: str, tmp_path: Path) -> None:
    file = tmp_path / "a"
    for content in (b"one", b"two!"):
        file.write_bytes(content)
        upload(file, f"{memory}/a")
        with open_file(f"{memory}/a") as copy:
            assert copy.read() == content
        listing.forget(f"{memory}/a")
