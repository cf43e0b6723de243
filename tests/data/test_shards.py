"""Packed shards hold the output of the front end, do not depend on the workers, survive a kill, and refuse damage."""

from __future__ import annotations

import errno
import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given
from hypothesis import strategies as st

from unheard.audio.frontend import MATPAC, MSM_MAE_16K, LogMel
from unheard.audio.frontend_kinds import AnyFrontendConfig, build_frontend
from unheard.audio.kaldi import AUDIOMAE, MASKSPEC
from unheard.audio.waveform import read
from unheard.data import shard_writing
from unheard.data.corpus import Corpus, open_corpus
from unheard.data.mapping import open_store
from unheard.data.open_store import check_frontend
from unheard.data.pack import pack
from unheard.data.pack_clip import PackConfig
from unheard.data.shard_layout import dequantise, quantise, value_range
from unheard.data.store import SpecStore
from unheard.errors import ConfigError, DataError
from unheard.files import read_json, write_json
from unheard.outputs import locked_folder

SMALL = 40_000  # bytes of a shard in these tests: three or four clips


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    folder = tmp_path_factory.mktemp("sounds")
    rng = np.random.default_rng(0)
    for number in range(11):
        soundfile.write(folder / f"{number:02d}.wav", rng.normal(0, 0.1, rng.integers(200, 16000)), 16000)
    soundfile.write(folder / "03.flac", rng.normal(0, 0.1, 48000), 16000)
    (folder / "03.flac").write_bytes((folder / "03.flac").read_bytes()[:90])  # its header is fine
    (folder / "text.mp3").write_text("no sound")
    soundfile.write(folder / "silent.wav", np.zeros(4000), 44100)
    return open_corpus(folder)


@pytest.fixture(scope="module")
def store(corpus: Corpus) -> SpecStore:
    return pack(corpus, MSM_MAE_16K, shard_bytes=SMALL)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_a_packed_clip_is_the_front_ends(corpus: Corpus, store: SpecStore) -> None:
    assert len(store) == len(store.names) == 12
    for number, name in enumerate(store.names):
        spec = LogMel(MSM_MAE_16K).spectrogram_cpu(read(corpus.root / name, 16000)[0])
        assert store.frames[number] == len(spec)
        assert np.abs(store.clip(number) - spec).max() < 0.005


def test_statistics_are_those_of_all_frames(store: SpecStore) -> None:
    frames = np.concatenate([store.clip(number) for number in range(len(store))]).astype(np.float64)
    assert store.statistics.mean == pytest.approx([frames.mean()], abs=1e-3)
    assert store.statistics.std == pytest.approx([frames.std(ddof=1)], abs=1e-3)
    assert store.band_statistics.mean == pytest.approx(frames.mean(axis=0), abs=1e-3)
    assert store.band_statistics.std == pytest.approx(frames.std(axis=0, ddof=1), abs=1e-3)


def test_what_cannot_be_read_is_named_and_silence_is_kept(store: SpecStore) -> None:
    assert sorted(skipped.path for skipped in store.skipped) == ["03.flac", "text.mp3"]
    assert np.allclose(store.clip(list(store.names).index("silent.wav")), -15.942385, atol=0.005)


def test_parts_of_files_are_packed(corpus: Corpus) -> None:
    (corpus.root / "parts.csv").write_text("path,start,end,domain\n05.wav,0.1,0.3,a\n05.wav,0.2,,b\n")
    store = pack(open_corpus(corpus.root / "parts.csv"), MSM_MAE_16K)
    wav, _ = read(corpus.root / "05.wav", 16000)
    assert store.frames[0] == 1 + 3200 // 160
    assert np.abs(store.clip(1) - LogMel(MSM_MAE_16K).spectrogram_cpu(wav[3200:])).max() < 0.005
    assert store.index.domain.tolist() == ["a", "b"]


def test_a_part_of_a_clip_is_read_without_the_rest(store: SpecStore) -> None:
    longest = int(np.argmax(store.frames))
    whole = store.clip(longest)
    assert np.array_equal(store.clip(longest, 5, 7), whole[5:12])
    assert np.array_equal(store.clip(longest, 5), whole[5:])
    assert len(store.clip(longest, len(whole) - 3, 100)) == 3


@given(seed=st.integers(0, 2**31), width=st.integers(1, 200))
def test_gather_equals_plain_slicing(store: SpecStore, seed: int, width: int) -> None:
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, len(store), 9)
    starts = rng.integers(0, store.frames[ids])
    windows, real = store.gather(ids, starts, width)
    assert windows.shape == (9, width, 80)
    for window, n, number, start in zip(windows, real, ids, starts, strict=True):
        wanted = store.clip(int(number))[start : start + width]
        assert n == len(wanted)
        assert np.array_equal(window[:n].astype(np.float32), wanted)
        assert not window[n:].any()


def test_disk_and_memory_hold_the_same(corpus: Corpus, store: SpecStore, tmp_path: Path) -> None:
    written = pack(corpus, MSM_MAE_16K, tmp_path / "packed", shard_bytes=SMALL)
    for opened in (written, open_store(tmp_path / "packed")):
        opened.verify()
        assert opened.header.frontend == MSM_MAE_16K
        assert list(opened.names) == list(store.names)
        assert (opened.index.domain.tolist(), opened.skipped) == (store.index.domain.tolist(), store.skipped)
        assert (opened.statistics, opened.band_statistics) == (store.statistics, store.band_statistics)
        assert opened.fingerprint == store.fingerprint
        assert opened.seconds_total == store.seconds_total
        ids = np.arange(len(store))
        assert np.array_equal(opened.gather(ids, 0 * ids, 50)[0], store.gather(ids, 0 * ids, 50)[0])


@pytest.mark.parametrize("dtype", ["float16", "uint8"])
def test_the_bytes_do_not_depend_on_the_workers(corpus: Corpus, dtype: str, tmp_path: Path) -> None:
    for workers in (1, 3):
        pack(corpus, PackConfig(MSM_MAE_16K, dtype), tmp_path / str(workers), workers, shard_bytes=SMALL)
    assert contents(tmp_path / "1") == contents(tmp_path / "3")
    assert len(list((tmp_path / "1").glob("*.bin"))) > 1


@pytest.mark.parametrize("after", [1, 5, 9, 12])
def test_a_killed_run_continues_to_the_same_bytes(corpus: Corpus, after: int, tmp_path: Path) -> None:
    seen = []

    def killed(items: Iterable[object], total: int, description: str) -> Iterator[object]:
        for number, item in enumerate(items):
            if number == after:
                raise KeyboardInterrupt
            yield item

    def counted(items: Iterable[object], total: int, description: str) -> Iterator[object]:
        seen.append(total)
        yield from items

    pack(corpus, MSM_MAE_16K, tmp_path / "whole", shard_bytes=SMALL)
    with pytest.raises(KeyboardInterrupt):
        pack(corpus, MSM_MAE_16K, tmp_path / "resumed", track=killed, shard_bytes=SMALL)
    assert not list((tmp_path / "resumed").glob("*.part"))
    pack(corpus, MSM_MAE_16K, tmp_path / "resumed", track=counted, shard_bytes=SMALL)
    assert contents(tmp_path / "whole") == contents(tmp_path / "resumed")
    assert (seen[0] < len(corpus.clips)) == (after > 4)


def test_a_finished_corpus_is_opened_and_another_is_refused(corpus: Corpus, tmp_path: Path) -> None:
    first = pack(corpus, MSM_MAE_16K, tmp_path)
    assert pack(corpus, MSM_MAE_16K, tmp_path).fingerprint == first.fingerprint
    with pytest.raises(DataError, match="another packed corpus"):
        pack(corpus, MATPAC, tmp_path)


def test_a_full_disk_is_one_clear_error(corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shard_writing, "atomic_write", full)
    with pytest.raises(DataError, match="disk is full") as caught:
        pack(corpus, MSM_MAE_16K, tmp_path)
    assert "\n" not in str(caught.value)


def test_a_place_that_cannot_be_written_is_an_error(corpus: Corpus, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        pack(corpus, MSM_MAE_16K, tmp_path / "file" / "packed")


def test_nothing_readable_is_an_error(corpus: Corpus) -> None:
    bad = Corpus(corpus.root, tuple(clip for clip in corpus.clips if clip.path == "03.flac"))
    with pytest.raises(DataError, match=r"none of 1 clips.*03\.flac"):
        pack(bad, MSM_MAE_16K)


@pytest.mark.parametrize("damage", ["missing", "cut", "changed", "newer", "torn", "index"])
def test_damage_is_refused_by_name(damage: str, corpus: Corpus, tmp_path: Path) -> None:
    pack(corpus, MSM_MAE_16K, tmp_path, shard_bytes=SMALL)
    shard, header = tmp_path / "shard-00001.bin", tmp_path / "dataset.json"
    values = shard.read_bytes()
    if damage == "missing":
        shard.unlink()
    elif damage == "cut":
        shard.write_bytes(values[:-2])
    elif damage == "changed":
        shard.write_bytes(bytes([values[0] ^ 1]) + values[1:])
    elif damage == "newer":
        write_json(header, read_json(header) | {"format": 99})
    elif damage == "torn":
        header.write_text(header.read_text()[:100])
    else:
        (tmp_path / "index.npz").unlink()
    wanted = {
        "missing": "shard-00001.bin is missing",
        "cut": "shard-00001.bin has",
        "changed": "shard-00001.bin",
        "newer": "format 99",
        "torn": "is damaged",
    }
    with pytest.raises(DataError, match=wanted.get(damage, "index.npz is missing")):
        open_store(tmp_path).verify()


def test_another_front_end_is_refused_field_by_field(store: SpecStore) -> None:
    check_frontend(store, MSM_MAE_16K)
    with pytest.raises(DataError, match="center is True, wanted False"):
        check_frontend(store, MATPAC)


@pytest.mark.parametrize(
    "frontend", [MSM_MAE_16K, MATPAC, AUDIOMAE, MASKSPEC], ids=["msm-mae", "matpac", "kaldi", "maskspec"]
)
def test_the_range_of_uint8_holds_every_value_of_its_front_end(frontend: AnyFrontendConfig) -> None:
    low, high = value_range(frontend)
    rate, built = frontend.sample_rate, build_frontend(frontend)
    time = np.arange(rate) / rate
    loud = [np.sign(np.sin(2 * np.pi * hertz * time)) for hertz in (60, 440, 1000, 3000, 7000, rate / 2 - 1)]
    rng = np.random.default_rng(0)
    for wav in (*loud, np.zeros(rate), rng.choice([-1.0, 1.0], rate), (-1.0) ** np.arange(rate)):
        spec = built.spectrogram_cpu(wav.astype(np.float32))
        stored, clipped = quantise(spec, "uint8", (low, high))
        assert clipped == 0
        error = dequantise(torch.from_numpy(stored), (low, high)).numpy() - spec
        assert np.abs(error).max() <= (high - low) / 255 / 2 * 1.01


def test_uint8_rounds_finely_and_counts_what_it_clips() -> None:
    low, high = value_range(MSM_MAE_16K)
    assert (low, high) == (-16, 7)
    spec = np.linspace(low, high, 4000, dtype=np.float32).reshape(50, 80)
    stored, clipped = quantise(spec, "uint8", (low, high))
    error = dequantise(torch.from_numpy(stored), (low, high)).numpy() - spec
    assert (stored.min(), stored.max(), clipped) == (0, 255, 0)
    assert np.sqrt(np.mean(error**2)) == pytest.approx(0.026, abs=0.001)
    stored, clipped = quantise(np.array([[low - 1, 0, high + 1, 99]], np.float32), "uint8", (low, high))
    assert (stored[0, 0], stored[0, 2], clipped) == (0, 255, 3)


def test_clipped_samples_are_counted(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "loud.wav", np.full(1600, 1.5), 16000, "FLOAT")
    soundfile.write(tmp_path / "full.wav", np.array([-1.0, 1.0, 0.5] * 100), 16000, "FLOAT")
    assert pack(open_corpus(tmp_path), PackConfig(MSM_MAE_16K, "int16")).header.clipped == 1600


@pytest.mark.parametrize("name", ["shard-00000.bin", "shard-00001.bin", "index.npz", "dataset.json"])
def test_flipped_bits_and_swapped_shards_are_found(name: str, corpus: Corpus, tmp_path: Path) -> None:
    pack(corpus, MSM_MAE_16K, tmp_path, shard_bytes=SMALL)
    content = (tmp_path / name).read_bytes()
    rng = np.random.default_rng(0)
    for place in rng.integers(0, len(content), 20):
        changed = bytearray(content)
        changed[place] ^= 1 << rng.integers(8)
        (tmp_path / name).write_bytes(changed)
        if name.endswith("json") and json.loads(content) == _json_or_none(bytes(changed)):
            continue  # white space
        with pytest.raises(DataError, match=name.split(".")[0]):
            open_store(tmp_path).verify()
    (tmp_path / name).write_bytes(content)
    open_store(tmp_path).verify()


def _json_or_none(content: bytes) -> object:
    try:
        return json.loads(content)
    except ValueError:
        return None


def test_a_shard_that_was_damaged_between_two_runs_is_packed_again(corpus: Corpus, tmp_path: Path) -> None:
    def killed(items: Iterable[object], total: int, description: str) -> Iterator[object]:
        for number, item in enumerate(items):
            if number == 9:
                raise KeyboardInterrupt
            yield item

    with pytest.raises(KeyboardInterrupt):
        pack(corpus, MSM_MAE_16K, tmp_path, track=killed, shard_bytes=SMALL)
    first = tmp_path / "shard-00000.bin"
    content = first.read_bytes()
    first.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    pack(corpus, MSM_MAE_16K, tmp_path, shard_bytes=SMALL).verify()
    assert first.read_bytes() == content


def test_a_corpus_that_is_being_packed_is_refused(corpus: Corpus, tmp_path: Path) -> None:
    with locked_folder(tmp_path / "packed"), pytest.raises(ConfigError, match="is being written by process"):
        pack(corpus, MSM_MAE_16K, tmp_path / "packed")
