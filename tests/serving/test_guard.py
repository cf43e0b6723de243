"""Who may send requests, and how large and slow they may be."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import httpx2
import pytest
from tests.serving.conftest import SMALL, Served, serve

from unheard.errors import ConfigError
from unheard.serving import server
from unheard.serving.guard import Address, Guard, is_loopback
from unheard.serving.jobs import Jobs
from unheard.serving.limits import Limits, RefusedError
from unheard.serving.workbench import Workbench

TOKEN = "abc-def"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"host": "localhost:8000"}, 200),
        ({"host": "[::1]:8000"}, 200),
        ({"host": "evil.example:8000"}, 421),
        ({"host": "127.0.0.1:9"}, 421),
        ({"host": "127.0.0.1.evil.example:8000"}, 421),
        ({"host": "user@127.0.0.1:8000"}, 421),
        ({"host": "[::1"}, 421),
        ({"host": ""}, 421),
        ({"origin": "http://127.0.0.1:8000"}, 200),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://localhost:8000"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
        ({"sec-fetch-site": "same-origin"}, 200),
    ],
)
def test_host_and_origin_must_be_this_server(served: Served, headers, status) -> None:
    assert served.client.get("/api/status", headers=headers).status_code == status


def test_responses_forbid_other_origins(served: Served) -> None:
    for path in ("/", "/page/main.js", "/api/status", "/api/none"):
        headers = served.client.get(path).headers
        assert "default-src 'self'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff" and "access-control-allow-origin" not in headers


def test_the_page_asks_for_nothing_outside(served: Served) -> None:
    page = served.client.get("/").text
    assert "http://" not in page and "https://" not in page and "//" not in page.replace("</", "")


def test_a_token_is_required_when_bound_elsewhere(served_model) -> None:
    served = serve(Workbench(served_model), Address("0.0.0.0", 8000, TOKEN))
    client = served.client
    assert client.get("/api/status").status_code == 401 and client.get("/").status_code == 401
    assert client.get("/api/status", headers={"authorization": "Bearer wrong"}).status_code == 401
    assert client.get("/api/status", headers={"authorization": f"Bearer {TOKEN}"}).status_code == 200
    assert client.get("/api/status", headers={"cookie": "unheard_token=wrong"}).status_code == 401
    assert client.get("/?token=wrong").status_code == 401
    assert client.get("/api/status", headers={"host": "evil.example:8000"}).status_code == 421
    welcome = client.get(f"/?token={TOKEN}", follow_redirects=False)
    assert welcome.status_code == 303 and "HttpOnly" in welcome.headers["set-cookie"]
    assert client.get("/api/status").status_code == 200  # the cookie
    assert TOKEN in Address("0.0.0.0", 8000, TOKEN).url


@pytest.mark.parametrize(
    ("host", "alone"), [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False)]
)
def test_only_the_loopback_interface_needs_no_token(host, alone) -> None:
    assert is_loopback(host) is alone


def test_large_bodies_are_refused(served: Served) -> None:
    response = served.client.post("/api/reconstruct", content=b" " * (SMALL.body_bytes + 1))
    assert response.status_code == 413
    chunks = (b" " * 5000 for _ in range(9))
    headers = {"content-type": "application/json"}
    assert served.client.post("/api/reconstruct", content=chunks, headers=headers).status_code in (400, 413)


@pytest.mark.parametrize("path", ["/api/sounds", "/api/reconstruct"])
def test_a_slow_body_is_given_up(served: Served, path: str) -> None:
    async def slowly():
        for _ in range(50):
            yield b"RIFF"
            await asyncio.sleep(0.1)

    async def send() -> int:
        transport = httpx2.ASGITransport(served.app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000") as client:
            headers = {"content-type": "application/json"}
            return (await client.post(path, content=slowly(), headers=headers)).status_code

    assert asyncio.run(send()) in (400, 408)


def test_websockets_are_closed() -> None:
    sent = []

    async def send(message) -> None:
        sent.append(message["type"])

    async def none() -> dict:
        return {}

    guard = Guard(none, Address(), Limits())
    asyncio.run(guard({"type": "websocket"}, none, send))
    assert sent == ["websocket.close"]


def test_a_full_queue_is_refused_with_the_time_to_wait() -> None:
    jobs, go = Jobs(Limits(workers=1, queue=1)), Event()

    async def three() -> list:
        first, second = (asyncio.create_task(jobs.run(go.wait)) for _ in range(2))
        await asyncio.sleep(0.05)
        with pytest.raises(RefusedError) as refused:
            await jobs.run(go.wait)
        go.set()
        return [await first, await second, refused.value, await jobs.run(lambda: "free again")]

    first, second, error, after = asyncio.run(three())
    assert first and second and (error.status, error.headers) == (503, {"Retry-After": "1"}) and after == "free again"


def test_clients_at_the_same_time_get_their_own_results(served: Served) -> None:
    ids = list(served.ids().values())[:8]

    def ask(sound: str) -> tuple:
        found = served.client.post("/api/reconstruct", json={"sound": sound})
        return found.status_code, found.json()["error"]

    alone = [ask(sound) for sound in ids]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, ids)) == alone


def test_an_empty_host_is_not_every_interface() -> None:
    with pytest.raises(ConfigError, match="the host is empty"):
        server.serve("random-tiny", host="")
