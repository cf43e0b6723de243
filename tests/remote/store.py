"""An S3 server on the loopback interface, whose answers a test can disturb."""

from __future__ import annotations

import io
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import boto3
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

BUCKET = "sounds"
Start = Callable[..., Any]


@dataclass
class Fault:
    """What happens to the next requests of a method for a key that ends in a text.

    Parameters
    ----------
    kind : str
        "503"; "cut": half of the answer, then the connection is closed; "slow": no answer for ``seconds``; "closed":
        the connection is closed when half of the request is read; "lost": it is closed when the request is done,
        without an answer; "short": half of the body of the request is stored.
    query : str
        Part of the query, such as that of a part of an upload.
    """

    kind: str
    method: str
    key: str
    times: int = 1
    seconds: float = 0.0
    query: str = ""


@dataclass
class Store:
    """The server, and the faults that are left."""

    url: str = ""
    faults: list[Fault] = field(default_factory=list)
    requests: list[tuple[str, str]] = field(default_factory=list)
    waiting: list[Fault] = field(default_factory=list)
    """Slow requests that are not done; a client may have given up on them."""
    app: Any = field(default_factory=lambda: DomainDispatcherApplication(create_backend_app))

    def __call__(self, environ: dict[str, Any], start: Start) -> Iterable[bytes]:
        """Answer a request of WSGI."""
        method, path, query = environ["REQUEST_METHOD"], environ["PATH_INFO"], environ["QUERY_STRING"]
        self.requests.append((method, path))
        matching = (each for each in self.faults if each.method == method and path.endswith(each.key))
        fault = next((each for each in matching if each.query in query), None)
        if fault is None:
            return self.app(environ, start)
        fault.times -= 1
        if not fault.times:
            self.faults.remove(fault)
        return self._disturbed(fault, environ, start)

    def _disturbed(self, fault: Fault, environ: dict[str, Any], start: Start) -> Iterable[bytes]:
        sent, length = environ["wsgi.input"], int(environ.get("CONTENT_LENGTH") or 0)
        if fault.kind == "503":
            sent.read(length)
            start("503 Slow Down", [("Content-Type", "application/xml")])
            return [b"<Error><Code>SlowDown</Code><Message>slow down</Message></Error>"]
        if fault.kind == "slow":
            self.waiting.append(fault)
            try:
                time.sleep(fault.seconds)
                return self.app(environ, start)
            finally:
                self.waiting.remove(fault)
        if fault.kind == "short":
            short = sent.read(length)[: length // 2]
            return self.app({**environ, "wsgi.input": io.BytesIO(short), "CONTENT_LENGTH": str(len(short))}, start)
        if fault.kind == "cut":
            body = b"".join(self.app(environ, start))
            return [body[: len(body) // 2]]
        if fault.kind == "lost":
            list(self.app(environ, lambda *answer: None))
        else:
            sent.read(length // 2)
        environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
        start("200 OK", [])
        return []

    def count(self, method: str, key: str) -> int:
        """Return the number of requests of a method for a key that ends in a text."""
        return sum(each == method and path.endswith(key) for each, path in self.requests)

    @property
    def client(self) -> Any:
        """Return a client that does not use the library."""
        return boto3.client("s3", endpoint_url=self.url, region_name="us-east-1")

    def keys(self, prefix: str = "") -> list[str]:
        """Return the keys in the bucket that begin with a text."""
        found = self.client.list_objects_v2(Bucket=BUCKET, Prefix=prefix)
        return [each["Key"] for each in found.get("Contents", [])]

    def uploads(self) -> list[tuple[str, str]]:
        """Return key and id of every multipart upload that is neither complete nor aborted."""
        found = self.client.list_multipart_uploads(Bucket=BUCKET)
        return [(each["Key"], each["UploadId"]) for each in found.get("Uploads", [])]

    def put(self, key: str, content: bytes) -> str:
        """Store bytes. Return the address."""
        self.client.put_object(Bucket=BUCKET, Key=key, Body=content)
        return f"s3://{BUCKET}/{key}"

    def get(self, key: str) -> bytes:
        """Return stored bytes."""
        content: bytes = self.client.get_object(Bucket=BUCKET, Key=key)["Body"].read()
        return content


class _Quiet(WSGIRequestHandler):
    def log(self, type: str, message: str, *args: Any) -> None:
        """Print nothing."""


@contextmanager
def running() -> Iterator[Store]:
    """Run a server with an empty bucket."""
    store = Store()
    server = make_server("127.0.0.1", 0, store, threaded=True, request_handler=_Quiet)
    store.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield store
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
