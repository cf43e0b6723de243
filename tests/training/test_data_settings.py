"""Settings of the corpus that would have no effect are refused before the run starts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from unheard.audio.decibels import DB_MINMAX
from unheard.audio.frontend import MSM_MAE_16K
from unheard.config import override
from unheard.data.corpus import open_corpus
from unheard.data.pack import pack
from unheard.errors import ConfigError, DataError
from unheard.recipes import find_recipe
from unheard.training.session import sampler_of, statistics_of


@pytest.fixture
def sounds(tmp_path: Path) -> Path:
    for name in "ab":
        soundfile.write(tmp_path / f"{name}.wav", 0.1 * np.random.default_rng(0).standard_normal(9000), 16000)
    return tmp_path


def test_balance_needs_domains(sounds: Path) -> None:
    recipe = override(find_recipe("msm-mae"), ["data.balance=domain"])
    with pytest.raises(ConfigError, match=r"data\.balance=domain needs a table with the column domain"):
        sampler_of(pack(open_corpus(sounds), MSM_MAE_16K), recipe)
    (sounds / "list.csv").write_text("path,domain\na.wav,speech\nb.wav, speech \n")
    store = pack(open_corpus(sounds / "list.csv"), MSM_MAE_16K)
    assert store.categories("domain")[0] == ["speech"]
    sampler_of(store, recipe)


def test_a_domain_that_is_a_word_for_an_empty_cell_is_refused(sounds: Path) -> None:
    (sounds / "list.csv").write_text("path,domain\na.wav,speech\nb.wav,nan\n")
    with pytest.raises(DataError, match="domain of b.wav"):
        open_corpus(sounds / "list.csv")


@pytest.mark.parametrize("setting", ["data.statistics=band", "data.min_std=0.1"])
def test_statistics_of_a_front_end_without_them_are_refused(sounds: Path, setting: str) -> None:
    store = pack(open_corpus(sounds), DB_MINMAX)
    assert statistics_of(store, find_recipe("bat")).top_db is not None
    with pytest.raises(ConfigError, match=r"data\.statistics and data\.min_std have no effect"):
        statistics_of(store, override(find_recipe("bat"), [setting]))
