"""A store on the loopback interface, and a cache of its own for each test."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import s3fs
from tests.remote.store import BUCKET, Store, running

from unheard.jobs.plan import Task
from unheard.jobs.session import Session, Work
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
    while server.waiting:  # a slow request would be done in the next test
        time.sleep(0.01)
    for key in server.keys():  # noqa: SIM118 - a method of ours
        server.client.delete_object(Bucket=BUCKET, Key=key)
    for key, upload in server.uploads():
        server.client.abort_multipart_upload(Bucket=BUCKET, Key=key, UploadId=upload)


@pytest.fixture
def memory() -> str:
    """The address of an empty folder in the memory of this process."""
    return f"memory://{uuid.uuid4().hex}"


@pytest.fixture
def inside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers of Ray in this process, without Ray."""

    class Inside:
        """One worker."""

        def __init__(self, work: Work, target: tuple[str, str] | None) -> None:
            self.size, self._session, self._done = 1, Session(work, 0, 1, str(Path.cwd()), target), list[Any]()

        def give(self, task: Task) -> None:
            self._done.append((task, self._session.do(task)))

        def wait(self) -> Any:
            return self._done.pop()

        def close(self) -> None:
            pass

    @contextmanager
    def workers(work: Work, processes: int | None, items: int, target: tuple[str, str] | None) -> Iterator[Inside]:
        yield Inside(work, target)

    monkeypatch.setattr("unheard.jobs.ray_workers.ray_workers", workers)
    monkeypatch.setattr(access, "TRIES", 1)
