"""Packed corpora at addresses: whole shards through the cache, the same windows and losses as from a folder."""

from __future__ import annotations

import gc
import json
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile
from tests.remote.store import Fault, Store

from unheard.audio.frontend import MSM_MAE_16K
from unheard.cli import main
from unheard.config import override
from unheard.data.corpus import open_corpus
from unheard.data.mapping import open_store
from unheard.data.pack import pack
from unheard.data.pack_clip import PackConfig
from unheard.data.store import SpecStore, WaveStore
from unheard.errors import ConfigError, DamageWarning, DataError, RemoteError
from unheard.recipes import find_recipe
from unheard.remote import cache
from unheard.remote.reading import open_file
from unheard.remote.shards import RemoteShards
from unheard.training.pretrain import pretrain
from unheard.training.session import sampler_of

SIZES = [
    "frames=48",
    "embed_dim=24",
    "depth=1",
    "num_heads=2",
    "decoder_embed_dim=16",
    "decoder_depth=1",
    "decoder_num_heads=2",
]
SMALL = override(find_recipe("msm-mae"), [f"model.{size}" for size in SIZES])
RUN = ["training.batch_size=4", "training.steps=6", "training.log_every=1", "training.checkpoint_every=2"]
BLOCKS = ["data.shuffle=blocks", "data.block_shards=2"]
SHARD = 40_000
"""Bytes of a shard: two sounds."""


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, generator = tmp_path_factory.mktemp("sounds"), np.random.default_rng(0)
    for number in range(12):
        soundfile.write(folder / f"{number:02d}.wav", 0.1 * generator.standard_normal(20_000 + 400 * number), 16000)
    return folder


def losses(run: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (run / "metrics.jsonl").read_text().splitlines()]


def limit(monkeypatch: pytest.MonkeyPatch, size: float) -> None:
    """Set the size of the cache in bytes."""
    monkeypatch.setenv(cache.LIMIT, str(size / 1e9))


def shards_in(place: Path) -> int:
    """Return the bytes of all copies in the cache."""
    return sum(path.stat().st_size for path in (place / "files").rglob("*") if path.is_file())


def finish_downloads() -> None:
    """Wait for the downloads in advance of a run that has ended: then no copy is in use."""
    gc.collect()
    for thread in threading.enumerate():
        if thread.name.startswith("shards"):
            thread.join(60)
            assert not thread.is_alive()


def test_shards_are_uploaded_whole_and_read_as_local_ones(
    sounds: Path, store: Store, place: Path, tmp_path: Path
) -> None:
    corpus = open_corpus(sounds)
    for kind, packing in (("spec", PackConfig(MSM_MAE_16K)), ("wav", PackConfig(MSM_MAE_16K, "int16"))):
        local = pack(corpus, packing, tmp_path / kind, shard_bytes=SHARD)
        store.requests.clear()
        store.faults += [Fault("503", "PUT", "shard-00001.bin"), Fault("cut", "GET", "shard-00000.bin")]
        remote = pack(corpus, packing, f"s3://sounds/{kind}", shard_bytes=SHARD)
        written = [path for method, path in store.requests if method == "PUT"]
        assert written[-1] == f"/sounds/{kind}/dataset.json" and len(local.shards) > 3
        assert [key.rpartition("/")[2] for key in store.keys(kind)] == sorted(
            path.name for path in (tmp_path / kind).iterdir()
        )
        assert isinstance(remote.shards, RemoteShards) and not any((place / "out").iterdir())
        assert not store.count("GET", "shard-00000.bin")  # only what is used is downloaded
        for number in range(len(local)):
            np.testing.assert_array_equal(remote.clip(number), local.clip(number))
        assert store.count("GET", "shard-00001.bin") == 1 and not store.faults
        assert isinstance(remote, WaveStore if kind == "wav" else SpecStore)
        remote.verify()
    before = len(store.requests)
    pack(corpus, PackConfig(MSM_MAE_16K), "s3://sounds/spec", shard_bytes=SHARD)
    assert "PUT" not in {method for method, _ in store.requests[before:]}
    with pytest.raises(DataError, match=r"^s3://sounds/spec holds another packed corpus"):
        pack(corpus, PackConfig(MSM_MAE_16K, "uint8"), "s3://sounds/spec")
    store.put("else/readme.txt", b"")
    with pytest.raises(DataError, match=r"^s3://sounds/else holds other files \(readme.txt\)"):
        pack(corpus, PackConfig(MSM_MAE_16K), "s3://sounds/else")


def test_an_interrupted_upload_is_no_corpus_and_is_continued(
    sounds: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = open_corpus(sounds)
    monkeypatch.setattr("unheard.remote.access.TRIES", 1)
    store.faults.append(Fault("503", "PUT", "shard-00002.bin", times=1000))
    with pytest.raises(RemoteError, match=r"shard-00002.bin: could not be written .* is kept in"):
        pack(corpus, MSM_MAE_16K, "s3://sounds/half", shard_bytes=SHARD)
    with pytest.raises(DataError, match=r"s3://sounds/half"):
        open_store("s3://sounds/half")
    store.faults.clear()
    assert len(pack(corpus, MSM_MAE_16K, "s3://sounds/half", shard_bytes=SHARD)) == 12


def test_training_on_an_address_equals_training_on_a_folder(
    sounds: Path, memory: str, tmp_path: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also through a cache that holds less than half of the corpus."""
    corpus = open_corpus(sounds)
    local = pack(corpus, SMALL.frontend, tmp_path / "packed", shard_bytes=SHARD)
    pack(corpus, SMALL.frontend, memory, shard_bytes=SHARD)
    size = sum(shard.nbytes for shard in local.shards)
    for settings, part in (([], 2.0), (BLOCKS, 0.7)):
        limit(monkeypatch, part * size)
        monkeypatch.setenv(cache.FOLDER, str(place / str(part)))
        recipe = override(SMALL, [*RUN, *settings])
        for name, data in (("local", tmp_path / "packed"), ("remote", Path(memory))):
            pretrain(data, tmp_path / name, recipe, device="cpu", overwrite=True)
        assert losses(tmp_path / "local") == losses(tmp_path / "remote")
        assert json.loads((tmp_path / "remote/config.json").read_text())["data"] == memory
        if settings:
            finish_downloads()
            assert 0 < shards_in(place / str(part)) <= part * size
    with pytest.raises(
        ConfigError, match=rf"the packed corpus {memory} has .* set data.shuffle=blocks, or UNHEARD_CACHE"
    ):
        pretrain(memory, tmp_path / "refused", override(SMALL, RUN), device="cpu")


def test_blocks_read_every_window_once_and_a_few_shards_at_a_time(sounds: Path, tmp_path: Path) -> None:
    store = pack(open_corpus(sounds), SMALL.frontend, tmp_path / "packed", shard_bytes=SHARD)
    blocks, windows = sampler_of(store, override(SMALL, BLOCKS)), sampler_of(store, SMALL)
    positions = np.arange(blocks.size)
    orders = []
    for epoch in (0, 1):
        clips = blocks.draw(epoch, positions)[0]
        assert sorted(clips) == sorted(windows.draw(epoch, positions)[0])
        assert np.array_equal(clips, np.concatenate([blocks.draw(epoch, part)[0] for part in np.split(positions, [5])]))
        shards = store.index.shard[clips].tolist()
        changes = [number for number in range(1, len(shards)) if shards[number] not in shards[:number]]
        assert all(len(set(shards[first : first + 3])) <= 4 for first in range(len(shards)))
        seen = [max(at for at, each in enumerate(shards) if each == shard) for shard in dict.fromkeys(shards)]
        assert len(changes) == len(store.shards) - 1 and max(seen[:2]) < min(seen[2:])
        orders.append(clips.tolist())
    assert orders[0] != orders[1]
    (tmp_path / "list.csv").write_text("path,domain\n" + "".join(f"{file},noise\n" for file in sounds.glob("*.wav")))
    store = pack(open_corpus(tmp_path / "list.csv"), SMALL.frontend, tmp_path / "named", shard_bytes=SHARD)
    for other in ("data.balance=domain", "data.short_clips=join"):
        with pytest.raises(ConfigError, match=r"data.shuffle=blocks reads a few shards at a time"):
            sampler_of(store, override(SMALL, [*BLOCKS, other]))


def test_a_damaged_copy_of_an_earlier_process_is_downloaded_again(sounds: Path, memory: str) -> None:
    corpus = open_corpus(sounds)
    expected = pack(corpus, MSM_MAE_16K)
    remote = pack(corpus, MSM_MAE_16K, memory)
    assert isinstance(remote.shards, RemoteShards)
    shard = remote.shards.shards[0]
    with open_file(shard.address, shard.sha256) as file:
        copy = Path(file.name)
    copy.write_bytes(bytes(copy.stat().st_size))
    cache._cache.cache_clear()
    with pytest.warns(DamageWarning, match="its content is recomputed"):
        np.testing.assert_array_equal(remote.clip(0), expected.clip(0))


def test_pack_and_check_at_the_command_line(
    sounds: Path, memory: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", "pack", str(sounds), "-o", f"{memory}/packed"]) == 0
    assert f"packed in {memory}/packed" in capsys.readouterr().out
    assert main(["data", "verify", f"{memory}/packed"]) == 0
    assert main(["pretrain", f"{memory}/none", "-o", str(tmp_path / "run")]) == 2
    assert f"{memory}/none: no such file or folder" in capsys.readouterr().err
