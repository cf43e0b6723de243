"""Labels and captions from a table to a batch."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from unheard.audio.frontend import MSM_MAE_16K
from unheard.data.annotations import CaptionTable, Categories, LabelTable
from unheard.data.corpus import open_corpus
from unheard.data.mapping import open_store
from unheard.data.pack import pack
from unheard.data.pack_clip import PackConfig
from unheard.data.shard_layout import Texts
from unheard.datasets.generate import make_sounds
from unheard.errors import DataError
from unheard.objectives.base import Batch
from unheard.progress import Track


def categories(texts: list[str]) -> Categories:
    return Texts.of(texts).categories()


def a_batch(clips: list[int]) -> Batch:
    n = len(clips)
    none = torch.zeros(n, dtype=torch.int64)
    return Batch(
        torch.zeros(n, 1, 1),
        torch.ones(n, 2, dtype=torch.bool),
        torch.tensor(clips),
        none,
        torch.zeros(n),
        torch.zeros(n, 2),
    )


def lengths(texts: Sequence[str], track: Track) -> Tensor:
    return torch.tensor([[float(len(text)), 1.0] for text in texts])


def test_several_labels_and_none() -> None:
    table = LabelTable(categories(["dog|cat", "", "cat", "dog | bird"]))
    batch = table(a_batch([3, 1, 0]))
    assert table.classes == ("bird", "cat", "dog") and table.num_labelled == 3
    assert batch.labels.tolist() == [[1, 0, 1], [0, 0, 0], [0, 1, 1]]
    assert batch.has_labels.tolist() == [True, False, True]


def test_classes_of_another_corpus_are_kept_in_their_order() -> None:
    batch = LabelTable(categories(["dog", "cat"]), ["cat", "cow", "dog"])(a_batch([0, 1]))
    assert batch.labels.tolist() == [[0, 0, 1], [1, 0, 0]]
    with pytest.raises(DataError, match="fish"):
        LabelTable(categories(["dog", "fish"]), ["cat", "dog"])


def test_equal_captions_have_one_number() -> None:
    table = CaptionTable(categories(["a dog", "", "a violin", "a dog"]), lengths)
    batch = table(a_batch([0, 1, 2, 3]))
    assert batch.captions.tolist() == [0, -1, 1, 0] and table.num_labelled == 3
    assert batch.text.tolist() == [[5, 1], [0, 0], [8, 1], [5, 1]]


def test_a_corpus_without_them_is_refused() -> None:
    with pytest.raises(DataError, match="label"):
        LabelTable(categories(["", ""]))
    with pytest.raises(DataError, match="caption"):
        CaptionTable(categories([""]), lengths)


@pytest.mark.parametrize("dtype", ["float16", "int16"])
def test_they_travel_with_a_packed_corpus(tmp_path: Path, dtype: str) -> None:
    make_sounds(tmp_path / "sounds", clips=4)
    files = sorted((tmp_path / "sounds").rglob("*.wav"))
    with (tmp_path / "table.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label", "caption"])
        writer.writerows(
            [f.relative_to(tmp_path), f"l{i % 2}" if i else "", f"sound {i}, so to say"] for i, f in enumerate(files)
        )
    corpus = open_corpus(tmp_path / "table.csv")
    pack(corpus, PackConfig(MSM_MAE_16K, dtype), tmp_path / "packed")  # type: ignore[arg-type]
    store = open_store(tmp_path / "packed")
    assert store.index.label is not None and store.index.caption is not None
    assert store.index.label.tolist() == ["", "l1", "l0", "l1"]
    assert store.index.caption[2] == "sound 2, so to say"


def test_another_label_or_domain_is_another_corpus(tmp_path: Path) -> None:
    make_sounds(tmp_path / "sounds", clips=1)
    name = next((tmp_path / "sounds").rglob("*.wav")).relative_to(tmp_path)
    prints = []
    tables = (
        "path\n{}\n",
        "path,label\n{},dog\n",
        "path,label\n{},cat\n",
        "path,domain\n{},dog\n",
        "path,domain\n{},cat\n",
    )
    for text in tables:
        (tmp_path / "table.csv").write_text(text.format(name))
        prints.append(open_corpus(tmp_path / "table.csv").fingerprint())
    assert len(set(prints)) == len(tables)


def test_a_corpus_with_another_domain_is_not_taken_for_the_packed_one(tmp_path: Path) -> None:
    make_sounds(tmp_path / "sounds", clips=1)
    name = next((tmp_path / "sounds").rglob("*.wav")).relative_to(tmp_path)
    table = tmp_path / "table.csv"
    table.write_text(f"path,domain\n{name},music\n")
    pack(open_corpus(table), PackConfig(MSM_MAE_16K), tmp_path / "packed")
    table.write_text(f"path,domain\n{name},speech\n")
    with pytest.raises(DataError, match="another packed corpus"):
        pack(open_corpus(table), PackConfig(MSM_MAE_16K), tmp_path / "packed")


@given(st.lists(st.text(max_size=3), max_size=300), st.sampled_from([1, 7, 100_000]))
def test_categories_of_a_column_are_those_of_numpy(texts: list[str], at_once: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("unheard.data.shard_layout.AT_ONCE", at_once)
        found, numbers = Texts.of(texts).categories()
    assert [found[number] for number in numbers] == texts and found == sorted(set(texts))
    if texts:
        wanted = np.unique(np.asarray(texts, object), return_inverse=True)[1]
        np.testing.assert_array_equal(numbers, wanted)
