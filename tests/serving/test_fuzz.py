"""Generated requests over the OpenAPI document: no response is an error of the server, and each one is declared."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.serving.conftest import SMALL, make_folder

from unheard.embedding.embedder import Model
from unheard.serving.app import build_app
from unheard.serving.folder_vectors import FolderVectors
from unheard.serving.guard import Address
from unheard.serving.library import Library
from unheard.serving.routes import detecting, inspecting, labelling, searching, sounds
from unheard.serving.workbench import Workbench

schemathesis = pytest.importorskip("schemathesis")
from schemathesis.checks import not_a_server_error  # noqa: E402
from schemathesis.specs.openapi.checks import (  # noqa: E402
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

GROWTH_KIB = 1 << 20
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzzed")


@pytest.fixture(scope="module")
def bench(served_model: Model, place: Path) -> Iterator[Workbench]:
    """Return a workbench with an embedded folder, and labels in a folder of its own."""
    library = Library(make_folder(place))
    folder = FolderVectors(served_model, library, place / "cache")
    folder.start()
    folder.wait()
    (place / "labels").mkdir()
    made = Workbench(served_model, library, SMALL, folder, place / "labels" / "labels.csv")
    yield made
    made.close()


@pytest.fixture(scope="module", autouse=True)
def memory(bench: Workbench) -> int:
    """Return the memory of this process before the requests, in KiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


@pytest.fixture(scope="module")
def api(bench: Workbench) -> Any:
    """Return the OpenAPI document of the server, whose host is that of schemathesis's client."""
    app = build_app(bench, Address("127.0.0.1", 80))

    async def named(scope: dict[str, Any], receive: Any, send: Any) -> None:
        while scope["type"] == "lifespan":  # each request has one, after which the threads would be closed
            ended = await receive()
            await send({"type": f"{ended['type']}.complete"})
            if ended["type"] == "lifespan.shutdown":
                return
        others = [pair for pair in scope["headers"] if pair[0] != b"host"]
        await app({**scope, "headers": [*others, (b"host", b"127.0.0.1")]}, receive, send)

    return schemathesis.openapi.from_asgi("/api/openapi.json", named)


ENDPOINTS = sorted(
    (route.path, method.lower())
    for module in (detecting, inspecting, labelling, searching, sounds)
    for route in module.router.routes
    for method in route.methods
)


@pytest.mark.parametrize(("path", "method"), ENDPOINTS)
@settings(suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_no_request_breaks_the_server(api: Any, bench: Workbench, path: str, method: str, data: st.DataObject) -> None:
    case = data.draw(api[path][method].as_strategy())
    real = data.draw(st.sampled_from([None, *(file.id for file in bench.files.files[:4])]))
    for place in (case.path_parameters, case.body):
        if real is not None and isinstance(place, dict) and "sound" in place:
            place["sound"] = real
    case.call_and_validate(checks=CHECKS)


def test_no_file_is_left_and_memory_is_bounded(place: Path, bench: Workbench, memory: int) -> None:
    """Runs after the generated requests: there is nothing besides what the page writes."""
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < GROWTH_KIB
    assert {file.name for file in place.iterdir()} == {"sounds", "secret.wav", "cache", "labels"}
    assert {file.name for file in (place / "labels").iterdir()} <= {"labels.csv", "labels-classifier"}
    assert len(os.listdir(place / "sounds")) == 4  # noqa: PTH208
