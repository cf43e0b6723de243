"""A folder, a CSV and a manifest give the same corpus; unusable files are reported."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from unheard.audio.frontend import MSM_MAE_16K, LogMelConfig
from unheard.data.corpus import open_corpus
from unheard.data.pack import pack
from unheard.data.tables import read_csv
from unheard.errors import AudioWarning, DataError


def write(path: Path, seconds: float = 1.0, rate: int = 16000) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.random.default_rng(0).normal(0, 0.1, round(seconds * rate)), rate)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path / "b" / "two.flac", 2.0)
    write(tmp_path / "a.wav", 1.0, 44100)
    (tmp_path / "b" / "text.mp3").write_text("no sound")
    write(tmp_path / "b" / "empty.wav", 0.0)
    (tmp_path / "readme.txt").write_text("hello")
    return tmp_path


def test_a_folder_is_sorted_and_its_bad_files_are_named(folder: Path) -> None:
    corpus = open_corpus(folder)
    assert [(clip.path, clip.seconds) for clip in corpus.clips] == [("a.wav", 1.0), ("b/two.flac", 2.0)]
    assert [skipped.path for skipped in corpus.skipped] == ["b/empty.wav", "b/text.mp3"]
    assert corpus.hours == pytest.approx(3 / 3600)
    assert corpus.root == folder


def test_a_csv_gives_parts_and_domains_and_keeps_its_order(folder: Path) -> None:
    table = folder / "list.csv"
    table.write_text(
        "path,start,end,domain\nb/two.flac,0.5,1.5,speech\na.wav,,,music\na.wav,,,music\ngone.wav,,,music\na.wav,3,4,music\n"
    )
    corpus = open_corpus(table)
    assert [(clip.path, clip.start, clip.seconds, clip.domain) for clip in corpus.clips] == [
        ("b/two.flac", 0.5, 1.0, "speech"),
        ("a.wav", 0.0, 1.0, "music"),
        ("a.wav", 0.0, 1.0, "music"),
    ]
    assert [skipped.path for skipped in corpus.skipped] == ["gone.wav", "a.wav"]
    assert "no such file" in corpus.skipped[0].reason
    assert "from 3 s to 4 s of its 1 s" in corpus.skipped[1].reason


def test_rows_kept_for_testing_are_left_out(folder: Path) -> None:
    (folder / "list.csv").write_text("path,split\na.wav,train\na.wav,\nb/two.flac,test\nb/two.flac,Valid\n")
    corpus = open_corpus(folder / "list.csv")
    assert [clip.path for clip in corpus.clips] == ["a.wav", "a.wav"]
    assert corpus.held_out == 2
    assert pack(corpus, MSM_MAE_16K).header.notes == ["2 held-out clips were left out"]


def test_a_fetched_folder_is_read_through_its_manifest(folder: Path) -> None:
    (folder / "manifest.csv").write_text("path,domain,heldout\na.wav,music,\nb/two.flac,speech,1\n")
    corpus = open_corpus(folder)
    assert [(clip.path, clip.domain) for clip in corpus.clips] == [("a.wav", "music")]
    assert corpus.held_out == 1
    assert corpus == open_corpus(folder / "manifest.csv")


def test_the_fingerprint_follows_the_content_and_not_the_place(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    before = open_corpus(folder).fingerprint()
    moved = tmp_path_factory.mktemp("elsewhere") / "sounds"
    folder.rename(moved)
    assert open_corpus(moved).fingerprint() == before
    os.utime(moved / "a.wav", (1, 1))  # a copy has other times
    assert open_corpus(moved).fingerprint() == before
    write(moved / "a.wav", 1.5)
    assert open_corpus(moved).fingerprint() != before


@pytest.mark.parametrize("changed", [1000, 22050, 44000], ids=["beginning", "middle", "end"])
def test_a_file_written_again_at_equal_size_is_noticed(changed: int, folder: Path) -> None:
    wav = np.zeros(44100)
    wav[20000:24000] = 0.25  # silence at both ends, as sound files often have
    soundfile.write(folder / "a.wav", wav, 44100)
    before, size = open_corpus(folder).fingerprint(), (folder / "a.wav").stat().st_size
    wav[changed] = 0.5
    soundfile.write(folder / "a.wav", wav, 44100)
    assert (folder / "a.wav").stat().st_size == size
    assert open_corpus(folder).fingerprint() != before


def test_the_checksums_of_a_manifest_count(folder: Path) -> None:
    prints = []
    for sha256 in ("aa", "bb"):
        (folder / "manifest.csv").write_text(f"path,sha256\na.wav,{sha256}\n")
        prints.append(open_corpus(folder).fingerprint())
    assert prints[0] != prints[1]


@pytest.mark.parametrize("name", ["nowhere", "hollow", "noise"])
def test_nothing_usable_is_an_error(name: str, tmp_path: Path) -> None:
    (tmp_path / "hollow").mkdir()
    (tmp_path / "noise").mkdir()
    (tmp_path / "noise" / "text.mp3").write_text("no sound")
    expected = {
        "nowhere": "no such file or folder",
        "hollow": "holds no sound files",
        "noise": r"first of 1 .*text\.mp3",
    }[name]
    with pytest.raises(DataError, match=expected):
        open_corpus(tmp_path / name)


def test_progress_counts_every_file(folder: Path) -> None:
    seen: list[object] = []

    def track(items, total, description):  # type: ignore[no-untyped-def]
        assert total == 4
        for item in items:
            seen.append(item)
            yield item

    open_corpus(folder, track)
    assert len(seen) == 4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,label\na.wav,x\n", "lacks the column path; it has file, label, and needs path"),
        ("", "it has none"),
        ("path\na.wav,b,c\n", "row 2 has more values"),
        ("path,start\na.wav,soon\n", "start of a.wav is 'soon'"),
        ("path,end\na.wav,-1\n", "end of a.wav is '-1'"),
    ],
)
def test_malformed_tables_say_what_is_wrong(text: str, message: str, folder: Path) -> None:
    (folder / "list.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        open_corpus(folder / "list.csv")


def test_binary_tables_are_refused(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_bytes(b"\xff\xfe\x00path")
    with pytest.raises(DataError, match="cannot be read as a CSV"):
        read_csv(tmp_path / "list.csv", ("path",))


def test_a_table_that_is_not_there_is_called_so(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.csv: no such file; give a CSV with the columns path, label"):
        read_csv(tmp_path / "gone.csv", ("path", "label"))


def test_values_left_out_are_empty(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("\ufeffpath,label\na.wav\n", encoding="utf-8")
    assert read_csv(tmp_path / "list.csv", ("path", "label")) == [{"path": "a.wav", "label": ""}]


def test_a_clip_that_ends_after_its_file_is_named_when_it_is_packed(folder: Path) -> None:
    (folder / "list.csv").write_text("path,start,end\na.wav,,1.04\na.wav,0.5,700\nb/two.flac,0.5,2000\n")
    text = "2 of 3 clips end before the end given in the table, .* first, a.wav, ends at 1 s, not at 700 s"
    with pytest.warns(AudioWarning, match=text) as found:
        store = pack(open_corpus(folder / "list.csv"), LogMelConfig())
    assert len(found) == 1 and len(store) == 3


@pytest.mark.parametrize("split", ["testing", "Evaluation", "held-out"])
def test_a_split_with_another_name_is_refused_because_it_may_be_a_test_split(split: str, folder: Path) -> None:
    (folder / "list.csv").write_text(f"path,split\na.wav,training\nb/two.flac,{split}\n")
    with pytest.raises(DataError, match=f"split of b/two.flac is '{split.lower()}'; use train, valid or test"):
        open_corpus(folder / "list.csv")
