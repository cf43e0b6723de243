"""With shuffle=blocks, shards of a later step are in memory before their windows are cut."""

from __future__ import annotations

import ctypes
import mmap
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

from unheard.audio.frontend import MSM_MAE_16K, Statistics
from unheard.data import loader as loaders
from unheard.data.corpus import open_corpus
from unheard.data.loader import PretrainLoader
from unheard.data.mapping import open_store
from unheard.data.pack import pack
from unheard.data.pack_clip import PackConfig
from unheard.data.prefetch import BatchPlan, RankSlice
from unheard.data.store import Store
from unheard.data.windows import reading_ahead
from unheard.data.windows.crops import CropSampler
from unheard.data.windows.reading_ahead import ShardReader
from unheard.model.patches import Grid

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="mincore and posix_fadvise are functions of Linux")
SHARDS, BATCH = 6, 4
SHARD = 4 * 200 * 80 * 2
"""Bytes of a shard: four sounds."""
GRID = Grid.of(80, 32, (16, 16))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A corpus of six shards, none of them in memory."""
    (tmp_path / "sounds").mkdir()
    generator = np.random.default_rng(0)
    for number in range(4 * SHARDS):
        soundfile.write(tmp_path / "sounds" / f"{number:02}.wav", generator.normal(0, 0.1, 2 * 16000), 16000)
    pack(open_corpus(tmp_path / "sounds"), PackConfig(MSM_MAE_16K), tmp_path / "packed", 1, shard_bytes=SHARD)
    opened = open_store(tmp_path / "packed")
    assert len(opened.files) == SHARDS
    for file in opened.files:
        forget(file)
    return opened


def forget(file: Path) -> None:
    """Drop a file from the memory of the operating system."""
    with file.open("r+b") as opened:
        os.fsync(opened.fileno())
        os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    if in_memory(file) > 0:
        pytest.skip("this file system keeps the file in memory")


def in_memory(file: Path) -> float:
    """Return the fraction of the pages of a file that is in memory, without reading any."""
    mapped = np.memmap(file, np.uint8, "r")
    pages = (ctypes.c_ubyte * -(-mapped.nbytes // mmap.PAGESIZE))()
    place = ctypes.c_void_p(mapped.ctypes.data)
    assert ctypes.CDLL(None).mincore(place, ctypes.c_size_t(mapped.nbytes), pages) == 0
    return sum(page & 1 for page in pages) / len(pages)


def eventually(found: Callable[[], bool]) -> bool:
    end = time.monotonic() + 20
    while not found() and time.monotonic() < end:
        time.sleep(0.01)
    return found()


def loader(store: Store, blocks: bool) -> PretrainLoader:
    sampler = CropSampler(store.frames, 32, seed=1)
    if blocks:
        sampler.shuffle_blocks(np.searchsorted(store.index.shard, np.arange(SHARDS + 1)), 2)
    plan = BatchPlan(range(2), RankSlice(BATCH))
    return PretrainLoader(store, sampler, GRID, Statistics((0.0,), (1.0,)), plan)


def test_the_shards_of_a_later_step_are_read_before_it(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    made = loader(store, blocks=True)
    half = made.epoch_size // BATCH // 2
    monkeypatch.setattr(loaders, "AHEAD", half)
    now, later = (set(store.index.shard[made.clips_of(step)].tolist()) for step in (0, half))
    assert not now & later
    with made:
        made.batch(0)
        assert eventually(lambda: all(in_memory(store.files[number]) == 1 for number in later))
        rest = set(range(SHARDS)) - now - later
        assert all(in_memory(store.files[number]) == 0 for number in rest)


def test_windows_of_all_shards_in_random_order_read_nothing_ahead(store: Store) -> None:
    made = loader(store, blocks=False)
    with made:
        made.batch(0)
        assert made._reader is None


def test_batches_are_the_same_with_and_without_reading_ahead(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    with loader(store, blocks=True) as made:
        ahead = [batch.spec for batch in made]
    monkeypatch.setattr(ShardReader, "expect", lambda self, numbers: None)
    with loader(store, blocks=True) as made:
        assert all(bool((batch.spec == other).all()) for batch, other in zip(made, ahead, strict=True))


def test_the_end_of_a_loader_stops_the_reads(store: Store, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    reader = ShardReader([tmp_path / "pipe", store.files[0]])
    reader.expect([0, 1])
    with (tmp_path / "pipe").open("wb") as pipe:  # the thread reads it until it is closed
        pipe.write(b"shard")
        reader.close()
    assert reader._thread is not None
    reader._thread.join(10)
    assert not reader._thread.is_alive() and in_memory(store.files[0]) == 0


def test_shards_that_a_small_batch_leaves_out_are_not_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading_ahead, "AWAY", 5)
    monkeypatch.setattr(reading_ahead, "Thread", lambda **given: SimpleNamespace(start=lambda: None))
    reader = ShardReader([Path(str(number)) for number in range(4)])
    for step in range(20):
        reader.expect([step % 3])
    assert [reader._queue.get() for _ in range(reader._queue.qsize())] == [Path("0"), Path("1"), Path("2")]
    for _ in range(6):
        reader.expect([3])
    reader.expect([0, 3])
    assert [reader._queue.get() for _ in range(reader._queue.qsize())] == [Path("3"), Path("0")]


def test_a_shard_is_read_once_for_steps_in_a_row_and_a_missing_one_is_skipped(store: Store) -> None:
    reader = ShardReader([Path("missing"), *store.files])
    for _ in range(3):
        reader.expect([0, 1])
    assert eventually(lambda: in_memory(store.files[0]) == 1)
    forget(store.files[0])
    reader.expect([1, 2])
    assert eventually(lambda: in_memory(store.files[1]) == 1) and in_memory(store.files[0]) == 0
    reader.close()
