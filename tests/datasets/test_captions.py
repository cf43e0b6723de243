"""Captions from file names: content, excluded files, paths of the table."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from unheard.data.corpus import open_corpus
from unheard.data.manifest import COLUMNS
from unheard.datasets.captions import captions, note_caption, write_captions
from unheard.datasets.generate import make_sounds
from unheard.errors import DataError

ROWS = [  # path, package, domain, heldout, words that must be in the caption
    (
        "a/asterisk/sounds/en_US_f_Allison/vm-goodbye.wav",
        "asterisk-core-sounds-en-g722",
        "speech",
        "",
        ("woman", '"goodbye"', "English"),
    ),
    (
        "a/asterisk/sounds/it_IT_m_Carlo/letters/b.wav",
        "asterisk-core-sounds-it-g722",
        "speech",
        "",
        ("man", "letter b", "Italian"),
    ),
    ("a/asterisk/sounds/fr_CA_f_June/digits/14.wav", "asterisk-core-sounds-fr-g722", "speech", "", ("14", "French")),
    ("t/tuxpaint/stamps/household/kettle_desc_el.ogg", "tuxpaint-stamps-default", "speech", "", ("kettle", "Greek")),
    ("k/klettres/it/alpha/z.ogg", "klettres-data", "speech", "", ("letter z", "Italian")),
    ("h/hydrogen/data/drumkits/GMRockKit/Kick-Soft.wav", "hydrogen-data", "effects", "", ("bass drum",)),
    ("h/hydrogen/data/drumkits/ForzeeStereo/Kick-Soft.wav", "hydrogen-drumkits", "effects", "1", ()),
    ("q/qabcs/abcs/all/noises/heron.ogg", "qabcs-data", "effects", "", ("heron",)),
    ("u/sound/weapons/grenade.ogg", "ufoai-sound", "effects", "", ("grenade", "weapons")),
    ("s/sonic-pi/samples/bd_boom.flac", "sonic-pi-samples", "effects", "", ("bass drum", "boom")),
    ("c/colobot/sounds/sound082.wav", "colobot-common-sounds", "effects", "", ()),
    ("w/warzone2100/music/albums/x/track18.opus", "warzone2100-music", "music", "", ("music",)),
]


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """A manifest with one row of every kind; no sound is needed."""
    with (tmp_path / "manifest.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="")
        writer.writeheader()
        writer.writerows(
            {"path": path, "package": package, "domain": domain, "heldout": held}
            for path, package, domain, held, _ in ROWS
        )
    return tmp_path


def test_names_and_folders_become_words(corpus: Path) -> None:
    found = {row["path"]: row["caption"] for row in captions(corpus)}
    for path, _, _, _, words in ROWS:
        assert all(word in found[path] for word in words) if words else path not in found


def test_held_out_files_have_no_caption_however_they_are_marked(corpus: Path) -> None:
    file = corpus / "manifest.csv"
    found, text = captions(corpus), file.read_text()
    held = [line for line in text.splitlines() if line.endswith(",1")]
    assert held
    for line in held:
        text = text.replace(line, f"{line[:-1]} True")
    file.write_text(text)
    assert captions(corpus) == found
    file.write_text(text.replace(" True", "maybe"))
    with pytest.raises(DataError, match="use 1 for a held-out sound, else 0"):
        captions(corpus)


def test_the_same_file_always_gets_the_same_caption(corpus: Path) -> None:
    assert captions(corpus) == captions(corpus)


def test_notes_name_instrument_and_key() -> None:
    texts = {note_caption(f"notes/fluid/{program:03d}-60.wav") for program in (40, 41, 42, 43, 56, 57)}
    assert any("violin" in text for text in texts) and any("C 4" in text for text in texts)


def test_paths_are_found_from_the_table(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="manifest"):
        write_captions(tmp_path, tmp_path / "captions.csv")
    sounds = tmp_path / "corpus" / "ufoai-sound"
    make_sounds(sounds, clips=3)
    files = sorted(sounds.rglob("*.wav"))
    with (tmp_path / "corpus" / "manifest.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="")
        writer.writeheader()
        writer.writerows(
            {"path": f.relative_to(tmp_path / "corpus").as_posix(), "package": "ufoai-sound", "domain": "effects"}
            for f in files
        )
    table = write_captions(tmp_path / "corpus", tmp_path / "tables" / "captions.csv")
    assert len(open_corpus(table).clips) == len(files)
