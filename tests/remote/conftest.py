"""A store on the loopback interface, and a cache of its own for each test."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import s3fs
from tests.remote.store import BUCKET, Store, running

from unheard.remote import access, listing


@pytest.fixture(scope="session")
def server() -> Iterator[Store]:
    with running() as store:
        yield store


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test; errors are tried again without long pauses."""
    monkeypatch.setenv("UNHEARD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(access, "PAUSE", 0.01)
    monkeypatch.setattr(listing, "_known", {})
    return tmp_path / "cache"


@pytest.fixture
def store(server: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """An empty bucket of S3, and the environment that leads to it."""
    for name, value in (("ACCESS_KEY_ID", "key"), ("SECRET_ACCESS_KEY", "secret"), ("ENDPOINT_URL", server.url)):
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    server.client.create_bucket(Bucket=BUCKET)
    monkeypatch.setattr(s3fs.S3FileSystem, "retries", 2)
    server.faults.clear()
    server.requests.clear()
    yield server
    server.faults.clear()
    for key in server.keys():  # noqa: SIM118 - a method of ours
        server.client.delete_object(Bucket=BUCKET, Key=key)
    for key, upload in server.uploads():
        server.client.abort_multipart_upload(Bucket=BUCKET, Key=key, UploadId=upload)


@pytest.fixture
def memory() -> str:
    """The address of an empty folder in the memory of this process."""
    return f"memory://{uuid.uuid4().hex}"
