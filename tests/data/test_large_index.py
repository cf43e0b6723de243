"""The index of a large packed corpus is mapped: opening it and sampling from it need little memory of the process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from unheard.audio.frontend import LogMelConfig, Statistics
from unheard.data.mapping import map_arrays, open_store
from unheard.data.shard_layout import HEADER, Header, Index, Texts, describe, shard_name
from unheard.data.shard_writing import write_summary
from unheard.errors import DataError

CLIPS, SHARDS, CEILING = 500_000, 3, 24

SAMPLE = """
import sys
import numpy as np
from unheard.data.mapping import open_store
from unheard.data.windows.crops import CropSampler

def private():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) // 1024

before = private()
store = open_store(sys.argv[1])
sampler = CropSampler(store.frames, 208, 0)
ids, starts = sampler.draw(*sampler.positions(10**6, 512))
domains, numbers = store.categories("domain")
assert (domains, numbers.dtype.itemsize, len(numbers)) == (["speech"], 4, len(store))
balanced = CropSampler(store.frames, 208, 0, domains=numbers)
assert len(set(balanced.draw(*balanced.positions(10**6, 512))[0].tolist())) > 500
print(private() - before, len(store), len(set(ids.tolist())), store.names[len(store) - 1])
"""


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a packed corpus of many clips, whose shards are holes of sparse files."""
    folder = tmp_path_factory.mktemp("large")
    frames = np.random.default_rng(0).integers(100, 1001, CLIPS)
    shard, offset = np.arange(CLIPS) * SHARDS // CLIPS, np.zeros(CLIPS, np.int64)
    for number in range(SHARDS):
        ends = np.cumsum(frames[shard == number])
        offset[shard == number] = ends - frames[shard == number]
        (folder / shard_name(number)).touch()
        os.truncate(folder / shard_name(number), int(ends[-1]) * 80 * 2)
    names = Texts.of([f"audio/{clip:08d}.flac" for clip in range(CLIPS)])
    index = Index(shard, offset, frames, names, Texts.of(["speech"] * CLIPS), np.zeros(CLIPS), frames * 0.01)
    header = Header(
        LogMelConfig(), "float16", Statistics((0.0,), (1.0,)), Statistics((0.0,) * 80, (1.0,) * 80), "large"
    )
    write_summary(folder, (HEADER, describe(header, index)), index.arrays(), ["0"] * SHARDS)
    return folder


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="private memory is read from /proc")
def test_a_large_index_costs_little_memory(large: Path) -> None:
    output = subprocess.run(
        [sys.executable, "-c", SAMPLE, str(large)], check=True, capture_output=True, text=True
    ).stdout
    grown, clips, drawn, last = output.split()
    assert (int(clips), last) == (CLIPS, f"audio/{CLIPS - 1:08d}.flac")
    assert int(drawn) > 500
    assert int(grown) < CEILING, f"{grown} MB"


def test_mapped_columns_are_those_that_were_written(large: Path) -> None:
    store = open_store(large)
    assert [len(shard) for shard in store.shards] == [
        int(store.frames[store.index.shard == number].sum()) for number in range(SHARDS)
    ]
    assert [store.names[clip] for clip in (0, 1, CLIPS // 2)] == [
        "audio/00000000.flac",
        "audio/00000001.flac",
        f"audio/{CLIPS // 2:08d}.flac",
    ]
    assert store.index.domain[CLIPS - 1] == "speech" and store.seconds_total == pytest.approx(store.frames.sum() / 100)


def test_files_that_cannot_be_mapped_are_refused(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "small.npz", a=np.zeros(3))
    np.savez(tmp_path / "objects.npz", a=np.array([{}]))
    (tmp_path / "text.npz").write_text("no zip")
    for name in ("small.npz", "objects.npz", "text.npz"):
        with pytest.raises(ValueError, match="compressed|objects|damaged"):
            map_arrays(tmp_path / name)
    np.savez(tmp_path / "whole.npz", a=np.arange(6).reshape(2, 3), b=np.zeros((0, 4)), c=np.float32(2))
    found = map_arrays(tmp_path / "whole.npz")
    assert found["a"].tolist() == [[0, 1, 2], [3, 4, 5]] and found["b"].shape == (0, 4) and found["c"] == 2


def test_a_long_text_does_not_make_the_index_long(tmp_path: Path) -> None:
    texts = ["a" * 100_000, "", "b\udcff", "ü|x", *[""] * 5000]
    index = Texts.of(texts)
    assert index.tolist() == list(index) == texts and index[3] == "ü|x"
    assert sum(values.nbytes for values in vars(index).values()) < 200_000


def test_a_damaged_index_is_named(large: Path, tmp_path: Path) -> None:
    for file in large.iterdir():
        (tmp_path / file.name).symlink_to(file)
    data = bytearray((large / "index.npz").read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "index.npz").unlink()
    (tmp_path / "index.npz").write_bytes(data)
    with pytest.raises(DataError, match=r"index\.npz is missing or differs"):
        open_store(tmp_path)
