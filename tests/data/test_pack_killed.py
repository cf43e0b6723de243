"""A pack that is killed after its header was written: the corpus is complete, and nothing else stays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from unheard.audio.frontend import MSM_MAE_16K
from unheard.data.corpus import Corpus, open_corpus
from unheard.data.pack import pack
from unheard.data.shard_writing import shard_name, write_record
from unheard.errors import InUseError
from unheard.outputs import LOCK, locked_folder


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    (tmp_path / "sounds").mkdir()
    for number in range(3):
        noise = np.random.default_rng(number).standard_normal(16000) * 0.1
        soundfile.write(tmp_path / "sounds" / f"{number}.wav", noise, 16000)
    return open_corpus(tmp_path / "sounds")


def test_records_and_lock_of_a_killed_process_are_deleted(corpus: Corpus, tmp_path: Path) -> None:
    folder = tmp_path / "packed"
    pack(corpus, MSM_MAE_16K, folder)
    names = sorted(file.name for file in folder.iterdir())
    assert names == ["dataset.json", "index.npz", shard_name(0)]
    write_record(folder, 0, {"key": "of the job"})
    (folder / LOCK).write_text("")
    pack(corpus, MSM_MAE_16K, folder)
    assert sorted(file.name for file in folder.iterdir()) == names


def test_a_process_that_is_still_working_is_named(corpus: Corpus, tmp_path: Path) -> None:
    folder = tmp_path / "packed"
    pack(corpus, MSM_MAE_16K, folder)
    with locked_folder(folder), pytest.raises(InUseError, match="process"):
        pack(corpus, MSM_MAE_16K, folder)
