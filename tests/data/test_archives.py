"""Corpora, checks and tables of embeddings from archives: the same as from the files in them."""

from __future__ import annotations

import re
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile

from unheard.audio.frontend import MSM_MAE_16K
from unheard.cli import main
from unheard.data.check import check
from unheard.data.corpus import open_corpus
from unheard.data.label_table import read_labels
from unheard.data.leakage import content_of, same_as_others
from unheard.data.pack import pack
from unheard.embedding.bulk import embed_segments_table, embed_table
from unheard.embedding.loading import load
from unheard.errors import DataError

RATE = 16000


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve sounds in ``flat``, in two tar files in ``tars``, and in a parquet file in ``hf``."""
    root, generator = tmp_path_factory.mktemp("place"), np.random.default_rng(0)
    for folder in ("flat", "tars", "hf"):
        (root / folder).mkdir()
    paths = [root / "flat" / f"{number:02d}.{'flac' if number % 2 else 'wav'}" for number in range(12)]
    for path in paths:
        soundfile.write(path, 0.1 * generator.standard_normal(RATE // 4 * (1 + int(path.stem) % 3)), RATE)
    for number in range(2):
        with tarfile.open(root / "tars" / f"{number}.tar", "w") as tar:
            for path in paths[6 * number : 6 * number + 6]:
                tar.add(path, path.name)
    rows = [{"bytes": path.read_bytes(), "path": path.name} for path in paths]
    pq.write_table(pa.table({"audio": rows}), root / "hf" / "train.parquet", row_group_size=5)
    return root


def test_packed_corpus_is_that_of_the_files(place: Path) -> None:
    """Clips differ in their paths only, from a folder of archives and from several archives."""
    files = open_corpus(place / "flat")
    tars = [open_corpus(place / "tars"), open_corpus([place / "tars/0.tar", place / "tars/1.tar"])]
    assert [corpus.clips for corpus in tars] == [tars[0].clips] * 2
    expected = pack(files, MSM_MAE_16K)
    for corpus in (tars[0], open_corpus(place / "hf/train.parquet")):
        names = [Path(clip.path).name for clip in corpus.clips]
        assert [replace(clip, path=name) for clip, name in zip(corpus.clips, names, strict=True)] == list(files.clips)
        store = pack(corpus, MSM_MAE_16K)
        assert store.statistics == expected.statistics
        for number in range(len(expected)):
            np.testing.assert_array_equal(store.clip(number), expected.clip(number))
    mixed = open_corpus([place / "hf", place / "flat/00.wav", place / "tars/1.tar/07.flac"])
    names = ["hf/train.parquet/11/11.flac", "flat/00.wav", "tars/1.tar/07.flac"]
    assert [clip.path for clip in mixed.clips[-3:]] == names


def test_torn_archive_is_one_skipped_item(place: Path, tmp_path: Path) -> None:
    content = (place / "tars/0.tar").read_bytes()
    (tmp_path / "0.tar").write_bytes(content[: content.index(b"03.flac\0") + 5000])
    (tmp_path / "1.tar").write_bytes((place / "tars/1.tar").read_bytes())
    corpus = open_corpus(tmp_path)
    assert [skipped.path for skipped in corpus.skipped] == ["0.tar"] and len(corpus.clips) == 9
    assert re.fullmatch(r"it ends in 03\.flac, after 3 files: \d+ of .*; download it again", corpus.skipped[0].reason)
    report = check(tmp_path)
    assert list(report.findings["unreadable"]) == ["0.tar"] and report.files == len(corpus.clips) + 1
    assert main(["data", "check", str(tmp_path / "0.tar"), str(tmp_path / "1.tar"), "--strict"]) == 1
    assert main(["data", "pack", *map(str, sorted(tmp_path.glob("*.tar"))), "-o", str(tmp_path / "p"), "--strict"]) == 1
    (tmp_path / "2.tar").write_bytes(bytes(10240))
    with pytest.raises(DataError, match="it holds no sound files"):
        open_corpus(tmp_path / "2.tar")


def test_embeddings_are_those_of_the_files(place: Path, tmp_path: Path) -> None:
    """Rows have the paths of members, and a table of their parts gives the same vectors."""
    model, vectors, names = load("random-tiny"), {}, sorted(path.name for path in (place / "flat").iterdir())
    for name in ("flat", "tars", "hf"):
        embed_table(model, [place / name], tmp_path / f"{name}.parquet")
        table = pq.read_table(tmp_path / f"{name}.parquet")
        vectors[name] = table["embedding"].to_pylist()
        assert [Path(path).name for path in table["path"].to_pylist()] == names
    assert vectors["flat"] == vectors["tars"] == vectors["hf"]
    assert table["path"][0].as_py() == str(place / "hf/train.parquet/0/00.wav")
    (place / "segments.csv").write_text("path,start,end\ntars/1.tar/08.wav,0.2,0.6\nflat/08.wav,0.2,0.6\n")
    embed_segments_table(model, place / "segments.csv", tmp_path / "segments.parquet")
    first, second = pq.read_table(tmp_path / "segments.parquet")["embedding"].to_pylist()
    assert first == second


def test_labels_name_members(place: Path) -> None:
    """Files and members of one content are recognised as copies."""
    (place / "labels.csv").write_text("path,label\ntars/0.tar/00.wav,a\nhf/train.parquet/1/01.flac,b\n")
    paths = list(read_labels(place / "labels.csv").paths)
    copies = [place / "flat/00.wav", place / "flat/01.flac"]
    assert content_of(paths) == content_of(copies) and same_as_others(paths, copies[1:]) == paths[1:]
    (place / "wrong.csv").write_text("path,label\ntars/0.tar/00.wav,a\ntars/0.tar/99.wav,b\n")
    with pytest.raises(DataError, match=r"names 1 files that do not exist, the first tars/0\.tar/99\.wav"):
        read_labels(place / "wrong.csv")
