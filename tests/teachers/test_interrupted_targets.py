"""Targets whose computation ends early: killed, a full disk, a teacher with a fault."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.teachers.local_teacher import LocalTeacher, use, write_sounds
from torch import Tensor

from unheard.audio.frontend import MSM_MAE_16K
from unheard.data import shard_writing
from unheard.data.corpus import open_corpus
from unheard.data.pack import pack
from unheard.data.pack_clip import PackConfig
from unheard.errors import DataError
from unheard.teachers import storing
from unheard.teachers.stored import open_targets
from unheard.teachers.storing import TargetsConfig, store_targets

SECONDS = (2.0,) * 9


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("packed")
    pack(
        open_corpus(write_sounds(tmp_path_factory.mktemp("sounds"), SECONDS)), PackConfig(MSM_MAE_16K, "int16"), folder
    )
    return folder


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storing, "SHARD_SECONDS", 5.0)  # three clips


class Faulty(LocalTeacher):
    """Spoils its map from one call on."""

    def __init__(self, spoil: Callable[[Tensor], Tensor], after: int) -> None:
        super().__init__()
        self.spoil, self.after = spoil, after

    def extract(self, wav: Tensor) -> Tensor:
        found = super().extract(wav)
        return self.spoil(found) if self.calls > self.after else found


def stop(found: Tensor) -> Tensor:
    raise KeyboardInterrupt


@pytest.mark.parametrize("pca", [None, 2])
def test_a_second_run_computes_only_the_shards_that_are_missing(
    pca: int | None, packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sampling = 0 if pca is None else len(SECONDS)
    use(monkeypatch, Faulty(stop, after=sampling + 7), LocalTeacher())
    config = TargetsConfig("0", pca=pca)
    with pytest.raises(KeyboardInterrupt):
        store_targets(packed, config, tmp_path / "broken")
    assert not list((tmp_path / "broken").glob(".*part")) and len(list((tmp_path / "broken").glob("shard-*.bin"))) == 2
    with pytest.raises(DataError, match="no finished targets"):
        open_targets(tmp_path / "broken")
    with pytest.raises(DataError, match="another corpus or teacher"):
        store_targets(packed, TargetsConfig("1", pca=None if pca else 2), tmp_path / "broken")
    again = LocalTeacher()
    use(monkeypatch, again)
    resumed = store_targets(packed, config, tmp_path / "broken")
    assert again.calls == 3
    whole = store_targets(packed, config, tmp_path / "whole")
    files = sorted(file.name for file in (tmp_path / "whole").iterdir())
    assert files == sorted(file.name for file in (tmp_path / "broken").iterdir()) and len(files) == (6 if pca else 5)
    (tmp_path / "broken" / "shard-00000.json").write_text("{}")  # killed after the header, before records were deleted
    store_targets(packed, config, tmp_path / "broken")
    assert files == sorted(file.name for file in (tmp_path / "broken").iterdir())
    assert all(np.array_equal(*pair) for pair in zip(resumed.shards, whole.shards, strict=True))
    assert resumed.header == whole.header
    before = again.calls
    assert store_targets(packed, config, tmp_path / "whole").fingerprint == whole.fingerprint
    assert again.calls == before


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda found: found * torch.nan, "not finite|NaN"),
        (lambda found: found[..., :-1], "columns"),
        (lambda found: found[:, :4], "channels"),
        (lambda found: found + 1e6, "float16"),
    ],
    ids=["nan", "frames", "width", "range"],
)
def test_a_fault_of_the_teacher_is_one_clear_error_and_what_is_stored_stays(
    spoil: Callable[[Tensor], Tensor], words: str, packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, Faulty(spoil, after=4))
    with pytest.raises(DataError, match=words) as caught:
        store_targets(packed, TargetsConfig("0"), tmp_path)
    assert "\n" not in str(caught.value) and "4.wav" in str(caught.value)
    assert [file.name for file in tmp_path.glob("*.bin")] == ["shard-00000.bin"]
    mended = LocalTeacher()
    use(monkeypatch, mended)
    store_targets(packed, TargetsConfig("0"), tmp_path)
    assert mended.calls == 6


def test_a_full_disk_is_one_clear_error_and_what_is_stored_stays(
    packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, LocalTeacher())
    write = shard_writing.write_shard

    def full(folder: Path, number: int, values: object) -> str:
        if number == 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(folder, number, values)  # type: ignore[arg-type]

    monkeypatch.setattr(storing, "write_shard", full)
    with pytest.raises(DataError, match="disk is full.*finished shards are kept"):
        store_targets(packed, TargetsConfig("0"), tmp_path)
    monkeypatch.setattr(storing, "write_shard", write)
    again = LocalTeacher()
    use(monkeypatch, again)
    assert store_targets(packed, TargetsConfig("0"), tmp_path).header.clips == 9 and again.calls == 6
