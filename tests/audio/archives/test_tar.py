"""Members of tar files: names, links, damage, and the content compared with the standard library."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unheard.audio.archives.tar import TarArchive, unpacked_name
from unheard.errors import AudioError

CONTENT = bytes(range(256)) * 3
FORMATS = (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)
PARTS = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=60)


def write_tar(path: Path, members: Iterable[tuple[str, bytes]], kind: int = tarfile.PAX_FORMAT) -> Path:
    with tarfile.open(path, "w", format=kind) as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def contents(path: Path) -> dict[str, bytes]:
    archive = TarArchive(path)
    return {name: archive.open(name).read() for name in archive.names}


@given(
    kind=st.sampled_from(FORMATS),
    names=st.lists(st.lists(PARTS, min_size=1, max_size=6).map("/".join), min_size=1, max_size=8),
    sizes=st.lists(st.integers(0, 1500), min_size=8, max_size=8),
)
def test_members_are_those_of_the_standard_library(
    tmp_path_factory: pytest.TempPathFactory, kind: int, names: list[str], sizes: list[int]
) -> None:
    path = tmp_path_factory.mktemp("tar") / "a.tar"
    try:
        write_tar(path, [(name, os.urandom(size)) for name, size in zip(names, sizes, strict=False)], kind)
    except ValueError:  # the format cannot store so long a name
        return
    with tarfile.open(path, errors="surrogateescape") as tar:
        expected = {}
        for member in tar:
            name, file = unpacked_name(member.name), tar.extractfile(member)
            if file is not None and name and not any(part.startswith(".") for part in name.split("/")):
                expected[name] = file.read()
    archive = TarArchive(path)
    assert archive.problem == ""
    assert contents(path) == expected and archive.names == sorted(expected)


def test_names_are_those_below_a_folder(tmp_path: Path) -> None:
    """Names that begin with a slash or hold ``..`` are names only, as GNU tar unpacks them."""
    names = ("./a.wav", "/etc/b.wav", "../../c.wav", "x/../d//e.wav", ".hidden.wav", "f/._g.wav", ".h/i.wav", "..")
    path = write_tar(tmp_path / "a.tar", [(name, name.encode()) for name in names])
    assert contents(path) == {
        "a.wav": b"./a.wav",
        "etc/b.wav": b"/etc/b.wav",
        "c.wav": b"../../c.wav",
        "d/e.wav": b"x/../d//e.wav",
    }
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.tar"]


def test_last_of_equal_names_and_links(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as tar:
        for name, content in (("a.wav", b"first"), ("a.wav", b"last"), ("folder", b"")):
            info = tarfile.TarInfo(name)
            info.size, info.type = len(content), tarfile.REGTYPE if content else tarfile.DIRTYPE
            tar.addfile(info, io.BytesIO(content))
        for name, target, kind in (
            ("hard.wav", "./a.wav", tarfile.LNKTYPE),
            ("lost.wav", "gone.wav", tarfile.LNKTYPE),
            ("soft.wav", "a.wav", tarfile.SYMTYPE),
        ):
            link = tarfile.TarInfo(name)
            link.type, link.linkname = kind, target
            tar.addfile(link)
    archive = TarArchive(path)
    assert archive.names == ["a.wav", "hard.wav", "lost.wav", "soft.wav"] and "1 names occur" in archive.note
    assert archive.open("a.wav").read() == archive.open("hard.wav").read() == b"last"
    for name, reason in (("lost.wav", "link to gone.wav"), ("soft.wav", "symbolic link"), ("none.wav", "no such file")):
        with pytest.raises(AudioError, match=reason):
            archive.open(name)


def test_cut_anywhere(tmp_path: Path) -> None:
    """The complete members before the cut are read, and the reason names the member in which the file ends."""
    whole = write_tar(tmp_path / "whole.tar", [("a.wav", CONTENT), ("b.wav", CONTENT)], tarfile.USTAR_FORMAT)
    content = whole.read_bytes()
    cases = {
        100: (0, "too short"),
        512 + 700: (0, "ends in a.wav, after 0 files: 700 of 768"),
        512 + 768: (1, "after 1 files without an end mark"),
        1536 + 200: (1, "after 1 files without an end mark"),
        2048 + 10: (1, "ends in b.wav, after 1 files: 10 of 768"),
        3072: (2, "after 2 files without an end mark"),
        3072 + 512: (2, ""),
    }
    for size, (count, reason) in cases.items():
        path = tmp_path / f"{size}.tar"
        path.write_bytes(content[:size])
        archive = TarArchive(path)
        assert len(archive.names) == count and reason in archive.problem and bool(reason) == bool(archive.problem), size
        assert all(archive.open(name).read() == CONTENT for name in archive.names)


def header(size: bytes, kind: bytes = b"0") -> bytes:
    """A header with any text as its size, and a correct checksum."""
    block = bytearray(tarfile.TarInfo("x.wav").tobuf(tarfile.USTAR_FORMAT))
    block[124:136], block[156:157], block[148:156] = size, kind, b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


@pytest.mark.parametrize(
    ("size", "kind", "reason"),
    [
        (b"\x80" + (2**62).to_bytes(11, "big"), b"0", "ends in x.wav"),
        (b"\xff" + (2**88 - 512).to_bytes(11, "big"), b"0", "damaged"),
        (b"\xff" + (2**88 - 512).to_bytes(11, "big"), b"x", "damaged"),
        (b"\x80" + (2**40).to_bytes(11, "big"), b"L", "damaged"),
        (b"00000002001\0", b"L", "ends after 1 files, in a header"),
        (b"00000000010\0", b"x", "damaged"),
        (b"00000000000\0", b"S", "sparse"),
    ],
)
def test_sizes_are_compared_with_the_file(tmp_path: Path, size: bytes, kind: bytes, reason: str) -> None:
    """Sizes that are too large, negative or of a wrong header end the index, which keeps what precedes them."""
    path = write_tar(tmp_path / "a.tar", [("a.wav", CONTENT)], tarfile.USTAR_FORMAT)
    path.write_bytes(path.read_bytes()[:1536] + header(size, kind) + b"9" * 1024)
    archive = TarArchive(path)
    assert archive.names == ["a.wav"] and reason in archive.problem


@given(place=st.integers(0, 4095), value=st.integers(0, 255))
def test_damaged_byte(tmp_path_factory: pytest.TempPathFactory, place: int, value: int) -> None:
    """One wrong byte in a header is found by its checksum; the members before it are complete."""
    path = tmp_path_factory.mktemp("tar") / "a.tar"
    members = [(f"{'deep/' * 30}{number}.wav", CONTENT) for number in range(3)]
    content = bytearray(write_tar(path, members).read_bytes())
    content[place] = value
    path.write_bytes(content)
    archive = TarArchive(path)
    assert archive.problem or len(archive.names) == 3 or value == content[place]
    assert all(len(archive.open(name).read()) <= len(CONTENT) for name in archive.names)


def test_other_files(tmp_path: Path) -> None:
    whole = write_tar(tmp_path / "a.tar", [("a.wav", CONTENT)])
    (tmp_path / "joined.tar").write_bytes(whole.read_bytes() * 2)
    (tmp_path / "noise.tar").write_bytes(CONTENT)
    assert "after its end mark, after 1 files" in TarArchive(tmp_path / "joined.tar").problem
    assert TarArchive(tmp_path / "noise.tar").problem == "it is not a tar file"
