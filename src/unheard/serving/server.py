"""Start the server."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Callable
from pathlib import Path

from unheard.embedding.loading import load
from unheard.errors import ConfigError, require
from unheard.serving.guard import Address, is_loopback
from unheard.serving.limits import Limits

GRACE = 3
"""Seconds in which open requests may end when the server stops (our choice)."""


def serve(
    model: str | Path,
    folder: str | Path | None = None,
    *,
    labels: str | Path = "labels.csv",
    host: str = "127.0.0.1",
    port: int = 8000,
    device: str = "auto",
    ready: Callable[[Address], None] = lambda _: None,
) -> None:
    """Serve the local page of a model until the process is interrupted.

    Parameters
    ----------
    folder : path, optional
        Sound files for the map, the search and the labels.
    labels : path
        Where labels of the page are stored; classifiers are saved next to it.
    host, port : str, int
        Where to bind. Any host but the loopback interface requires a token, which is part of the address.
    ready : callable
        Called with the address before requests are accepted.

    Raises
    ------
    ConfigError
        When the port is taken, or the host is empty or not one of this machine.
    UnheardError
        When the extra ``serve`` is not installed, or the model or the folder cannot be used.
    """
    for package in ("fastapi", "uvicorn"):
        require(package, "serve")
    import uvicorn

    if not host.strip():  # the system would take it for every interface
        raise ConfigError("the host is empty; give an address such as 127.0.0.1")
    from unheard.serving.app import build_app
    from unheard.serving.folder_vectors import FolderVectors, default_cache
    from unheard.serving.library import Library
    from unheard.serving.workbench import Workbench

    address = Address(host, port, "" if is_loopback(host) else secrets.token_urlsafe(24))
    bound = _bind(host, port)
    with bound:
        library = None if folder is None else Library(Path(folder))
        limits = Limits()
        opened = load(model, device)
        vectors = None if library is None else FolderVectors(opened, library, default_cache())
        bench = Workbench(opened, library, limits, vectors, Path(labels))
        if library is not None and Path(labels).exists():
            _ = bench.label_file  # a table of others is refused before anything is served
        config = uvicorn.Config(
            build_app(bench, address),
            log_level="warning",
            server_header=False,
            timeout_keep_alive=15,
            timeout_graceful_shutdown=GRACE,
            limit_concurrency=4 * (limits.workers + limits.queue),
        )
        ready(address)
        if vectors is not None:
            vectors.start()
        try:
            uvicorn.Server(config).run(sockets=[bound])
        finally:
            bench.close()


def _bind(host: str, port: int) -> socket.socket:
    """Return a socket that is bound to the address, before the model is loaded."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
    except (OSError, OverflowError) as error:
        bound.close()
        raise ConfigError(
            f"cannot serve on {host} port {port} ({getattr(error, 'strerror', None) or error}); choose another --port"
            " from 1024 to 65535, or another --host"
        ) from error
    return bound
