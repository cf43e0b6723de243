"""Limits of the server, and the errors of requests that exceed them."""

from __future__ import annotations

from dataclasses import dataclass, field

from unheard.errors import UnheardError


@dataclass(frozen=True)
class Limits:
    """What one server accepts; all values are our choice.

    Parameters
    ----------
    upload_bytes, upload_seconds : int, float
        Largest upload, and its longest sound.
    body_bytes : int
        Largest body of any other request.
    body_timeout : float
        Seconds in which the body of a request must arrive.
    held_bytes : int
        Memory of all uploads together; the oldest ones are dropped.
    workers : int
        Requests that are computed at once, each in a thread.
    queue : int
        Requests that wait for a thread; further ones are refused.
    """

    upload_bytes: int = 32 << 20
    upload_seconds: float = 300.0
    body_bytes: int = 1 << 20
    body_timeout: float = 30.0
    held_bytes: int = 512 << 20
    workers: int = 2
    queue: int = 32


@dataclass
class RefusedError(UnheardError):
    """A request that is refused, with its HTTP status.

    Parameters
    ----------
    status : int
    message : str
        What is wrong, and what is accepted.
    headers : dict of str to str
        Further headers of the response.
    """

    status: int
    message: str
    headers: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.message


def not_found(sound: str) -> RefusedError:
    """Return the error for an unknown id of a sound."""
    return RefusedError(404, f"there is no sound {sound[:40]!r}; upload it again, or give an id of GET /api/files")
