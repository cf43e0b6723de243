"""Requests of a store that time out or are interrupted: tried again, then named; nothing half written is visible."""

from __future__ import annotations

from pathlib import Path

import moto.s3.models
import pytest
import s3fs
from tests.remote.store import BUCKET, Fault, Store

from unheard.errors import RemoteError
from unheard.remote import access
from unheard.remote.listing import files_below
from unheard.remote.reading import open_file
from unheard.remote.writing import upload

CONTENT = bytes(range(256)) * 4096
PART = 300_000
"""Bytes of a part of a multipart upload: CONTENT has four."""
ADDRESS = f"s3://{BUCKET}/folder/a.bin"
ALWAYS = 10_000
SLOW = 3
"""Requests that are slow."""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A local file."""
    (tmp_path / "a.bin").write_bytes(CONTENT)
    return tmp_path / "a.bin"


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request takes too long after a tenth of a second."""
    monkeypatch.setitem(access.S3_CLIENT, "read_timeout", 0.1)


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are uploaded in small parts."""
    monkeypatch.setattr(s3fs.core, "calculate_chunksize", lambda size, **options: PART)
    monkeypatch.setattr(moto.s3.models, "S3_UPLOAD_PART_MIN_SIZE", 1)


def slow(method: str, key: str) -> Fault:
    """Return a fault that is longer than all tries of one call of s3fs, but passes.

    On a busy machine, a slow answer may come before the client sees its time-out, so that a part of it is left.
    """
    return Fault("slow", method, key, SLOW, seconds=1.5)


@pytest.mark.usefixtures("impatient")
def test_reading_continues_after_a_time_out(store: Store) -> None:
    store.put("folder/a.bin", CONTENT)
    faults = [slow("HEAD", "a.bin"), slow("GET", "a.bin"), slow("GET", BUCKET)]
    store.faults += faults
    with open_file(ADDRESS) as file:
        assert file.read() == CONTENT
    assert list(files_below(f"s3://{BUCKET}/folder")) == ["a.bin"]
    assert all(fault.times < SLOW for fault in faults)


@pytest.mark.usefixtures("impatient")
def test_writing_continues_after_a_time_out(store: Store, file: Path) -> None:
    store.faults.append(fault := slow("PUT", "a.bin"))
    upload(file, ADDRESS)
    assert store.get("folder/a.bin") == CONTENT and fault.times < SLOW


@pytest.mark.usefixtures("impatient", "parts")
def test_a_part_and_the_end_of_an_upload_continue_after_a_time_out(store: Store, file: Path) -> None:
    for fault in (slow("POST", "a.bin"), slow("PUT", "a.bin")):
        store.faults.append(fault)
        upload(file, ADDRESS)
        assert store.get("folder/a.bin") == CONTENT and not store.faults


@pytest.mark.parametrize("kind", ["closed", "short"])
def test_an_interrupted_upload_is_tried_again(store: Store, file: Path, kind: str) -> None:
    store.faults.append(Fault(kind, "PUT", "a.bin", times=1 if kind == "short" else 3))
    upload(file, ADDRESS)
    assert store.get("folder/a.bin") == CONTENT and not store.faults


@pytest.mark.parametrize("kind", ["closed", "short"])
def test_an_upload_that_stays_interrupted_is_named_and_not_visible(store: Store, file: Path, kind: str) -> None:
    store.faults.append(Fault(kind, "PUT", "a.bin", times=ALWAYS))
    with pytest.raises(RemoteError, match=rf"^{ADDRESS}: could not be written in 3 attempts \(.+\); run the command"):
        upload(file, ADDRESS)
    assert store.keys() == []


@pytest.mark.usefixtures("parts")
@pytest.mark.parametrize("kind", ["closed", "short"])
def test_an_interrupted_part_is_tried_again(store: Store, file: Path, kind: str) -> None:
    store.faults.append(Fault(kind, "PUT", "a.bin", times=1 if kind == "short" else 3, query="partNumber=2"))
    upload(file, ADDRESS)
    assert store.get("folder/a.bin") == CONTENT and not store.faults


@pytest.mark.usefixtures("parts")
@pytest.mark.parametrize("kind", ["closed", "short"])
def test_a_part_that_stays_interrupted_is_named_and_not_visible(store: Store, file: Path, kind: str) -> None:
    store.faults.append(Fault(kind, "PUT", "a.bin", times=ALWAYS, query="partNumber=2"))
    with pytest.raises(RemoteError, match=rf"^{ADDRESS}: could not be written in 3 attempts \(.+\); run the command"):
        upload(file, ADDRESS)
    assert store.keys() == [] and store.uploads() == []


@pytest.mark.usefixtures("parts")
def test_the_old_file_stays_until_the_last_part_is_there(store: Store, file: Path) -> None:
    store.put("folder/a.bin", b"old")
    store.faults.append(Fault("closed", "PUT", "a.bin", times=ALWAYS, query="partNumber=4"))
    with pytest.raises(RemoteError, match="could not be written"):
        upload(file, ADDRESS)
    assert store.get("folder/a.bin") == b"old"


@pytest.mark.parametrize("query", ["uploads", "partNumber=2", "uploadId="])
@pytest.mark.usefixtures("parts")
def test_an_answer_that_is_lost_is_no_error(store: Store, file: Path, query: str) -> None:
    """Also that of the request that completes an upload: the repeated request finds no upload."""
    method = "PUT" if query == "partNumber=2" else "POST"
    store.faults.append(Fault("lost", method, "a.bin", query=query))
    upload(file, ADDRESS)
    assert store.get("folder/a.bin") == CONTENT and not store.faults
