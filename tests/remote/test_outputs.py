"""Outputs of commands at addresses: the policy of local ones, uploaded when they are complete."""

from __future__ import annotations

import inspect
from pathlib import Path

import numpy as np
import pytest
import s3fs
import soundfile
from tests.remote.store import Fault, Store

import unheard.api
from unheard.cli import main
from unheard.data.label_table import read_labels
from unheard.errors import ConfigError, RemoteError
from unheard.files import write_text
from unheard.outputs import refuse_existing
from unheard.remote import access
from unheard.remote.listing import files_below
from unheard.remote.outputs import uploaded
from unheard.remote.reading import open_file
from unheard.remote.writing import working_place

TABLE = "s3://sounds/tables/labels.csv"


@pytest.fixture
def annotated(tmp_path: Path) -> Path:
    """Two recordings with a label file of Audacity each."""
    folder = tmp_path / "recordings"
    folder.mkdir()
    for name in "ab":
        soundfile.write(folder / f"{name}.wav", 0.1 * np.random.default_rng(0).standard_normal(8000), 16000)
        (folder / f"{name}.txt").write_text("0.0\t0.2\tdog\n0.2\t0.4\train\n")
    return folder


@uploaded("out", "copy")
def write(text: str, out: str | Path, copy: str | Path | None = None, *, overwrite: bool = False) -> str:
    """Write one file, or a folder with one file; fail after it if the text is an error."""
    for path in (out, copy):
        if path is not None:
            refuse_existing(path, overwrite)
            file = Path(path) if Path(path).suffix else Path(path) / "text.txt"
            file.parent.mkdir(parents=True, exist_ok=True)
            write_text(file, text)
    if text == "error":
        raise ConfigError(f"{out} has a bad text")
    return text


def content(address: str) -> str:
    with open_file(address) as file:
        return file.read().decode()


def broken(*args: object, **options: object) -> None:
    raise OSError("no network")


def test_a_file_is_uploaded_when_it_is_complete(
    annotated: Path, store: Store, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store.faults.append(Fault("503", "PUT", "labels.csv"))
    command = ["data", "import", "audacity", str(annotated), "-o", TABLE]
    assert main(command) == 0
    assert not store.faults and store.keys() == ["tables/labels.csv"] and not any((place / "out").iterdir())
    assert f"{TABLE}: 4 annotations" in capsys.readouterr().out
    labels = read_labels(TABLE)
    assert labels.classes == ["dog", "rain"] and all(Path(path).is_file() for path in labels.paths)
    assert main(command) == 2
    assert f"{TABLE} exists; choose another -o, or replace it with --overwrite" in capsys.readouterr().err
    assert main([*command, "--overwrite", "--background"]) == 2  # nothing is left to label
    assert read_labels(TABLE).classes == ["dog", "rain"]
    assert main([*command, "--overwrite"]) == 0


def test_an_upload_that_fails_is_named_and_the_same_command_continues(
    annotated: Path, store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command, kept = ["data", "import", "audacity", str(annotated), "-o", TABLE], working_place(TABLE, "import")
    with monkeypatch.context() as patch:
        patch.setattr(access, "TRIES", 1)
        patch.setattr(s3fs.S3FileSystem, "retries", 1)
        store.faults.append(Fault("503", "PUT", "labels.csv", times=10_000))
        assert main(command) == 2
    error = capsys.readouterr().err
    assert (
        f"{TABLE}: could not be written" in error and f"is kept in {working_place(TABLE, 'import')}: copy it" in error
    )
    assert "dog" in kept.read_text() and not store.keys()
    store.faults.clear()
    assert main(command) == 0
    assert store.keys() == ["tables/labels.csv"] and not kept.exists()


def test_a_folder_is_complete_with_its_last_file(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["data", "generate", "-o", "s3://sounds/made", "--clips", "3"]
    store.faults.append(Fault("503", "PUT", ".wav"))
    assert main(command) == 0
    assert "s3://sounds/made/labels.csv" in capsys.readouterr().out
    written = [path for method, path in store.requests if method == "PUT" and path.startswith("/sounds/made/")]
    assert not store.faults and written[-1] == "/sounds/made/labels.csv" and len(store.keys("made/")) == 4
    assert main(command) == 2
    assert "s3://sounds/made exists" in capsys.readouterr().err
    store.put("made/notes.txt", b"of the user")
    assert main([*command, "--overwrite"]) == 0
    assert len(store.keys("made/")) == 5 and store.get("made/notes.txt") == b"of the user"


def test_overwriting_replaces_a_folder_as_a_local_one(memory: str, tmp_path: Path) -> None:
    write("one", f"{memory}/folder")
    write_text(tmp_path / "other.txt", "other")
    access.file_system(memory)[0].put_file(str(tmp_path / "other.txt"), f"{memory}/folder/other.txt")
    with pytest.raises(ConfigError, match=rf"^{memory}/folder exists; choose another -o"):
        write("two", f"{memory}/folder")
    write("two", f"{memory}/folder", overwrite=True)
    assert content(f"{memory}/folder/text.txt") == "two" and content(f"{memory}/folder/other.txt") == "other"


def test_a_kept_output_is_overwritten_by_the_same_verb(memory: str, monkeypatch: pytest.MonkeyPatch) -> None:
    out = f"{memory}/a.txt"
    with pytest.raises(ConfigError, match=rf"^{out} has a bad text"):
        write("error", out)
    with monkeypatch.context() as patch:
        patch.setattr("fsspec.implementations.memory.MemoryFileSystem.put_file", broken)
        with pytest.raises(RemoteError, match=r"\(no network\).*; the finished output is kept in"):
            write("two", out)
    assert working_place(out, "write").read_text() == "two" and not working_place(out).exists()
    assert write("three", out) == "three" and content(out) == "three"
    assert not working_place(out, "write").parent.exists()


def test_a_local_output_next_to_one_at_an_address_keeps_its_policy(
    memory: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError):
        write("error", f"{memory}/a.txt")
    write_text(tmp_path / "b.txt", "of the user")
    with pytest.raises(ConfigError, match=r"b.txt exists"):
        write("two", f"{memory}/a.txt", tmp_path / "b.txt")
    assert (tmp_path / "b.txt").read_text() == "of the user"
    write("two", tmp_path / "c.txt", f"{memory}/b.txt")
    assert (tmp_path / "c.txt").read_text() == content(f"{memory}/b.txt") == "two"


@pytest.mark.parametrize("name", [each for each in unheard.api.__all__ if each not in ("resume", "resume_finetune")])
def test_every_verb_with_an_output_looks_at_its_address_first(name: str) -> None:
    """Here its scheme is unknown."""
    verb = getattr(unheard.api, name)
    parameters = inspect.signature(verb).parameters
    if "out" not in parameters or name == "plan_embed":
        return
    needed = {key: "x" for key, each in parameters.items() if each.default is inspect.Parameter.empty}
    with pytest.raises(ConfigError, match=r"^xyz://bucket/x: the scheme xyz:// is unknown"):
        verb(**{**needed, "out": "xyz://bucket/x"})


def files_named(address: str) -> list[str]:
    """Return the files below an address; none if it is not there."""
    try:
        return list(files_below(address))
    except RemoteError:
        return []
