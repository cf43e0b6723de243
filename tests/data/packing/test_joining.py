"""Several packed corpora as one: the clips, windows and statistics are those of all sounds packed together."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from unheard.audio.frontend import MSM_MAE_16K
from unheard.cli import main
from unheard.data.corpus import open_corpus
from unheard.data.mapping import open_store
from unheard.data.pack import pack
from unheard.data.pack_clip import PackConfig
from unheard.data.packing import joining
from unheard.data.packing.joining import join_packed
from unheard.data.store import Store, WaveStore
from unheard.errors import ConfigError, DataError

SHARD = 60_000
"""Bytes of a shard: two to four clips."""


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two folders of sounds; the first has captions, the second a file that is no sound."""
    place = tmp_path_factory.mktemp("sounds")
    for number, name in enumerate(("bells", "glöckchen")):
        (place / name).mkdir()
        for index in range(5 + number):
            noise = np.random.default_rng([number, index]).standard_normal(8000 + 4000 * index) * 0.1 / (1 + number)
            soundfile.write(place / name / f"{index}.wav", noise, 16000)
    with (place / "bells" / "manifest.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("path", "domain", "caption"))
        rows.writerows((f"{index}.wav", "music", f"bell {index}") for index in range(5))
    (place / "glöckchen" / "broken.mp3").write_text("no sound")
    return place


def packed(sounds: Path, out: Path, dtype: str = "float16") -> list[Path]:
    """Return both folders, packed."""
    for name in ("bells", "glöckchen"):
        config = PackConfig(MSM_MAE_16K, dtype)  # type: ignore[arg-type]
        pack(open_corpus(sounds / name), config, out / name, 1, shard_bytes=SHARD)
    return [out / "bells", out / "glöckchen"]


@pytest.mark.parametrize("dtype", ["float16", "uint8", "int16"])
def test_the_result_is_that_of_packing_all_sounds_together(sounds: Path, tmp_path: Path, dtype: str) -> None:
    parts = packed(sounds, tmp_path, dtype)
    joined = join_packed(parts, tmp_path / "both")
    config = PackConfig(MSM_MAE_16K, dtype)  # type: ignore[arg-type]
    whole = pack(open_corpus([sounds / "bells", sounds / "glöckchen"]), config, tmp_path / "whole", 1)
    same_clips(joined, whole)
    for name in ("statistics", "band_statistics"):
        found, wanted = getattr(joined, name), getattr(whole, name)
        np.testing.assert_allclose([found.mean, found.std], [wanted.mean, wanted.std], rtol=1e-9)
    assert [each.path for each in joined.skipped] == ["glöckchen/broken.mp3"] and len(joined.shards) >= 2
    assert joined.header.clipped == whole.header.clipped
    joined.verify()


def same_clips(found: Store, wanted: Store) -> None:
    for column in ("path", "domain", "caption"):
        assert getattr(found.index, column).tolist() == getattr(wanted.index, column).tolist()
    for column in ("frames", "start", "seconds"):
        np.testing.assert_array_equal(getattr(found.index, column), getattr(wanted.index, column))
    for number in range(len(wanted)):
        np.testing.assert_array_equal(found.clip(number), wanted.clip(number))


def test_shards_are_links_and_stay_when_the_parts_are_deleted(sounds: Path, tmp_path: Path) -> None:
    parts = packed(sounds, tmp_path)
    joined = join_packed(parts, tmp_path / "both")
    assert (tmp_path / "both/shard-00000.bin").samefile(parts[0] / "shard-00000.bin")
    clips = [joined.clip(number) for number in range(len(joined))]
    for part in parts:
        shutil.rmtree(part)
    again = open_store(tmp_path / "both")
    again.verify()
    for number, clip in enumerate(clips):
        np.testing.assert_array_equal(again.clip(number), clip)


def test_shards_are_copied_where_links_are_not_possible(
    sounds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = packed(sounds, tmp_path)
    wanted = join_packed(parts, tmp_path / "linked")

    def refuse(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(joining.os, "link", refuse)
    found = join_packed(parts, tmp_path / "copied")
    same_clips(found, wanted)
    assert not (tmp_path / "copied/shard-00000.bin").samefile(parts[0] / "shard-00000.bin")


def test_linked_and_protected_shards_of_a_part_stay_as_they_are(sounds: Path, tmp_path: Path) -> None:
    parts = packed(sounds, tmp_path)
    shard, store = parts[0] / "shard-00000.bin", tmp_path / "store"
    shard.rename(store)
    store.chmod(0o444)
    shard.symlink_to("../store")
    join_packed(parts, tmp_path / "deeper" / "both")
    found = tmp_path / "deeper" / "both" / "shard-00000.bin"
    assert not found.is_symlink() and found.samefile(store) and store.stat().st_mode & 0o777 == 0o444
    assert shard.is_symlink()


def test_a_part_inside_another_one_has_its_own_paths(sounds: Path, tmp_path: Path) -> None:
    (whole, _) = packed(sounds, tmp_path)
    pack(open_corpus(sounds / "glöckchen"), PackConfig(MSM_MAE_16K), tmp_path / "other", 1)
    (tmp_path / "other").rename(whole / "inner")
    joined = join_packed([whole, whole / "inner"], tmp_path / "both")
    assert joined.index.path[0] == "bells/0.wav" and joined.index.path[5] == "bells/inner/0.wav"
    assert [each.path for each in joined.skipped] == ["bells/inner/broken.mp3"]


def test_a_folder_with_an_interrupted_job_is_refused(sounds: Path, tmp_path: Path) -> None:
    parts = packed(sounds, tmp_path)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "shard-00000.bin").write_bytes(b"work")
    (tmp_path / "out" / "shard-00000.json").write_text('{"key": "other"}')
    with pytest.raises(DataError, match="holds shards of an interrupted job; choose another folder"):
        join_packed(parts, tmp_path / "out")
    assert (tmp_path / "out" / "shard-00000.bin").read_bytes() == b"work"


def test_an_interrupted_join_is_completed_and_a_complete_one_is_opened(
    sounds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts, index = packed(sounds, tmp_path), joining._joined_index

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(joining, "_joined_index", stop)
    with pytest.raises(KeyboardInterrupt):
        join_packed(parts, tmp_path / "both")
    with pytest.raises(DataError, match="not a packed corpus"):
        open_store(tmp_path / "both")
    monkeypatch.setattr(joining, "_joined_index", index)
    joined = join_packed(parts, tmp_path / "both")
    monkeypatch.setattr(joining, "_joined_index", stop)
    assert join_packed(parts, tmp_path / "both").fingerprint == joined.fingerprint
    assert {file.suffix for file in (tmp_path / "both").iterdir()} == {".bin", ".npz", ".json"}
    with pytest.raises(DataError, match="holds another packed corpus"):
        join_packed(parts[::-1], tmp_path / "both")


def test_joined_corpora_can_be_joined_again(sounds: Path, tmp_path: Path) -> None:
    parts = packed(sounds, tmp_path)
    soundfile.write(sounds / "third.wav", np.random.default_rng(9).standard_normal(9000) * 0.1, 16000)
    pack(open_corpus(sounds / "third.wav"), PackConfig(MSM_MAE_16K), tmp_path / "third")
    join_packed(parts, tmp_path / "both")
    three = join_packed([tmp_path / "both", tmp_path / "third"], tmp_path / "three")
    assert three.index.path.tolist()[-1] == "third/third.wav" and len(three) == 12
    assert three.index.path[0] == "both/bells/0.wav"


def test_what_cannot_be_joined_is_refused(sounds: Path, tmp_path: Path) -> None:
    parts = packed(sounds, tmp_path)
    (waves, _) = packed(sounds, tmp_path / "waves", "int16")
    for given, error, text in (
        ([parts[0]], ConfigError, "at least two packed corpora"),
        ([*parts, parts[0]], DataError, r"bells holds the sounds of .*bells; give each corpus once"),
        ([parts[0], waves], DataError, r"stored otherwise than .*: dtype is int16, there float16; rate is"),
        ([parts[0], sounds], DataError, "not a packed corpus"),
        ([parts[0], Path("s3:/bucket/corpus")], ConfigError, "s3://bucket/corpus is at an address; join corpora on a"),
    ):
        with pytest.raises(error, match=text):
            join_packed(given, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match=r"holds other files \(notes.txt\)"):
        join_packed(parts, tmp_path / "out")


def test_a_run_trains_on_a_joined_corpus(sounds: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parts, both, run = packed(sounds, tmp_path), tmp_path / "both", tmp_path / "run"
    assert main(["pretrain", *map(str, parts), "-o", str(run)]) == 2
    assert "join packed corpora first with: unheard data join A B -o BOTH" in capsys.readouterr().err
    assert main(["data", "join", *map(str, parts), "-o", str(both)]) == 0
    assert f"11 clips, 0.00 hours of 2 corpora; joined in {both}" in capsys.readouterr().out
    small = ["model.size=tiny", "model.frames=48", "training.batch_size=4", "data.balance=domain"]
    settings = [word for setting in small for word in ("--set", setting)]
    assert main(["pretrain", str(both), "-o", str(run), "--steps", "2", *settings]) == 0
    assert isinstance(open_store(both), Store) and not isinstance(open_store(both), WaveStore)
