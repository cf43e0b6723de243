"""Run blocking work in a few threads, with a queue of limited length."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from threading import Semaphore
from typing import Any, ParamSpec, TypeVar

from unheard.serving.limits import Limits, RefusedError

P = ParamSpec("P")
Result = TypeVar("Result")

RETRY_AFTER = 1
"""Seconds after which a refused client may try again (our choice)."""


class Jobs:
    """Threads for work that would block the event loop.

    Parameters
    ----------
    limits : Limits
        Number of threads, and of requests that wait for one.
    """

    def __init__(self, limits: Limits) -> None:
        self._pool = ThreadPoolExecutor(limits.workers, thread_name_prefix="unheard-serve")
        self._places = Semaphore(limits.workers + limits.queue)

    async def run(self, work: Callable[P, Result], *args: P.args, **kwargs: P.kwargs) -> Result:
        """Return the result of ``work``, computed in a thread.

        Raises
        ------
        RefusedError
            With status 503, when the queue is full.
        """
        if not self._places.acquire(blocking=False):
            raise RefusedError(503, "the server is busy; try again in a moment", {"Retry-After": str(RETRY_AFTER)})
        try:
            future = self._pool.submit(partial(work, *args, **kwargs))
        except RuntimeError:  # the pool is closed
            self._places.release()
            raise RefusedError(503, "the server stops", {"Retry-After": str(RETRY_AFTER)}) from None
        future.add_done_callback(self._release)  # a client that leaves does not free the place: the thread still works
        return await asyncio.wrap_future(future)

    def _release(self, _: Future[Any]) -> None:
        self._places.release()

    def close(self) -> None:
        """Drop the queue; running work ends by itself."""
        self._pool.shutdown(wait=False, cancel_futures=True)
