"""Shards that a background thread reads before windows are cut from them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from queue import SimpleQueue
from threading import Event, Thread

CHUNK = 2**20
"""Bytes of one read."""
AWAY = 1000
"""Steps without a shard after which it is read again: a small batch has no window of some shards (our choice)."""


class ShardReader:
    """Reads whole files in a thread, so that the operating system has them in memory when windows are cut.

    Windows in random order are small reads at random places of a mapped file. Reading the file from its start took a
    ninth of their time on one disk, and `madvise` read only a part of the file (docs/log.md, 2026-11-30).

    Parameters
    ----------
    files : sequence of Path
        Shards, by number.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        self.files = files
        self._step, self._latest = 0, dict[int, int]()  # the latest step of each shard that was read
        self._queue: SimpleQueue[Path] = SimpleQueue()
        self._stop = Event()
        self._thread: Thread | None = None

    def expect(self, numbers: Iterable[int]) -> None:
        """Read the shards of a later step, except those of one of the `AWAY` steps before it."""
        self._step += 1
        for number in sorted(set(numbers)):
            if self._step - self._latest.get(number, -AWAY) > AWAY:
                self._queue.put(self.files[number])
            self._latest[number] = self._step
        if self._thread is None:
            self._thread = Thread(target=self._run, name="shards", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Stop the thread after its current read."""
        self._stop.set()
        self._queue.put(Path())  # the thread may wait for a file

    def _run(self) -> None:
        buffer = bytearray(CHUNK)
        while not self._stop.is_set():
            path = self._queue.get()
            try:
                with path.open("rb", buffering=0) as file:
                    while not self._stop.is_set() and file.readinto(buffer):
                        pass
            except OSError:  # the thread that cuts windows meets the same error and raises it
                continue
