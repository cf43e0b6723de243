"""Arrays in files at addresses, mapped from the local cache when they are used."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from threading import Lock
from typing import Any
from weakref import finalize

import numpy as np
from numpy.typing import NDArray

from unheard.errors import RemoteError, shown
from unheard.remote.cache import cache_limit
from unheard.remote.reading import open_file

Array = NDArray[Any]

MAPPED = 0.5
"""Largest part of the cache that stays mapped, and so cannot be deleted; the rest is for downloads (our choice)."""
DOWNLOADS = 4
"""Shards that are downloaded at once in advance (our choice)."""


@dataclass(frozen=True)
class Shard:
    """A file at an address that holds one array.

    Parameters
    ----------
    address, sha256 : str
    shape : tuple of int
    dtype : str
    """

    address: str
    sha256: str
    shape: tuple[int, ...]
    dtype: str

    @property
    def nbytes(self) -> int:
        """Return the bytes of the array."""
        return int(np.prod(self.shape)) * np.dtype(self.dtype).itemsize


class RemoteShards:
    """Arrays of a corpus at an address. Each is downloaded when it is used, and compared with its checksum.

    Parameters
    ----------
    shards : sequence of Shard
    """

    def __init__(self, shards: Sequence[Shard]) -> None:
        self.shards = list(shards)
        self._mapped: OrderedDict[int, Array] = OrderedDict()
        self._lock = Lock()
        self._pool = ThreadPoolExecutor(DOWNLOADS, thread_name_prefix="shards")
        self._coming: dict[int, Future[None]] = {}

    def __len__(self) -> int:
        return len(self.shards)

    @property
    def nbytes(self) -> int:
        """Return the bytes of all arrays."""
        return sum(shard.nbytes for shard in self.shards)

    def __getitem__(self, number: int) -> Array:
        with self._lock:
            if number in self._mapped:
                self._mapped.move_to_end(number)
                return self._mapped[number]
        coming = self._coming.pop(number, None)
        if coming is not None:
            coming.result()
        mapped = self._map(self.shards[number])
        with self._lock:
            self._mapped[number] = mapped
            while len(self._mapped) > 1 and sum(each.nbytes for each in self._mapped.values()) > MAPPED * cache_limit():
                self._mapped.popitem(last=False)
        return mapped

    def expect(self, numbers: Iterable[int]) -> None:
        """Download shards in the background that will be used soon."""
        for number in sorted(set(numbers)):
            if number not in self._mapped and number not in self._coming and self._has_room(self.shards[number]):
                self._coming[number] = self._pool.submit(self._download, self.shards[number])

    def _has_room(self, shard: Shard) -> bool:
        """Return whether a shard may be downloaded in advance, next to those that are not used yet."""
        coming = [self.shards[number].nbytes for number in list(self._coming)]
        return not coming or (
            len(coming) < 2 * DOWNLOADS and sum(coming) + shard.nbytes <= (1 - MAPPED) * cache_limit()
        )

    @staticmethod
    def _download(shard: Shard) -> None:
        open_file(shard.address, shard.sha256).close()

    @staticmethod
    def _map(shard: Shard) -> Array:
        if not shard.nbytes:  # an empty file cannot be mapped
            return np.empty(shard.shape, shard.dtype)
        file = open_file(shard.address, shard.sha256)
        try:
            mapped: Array = np.memmap(file.name, shard.dtype, mode="r", shape=shard.shape)
        except ValueError as error:
            file.close()
            raise RemoteError(
                f"{shown(shard.address)}: does not have {shard.nbytes} bytes; copy it again, or pack the corpus again"
            ) from error
        finalize(mapped, file.close)  # locked as long as a view of the array is used
        return mapped
