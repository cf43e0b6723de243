"""Samples of tar files: keys, neighbours, what cannot be read, and what resampling gives."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.evaluation.xares.made_xares import RATE, members, tone, wav, write_tar

from unheard.errors import DataError
from unheard.evaluation.xares.clips import batches, crops, padded, read_clips
from unheard.evaluation.xares.resampling import mono_at
from unheard.evaluation.xares.shards import Sample, count_samples, find_shards, read_samples

SOUND = tone(200, 0.2)


def read(shard: Path) -> tuple[list[Sample], list[str]]:
    skipped: list[str] = []
    return list(read_samples(shard, skipped.append)), skipped


def test_the_key_ends_at_the_first_dot_of_the_name(tmp_path: Path) -> None:
    content = json.dumps({"label": 1}).encode()
    shard = write_tar(
        tmp_path / "a.tar",
        [("v1.0/clip.far.WAV", wav(SOUND)), ("v1.0/clip.json", content), (".hidden.wav", b""), ("README", b"text")],
    )
    (sample,), skipped = read(shard)
    assert (sample.key, sample.rate, sample.record) == ("v1.0/clip", RATE, {"label": 1}) and not skipped
    assert np.array_equal(sample.channels, SOUND[None])


def test_a_sample_is_a_run_of_members_with_one_key(tmp_path: Path) -> None:
    first, second = members({"a": (SOUND, 1), "b": (-SOUND, 2)})[:2], members({"b": (-SOUND, 2)})
    later = members({"b": (SOUND, 3)})
    shard = write_tar(tmp_path / "a.tar", [first[0], second[0], second[1], *later, first[1]])
    (sample,), skipped = read(shard)  # the first sound and the first json of b; the json of a is elsewhere
    assert sample.key == "b" and sample.record == 2 and np.array_equal(sample.channels, -SOUND[None])
    assert skipped == ["a.tar: a has no json", "a.tar: a has no sound"]
    assert count_samples(shard) == 3


def test_what_cannot_be_read_is_named_and_left_out(tmp_path: Path) -> None:
    whole = members({"a": (SOUND, 1)})
    shard = write_tar(
        tmp_path / "a.tar",
        [*whole, ("b.wav", b"no sound"), ("b.json", b"{}"), ("c.wav", wav(SOUND)), ("c.json", b"{torn")],
    )
    found, skipped = read(shard)
    assert [sample.key for sample in found] == ["a"]
    assert len(skipped) == 2 and skipped[0].startswith("a.tar: b cannot be read") and "a.tar: c" in skipped[1]


@pytest.mark.parametrize("part", [0.3, 0.6, 0.95])
def test_a_truncated_tar_is_one_clear_error(tmp_path: Path, part: float) -> None:
    shard = write_tar(tmp_path / "a.tar", members({f"k{i}": (tone(200, 1.0, i), i) for i in range(4)}))
    content = shard.read_bytes()
    end = content.rstrip(b"\0")
    shard.write_bytes(end[: int(part * len(end))])
    with pytest.raises(DataError, match=r"a\.tar: it ends .*after \d files.*; download it again"):
        read(shard)


def test_a_damaged_header_after_silence_is_found(tmp_path: Path) -> None:
    """The zeros of the silence before it are not taken for the end of the file."""
    silence = wav(np.zeros(1000, np.float32))
    shard = write_tar(tmp_path / "a.tar", [("a.json", b"1"), ("a.wav", silence), *members({"b": (SOUND, 2)})])
    with tarfile.open(shard) as tar:
        header = tar.getmember("b.wav").offset
    content = bytearray(shard.read_bytes())
    content[header : header + 100] = b"x" * 100
    shard.write_bytes(content)
    with pytest.raises(DataError, match=rf"a\.tar: it is damaged after 2 files, at byte {header}"):
        read(shard)


def test_links_are_left_out(tmp_path: Path) -> None:
    """The reference reads files only."""
    shard = write_tar(tmp_path / "a.tar", members({"a": (SOUND, 1)}))
    with tarfile.open(shard, "a") as tar:
        for name, kind in (("b.wav", tarfile.LNKTYPE), ("b.json", tarfile.SYMTYPE)):
            link = tarfile.TarInfo(name)
            link.type, link.linkname = kind, f"a.{name.partition('.')[2]}"
            tar.addfile(link)
    (sample,), skipped = read(shard)
    assert sample.key == "a" and not skipped and count_samples(shard) == 1


def test_a_file_that_is_no_tar_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(b"<html>not found</html>" * 100)
    with pytest.raises(DataError, match=r"a\.tar: it is not a tar file"):
        read(tmp_path / "a.tar")


def test_shards_are_sorted_and_may_be_unpacked(tmp_path: Path) -> None:
    samples = [members({f"k{i}": (tone(200, 0.2, i), i)}) for i in range(3)]
    for index, part in enumerate(samples):
        write_tar(tmp_path / f"train-{index}.tar", part)
    packed = [sample for shard in find_shards(tmp_path, "train") for sample in read(shard)[0]]
    with tarfile.open(tmp_path / "train-1.tar") as tar:
        tar.extractall(tmp_path / "train-1", filter="data")
    assert len(find_shards(tmp_path, "train")) == 3  # the tar file counts, its folder does not
    (tmp_path / "train-1.tar").unlink()
    unpacked = [sample for shard in find_shards(tmp_path, "train") for sample in read(shard)[0]]
    assert [each.key for each in unpacked] == [each.key for each in packed] == ["k0", "k1", "k2"]
    assert np.array_equal(unpacked[1].channels, packed[1].channels)
    with pytest.raises(DataError, match="has no file test"):
        find_shards(tmp_path, "test")


def test_crops_are_consecutive_and_short_clips_are_padded() -> None:
    sound = np.arange(25, dtype=np.float32)[None]
    first, second = crops(Sample("a", sound, 10, None), 10, 1.0)
    assert np.array_equal(first.wav, np.arange(10)) and np.array_equal(second.wav, np.arange(10, 20))
    (short,) = crops(Sample("a", sound[:, :4], 10, None), 10, 1.0)
    assert short.wav.tolist() == [0, 1, 2, 3, 0, 0, 0, 0, 0, 0]
    (whole,) = crops(Sample("a", sound, 10, None), 10, None)
    assert len(whole.wav) == 25


def test_batches_cross_shards_and_are_padded_to_the_longest(tmp_path: Path) -> None:
    lengths = iter((0.5, 0.3, 0.4))
    shards = [
        write_tar(tmp_path / f"{name}.tar", members({name: (tone(200, next(lengths)), 0)})) for name in ("a", "b", "c")
    ]
    first, last = batches(read_clips(shards, RATE, None, print), 2)
    assert [clip.key for clip in first] == ["a", "b"] and [clip.key for clip in last] == ["c"]
    both = padded(first)
    assert both.shape == (2, RATE // 2) and not both[1, int(0.3 * RATE) :].any() and both[1, 1] == first[1].wav[1]


@pytest.mark.parametrize(("rate", "wanted"), [(3000, 2000), (2000, 3000), (44100, 16000), (8000, 8000)])
def test_a_tone_below_both_limits_survives_resampling(rate: int, wanted: int) -> None:
    sound = np.stack([tone(300, 1.0, rate=rate), 3 * tone(300, 1.0, rate=rate)])
    found = mono_at(sound, rate, wanted)
    assert len(found) == wanted
    inside = slice(wanted // 10, -wanted // 10)
    time = np.arange(wanted) / wanted
    expected = 0.6 * np.sin(2 * np.pi * 300 * time)
    assert np.corrcoef(found[inside], expected[inside])[0, 1] > 0.98
    assert found.dtype == np.float32 and torch.from_numpy(found).isfinite().all()
