"""Who may send requests: checks of Host, Origin and token, limits of the body, and headers of the responses.

A page of another site can send requests to a server on the loopback interface. It cannot read a response, unless its
own name leads here (DNS rebinding). Host must therefore be this server, Origin must be this page, and a browser must
not report another site. A server that is bound elsewhere asks for a token as well.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import json
import socket
import time
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from unheard.serving.limits import Limits, RefusedError

COOKIE = "unheard_token"
UPLOAD_PATH = "/api/sounds"

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})

SECURITY = (
    (
        b"content-security-policy",
        b"default-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; object-src 'none'; base-uri 'none';"
        b" form-action 'none'; frame-ancestors 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
)


@dataclass(frozen=True)
class Address:
    """Where a server is bound.

    Parameters
    ----------
    host : str
    port : int
    token : str
        Required of every request; empty: none, for the loopback interface.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    token: str = ""

    @property
    def url(self) -> str:
        """Return the address of the page."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}/" + (f"?token={self.token}" if self.token else "")

    def is_own(self, host: str) -> bool:
        """Return whether a Host header names this server."""
        try:
            parts = urlsplit(f"//{host}")
            name, port = (parts.hostname or "").rstrip("."), parts.port or 80
        except ValueError:
            return False
        if port != self.port or parts.username is not None or parts.path:
            return False
        if not self.token:
            return name in LOOPBACK
        return name in {self.host, socket.gethostname().lower(), *LOOPBACK} or _is_address(name)


def is_loopback(host: str) -> bool:
    """Return whether a server bound to this host is reached from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _is_address(name: str) -> bool:
    """Return whether a host is an IP address: no name was resolved, so none can be rebound."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


class Guard:
    """Middleware that refuses requests of others, and bodies that are too large or too slow."""

    def __init__(self, app: ASGIApp, address: Address, limits: Limits) -> None:
        self.app, self.address, self.limits = app, address, limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer or pass on one request."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        secured = _with_headers(send)
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        try:
            self._check_sender(scope, headers)
            if self._gives_token(scope):
                await _welcome(self.address.token, secured)
                return
            self._check_token(headers)
            most = self.limits.upload_bytes if scope["path"] == UPLOAD_PATH else self.limits.body_bytes
            _check_length(headers, most)
        except RefusedError as error:
            await _refuse(error, secured)
            return
        await self.app(scope, _bounded(receive, most, self.limits.body_timeout), secured)

    def _check_sender(self, scope: Scope, headers: dict[str, str]) -> None:
        host, origin = headers.get("host", ""), headers.get("origin")
        if not self.address.is_own(host):
            raise RefusedError(421, f"this server is not {host[:100]!r}; open the address that unheard serve printed")
        if origin is not None and origin.lower() != f"http://{host}".lower():
            raise RefusedError(403, "the request comes from a page of another origin")
        site = headers.get("sec-fetch-site", "none")
        if site not in ("none", "same-origin") and scope["path"] != "/":
            raise RefusedError(403, "the request comes from another site")

    def _gives_token(self, scope: Scope) -> bool:
        """Return whether the address of the page holds the token, which then becomes a cookie."""
        given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
        return bool(self.address.token) and scope["path"] == "/" and self._is_token(given)

    def _check_token(self, headers: dict[str, str]) -> None:
        if not self.address.token:
            return
        scheme, _, bearer = headers.get("authorization", "").partition(" ")
        cookies: SimpleCookie = SimpleCookie()
        try:
            cookies.load(headers.get("cookie", ""))
        except CookieError:
            cookies = SimpleCookie()
        cookie = cookies[COOKIE].value if COOKIE in cookies else ""
        if not self._is_token(bearer if scheme.lower() == "bearer" else cookie):
            message = "a token is required: open the address that unheard serve printed, or send it as a bearer token"
            raise RefusedError(401, message, {"WWW-Authenticate": "Bearer"})

    def _is_token(self, given: str) -> bool:
        return hmac.compare_digest(given.encode(), self.address.token.encode())


def _check_length(headers: dict[str, str], most: int) -> None:
    declared = headers.get("content-length", "0")
    if not declared.isdecimal() or int(declared) > most:
        raise RefusedError(413, f"the body may have at most {most} bytes")


def _bounded(receive: Receive, most: int, seconds: float) -> Receive:
    """Return ``receive`` that refuses a body of more than ``most`` bytes, or that takes longer than ``seconds``."""
    came, ended, began = 0, False, time.monotonic()

    async def bounded() -> Message:
        nonlocal came, ended
        if ended:
            return await receive()
        try:
            message = await asyncio.wait_for(receive(), max(0.01, began + seconds - time.monotonic()))
        except TimeoutError:
            raise RefusedError(408, f"the body did not arrive within {seconds:g} s", {"Connection": "close"}) from None
        came += len(message.get("body", b""))
        ended = message["type"] != "http.request" or not message.get("more_body", False)
        if came > most:
            raise RefusedError(413, f"the body may have at most {most} bytes", {"Connection": "close"})
        return message

    return bounded


def _with_headers(send: Send) -> Send:
    async def secured(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message["headers"], *SECURITY]
        await send(message)

    return secured


async def _refuse(error: RefusedError, send: Send) -> None:
    headers = {"Content-Type": "application/json", **error.headers}
    await _respond(error.status, headers, json.dumps({"detail": str(error)}).encode(), send)


async def _welcome(token: str, send: Send) -> None:
    """Store the token as a cookie, and open the page without it in its address."""
    cookie = f"{COOKIE}={token}; Path=/; HttpOnly; SameSite=Strict"
    await _respond(303, {"Location": "/", "Set-Cookie": cookie, "Cache-Control": "no-store"}, b"", send)


async def _respond(status: int, headers: dict[str, str], body: bytes, send: Send) -> None:
    pairs = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    pairs.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": pairs})
    await send({"type": "http.response.body", "body": body})
