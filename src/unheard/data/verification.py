"""Compare a packed corpus with its checksums during training."""

from __future__ import annotations

from threading import Thread

from unheard.data.store import Store
from unheard.errors import DataError


class Verification:
    """Reads every shard of a store once, in its own thread, and compares it with its checksum.

    Parameters
    ----------
    store : Store
        A store in memory is not read.
    """

    def __init__(self, store: Store) -> None:
        self._error: DataError | None = None
        self._thread = Thread(target=self._run, args=(store,), daemon=True)
        self._thread.start()

    def check(self, wait: bool = False) -> None:
        """Raise the error found so far; with ``wait``, after all shards are read.

        Raises
        ------
        DataError
            Naming the damaged shards.
        """
        if wait:
            self._thread.join()
        if self._error is not None:
            raise self._error

    def _run(self, store: Store) -> None:
        try:
            store.verify()
        except (DataError, OSError) as error:
            self._error = (
                error if isinstance(error, DataError) else DataError(f"{store.folder} cannot be read ({error})")
            )
