"""The cache of copies from addresses: its limit holds with several readers, threads and processes."""

from __future__ import annotations

import errno
import gc
import os
import threading
import time
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from unheard.errors import ConfigError, RemoteError
from unheard.remote import access, cache
from unheard.remote.cache import FileCache
from unheard.remote.reading import open_file
from unheard.remote.shards import RemoteShards, Shard

SIZE = 1_000_000
"""Bytes of a file."""
LIMIT = 2_500_000
"""Bytes of the cache: two files fit."""


@pytest.fixture
def files(memory: str, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The addresses of five files, and a cache for two of them."""
    monkeypatch.setenv(cache.LIMIT, str(LIMIT / 1e9))
    addresses = [f"{memory}/{number}" for number in range(5)]
    for number, address in enumerate(addresses):
        system, path = access.file_system(address)
        system.pipe_file(path, bytes([number]) * SIZE)
    return addresses


def shard(address: str) -> Shard:
    """Return a file as an array."""
    return Shard(address, "", (SIZE,), "uint8")


def copies(folder: Path) -> list[Path]:
    """Return all files of 1 MB in the cache, the unfinished ones included."""
    return [path for path in folder.rglob("*") if path.is_file() and path.stat().st_size]


def numbers(folder: Path) -> list[int]:
    """Return the numbers of the files that have a copy."""
    return sorted(path.read_bytes()[0] for path in copies(folder))


def test_copies_that_were_used_last_are_kept(files: list[str], place: Path) -> None:
    for number, moment in ((0, 1), (1, 2), (0, 3)):
        with open_file(files[number]) as file:
            os.utime(file.name, (moment, moment))
    open_file(files[2]).close()
    assert numbers(place) == [0, 2]


def test_an_open_copy_is_not_deleted(files: list[str]) -> None:
    with open_file(files[0]) as first:
        for number in (1, 2, 3):
            open_file(files[number]).close()
        assert Path(first.name).is_file()


def test_open_copies_over_the_limit_are_deleted_when_they_are_closed(files: list[str], place: Path) -> None:
    opened = [open_file(address) for address in files[:3]]
    assert numbers(place) == [0, 1, 2]
    opened[1].close()
    assert numbers(place) == [0, 2]
    for file in opened:
        file.close()
    assert numbers(place) == [0, 2]


def test_mapped_copies_over_the_limit_are_deleted_when_they_are_released(files: list[str], place: Path) -> None:
    shards = RemoteShards([shard(address) for address in files])
    parts = [shards[number][5:10] for number in range(4)]
    assert numbers(place) == [0, 1, 2, 3]
    assert [part.tolist() for part in parts] == [[number] * 5 for number in range(4)]
    del parts, shards
    gc.collect()
    assert len(numbers(place)) == 2


def test_copies_of_another_process_are_deleted_when_it_closes_them(files: list[str], place: Path) -> None:
    """Another `FileCache` of the same folder has locks and totals of its own, as another process has."""
    ours, others = (FileCache(place, LIMIT) for _ in range(2))
    kept = [others.open(address) for address in files[:2]]
    ours.open(files[2]).close()
    for file in kept:
        file.close()
    assert len(numbers(place)) <= 2
    ours.open(files[3]).close()
    others.open(files[4]).close()
    assert len(numbers(place)) == 2


def test_downloads_at_the_same_time_share_the_limit(
    files: list[str], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = type(access.file_system(files[0])[0])
    running, most, lock, get_file = set[str](), [0], threading.Lock(), kind.get_file

    def slow(system: object, path: str, target: str) -> None:
        with lock:
            running.add(path)
            most.append(len(running))
        time.sleep(0.05)
        get_file(system, path, target)
        with lock:
            running.remove(path)

    monkeypatch.setattr(kind, "get_file", slow)
    threads = [threading.Thread(target=lambda address=address: open_file(address).close()) for address in files]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 1 <= max(most) <= 2 and len(numbers(place)) == 2


def test_downloads_at_the_same_time_share_the_disk(
    files: list[str], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(cache.LIMIT, "1")
    disk = 2_500_000  # two files fit
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(
        cache.shutil, "disk_usage", lambda folder: usage(disk - sum(each.stat().st_size for each in copies(place)))
    )
    open_file(files[0]).close()
    kind = type(access.file_system(files[0])[0])
    get_file = kind.get_file

    def slow(system: object, path: str, target: str) -> None:
        time.sleep(0.1)  # both downloads have room before one of them has written anything
        if usage(disk - sum(each.stat().st_size for each in copies(place))).free < SIZE:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        get_file(system, path, target)

    monkeypatch.setattr(kind, "get_file", slow)
    with ThreadPoolExecutor(2) as pool:
        for number, file in zip((1, 2), pool.map(open_file, files[1:3]), strict=True):
            assert file.read(1) == bytes([number])
            file.close()
    assert numbers(place) == [1, 2]


def test_shards_in_advance_fit_in_the_rest_of_the_cache(files: list[str], place: Path) -> None:
    shards = RemoteShards([shard(address) for address in files])
    shards.expect(range(5))
    np.testing.assert_array_equal(shards[0], 0)
    shards.expect(range(5))
    for future in shards._coming.values():
        future.result()
    assert numbers(place) == [0, 1]


def test_a_file_larger_than_the_cache_and_a_full_disk_are_named(
    files: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(cache.LIMIT, "0.0005")
    with pytest.raises(
        RemoteError, match=r"has 0.001 GB, more than the cache may have, 0.0005 GB; set UNHEARD_CACHE_GB"
    ):
        open_file(files[0])
    monkeypatch.setenv(cache.LIMIT, "1")
    monkeypatch.setattr(cache.FileCache, "_free", lambda self: 1000)
    with pytest.raises(RemoteError, match=r"the disk of the cache .* is full; free some space"):
        open_file(files[0])
    monkeypatch.setenv(cache.LIMIT, "much")
    with pytest.raises(ConfigError, match="UNHEARD_CACHE_GB is 'much'"):
        open_file(files[0])


def test_a_copy_that_differs_from_its_checksum_is_not_kept(files: list[str], place: Path) -> None:
    with pytest.raises(RemoteError, match="it differs from its checksum"):
        open_file(files[0], sha256="0" * 64)
    assert not copies(place)


def test_a_cache_that_cannot_be_written_is_named(files: list[str], place: Path) -> None:
    place.mkdir()
    (place / "files").touch()
    with pytest.raises(RemoteError, match=r"the cache .* cannot be written .*; set UNHEARD_CACHE to another folder"):
        open_file(files[0])
