"""Files are complete or missing, have a checksum, and one writer at a time."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from unheard.errors import CheckpointError, ConfigError, DataError
from unheard.files import (
    FILES,
    atomic_write,
    file_checksums,
    json_line,
    read_json,
    read_json_lines,
    remove_contents,
    remove_unfinished,
    replace_folder,
    verify_folder,
    write_json,
    write_table,
    write_text,
)
from unheard.outputs import locked_file, locked_folder


def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    file = write_text(tmp_path / "text.txt", "before")

    def half() -> None:
        with atomic_write(file) as unfinished:
            unfinished.write_text("half")
            raise OSError("no space")

    with pytest.raises(OSError, match="no space"):
        half()
    assert file.read_text() == "before"
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("umask", [0o022, 0o002, 0o077])
def test_files_have_the_mode_that_open_gives(tmp_path: Path, umask: int) -> None:
    tensors, before = {"a": torch.zeros(2)}, os.umask(umask)
    try:
        (tmp_path / "opened").write_text("")
        with atomic_write(tmp_path / "one.safetensors") as unfinished:
            save_file(tensors, unfinished)
        replace_folder(tmp_path / "model", lambda folder: save_file(tensors, folder / "two.safetensors"))
    finally:
        os.umask(before)
    files = [tmp_path / name for name in ("opened", "one.safetensors", "model/two.safetensors")]
    assert {file.stat().st_mode & 0o777 for file in files} == {0o666 & ~umask}
    assert sorted(entry.name for entry in (tmp_path / "model").iterdir()) == ["two.safetensors"]


def test_a_table_with_a_bad_row_replaces_nothing(tmp_path: Path) -> None:
    file = write_table(tmp_path / "rows.csv", ("a", "b"), [{"a": "1", "b": "zwei, drei"}])
    with pytest.raises(ValueError, match="c"):
        write_table(file, ("a", "b"), [{"a": "2", "b": ""}, {"c": "3"}])
    assert file.read_text() == 'a,b\n1,"zwei, drei"\n'
    assert list(tmp_path.iterdir()) == [file]


def test_writers_of_one_file_do_not_disturb_each_other(tmp_path: Path) -> None:
    texts = [f"{number}" * 1000 for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda text: [write_text(tmp_path / "one.txt", text) for _ in range(20)], texts))
    assert (tmp_path / "one.txt").read_text() in texts
    assert [entry.name for entry in tmp_path.iterdir()] == ["one.txt"]


def test_every_flipped_bit_of_a_json_file_is_found(tmp_path: Path) -> None:
    file = write_json(tmp_path / "a.json", {"step": 3, "loss": 0.1, "name": "\udcff"})
    assert read_json(file) == {"step": 3, "loss": 0.1, "name": "\udcff"}
    content = file.read_bytes()
    missed = []
    for place in range(len(content)):
        file.write_bytes(content[:place] + bytes([content[place] ^ 1 << place % 8]) + content[place + 1 :])
        with contextlib.suppress(CheckpointError):
            missed.append(read_json(file, CheckpointError))
    assert all(values == {"step": 3, "loss": 0.1, "name": "\udcff"} for values in missed)  # white space


def test_json_without_a_checksum_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("[1]")
    with pytest.raises(DataError, match="no checksum"):
        read_json(tmp_path / "a.json")


def _hold(folder: Path, ready: multiprocessing.synchronize.Event, done: multiprocessing.synchronize.Event) -> None:
    with locked_folder(folder):
        ready.set()
        done.wait(60)


def test_a_second_process_is_refused_by_name_until_the_first_has_ended(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ready, done = context.Event(), context.Event()
    holder = context.Process(target=_hold, args=(tmp_path / "run", ready, done))
    holder.start()
    assert ready.wait(60)
    with (
        pytest.raises(ConfigError, match=rf"run is being written by process {holder.pid} on "),
        locked_folder(tmp_path / "run"),
    ):
        pass
    holder.kill()  # nothing is left to clean up: the system releases the lock
    holder.join()
    with locked_folder(tmp_path / "run"):
        (tmp_path / "run" / "model").mkdir()
        write_text(tmp_path / "run" / ".a.txt.1-2.part", "half")
        remove_unfinished(tmp_path / "run")
        assert sorted(entry.name for entry in (tmp_path / "run").iterdir()) == [".lock", "model"]
        remove_contents(tmp_path / "run")
    assert list(tmp_path.iterdir()) == [tmp_path / "run"]  # it was there before
    assert not list((tmp_path / "run").iterdir())


def test_a_folder_that_its_last_owner_deletes_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, opened, deleted = tmp_path / "run", os.open, []

    def open_after_the_other_left(path: Path, *more: int) -> int:
        if not deleted:
            deleted.append(path)
            folder.rmdir()
        return opened(path, *more)

    monkeypatch.setattr("unheard.outputs.os.open", open_after_the_other_left)
    with locked_folder(folder):
        assert (folder / ".lock").exists() and deleted


def test_a_lock_leaves_nothing_behind(tmp_path: Path) -> None:
    again = locked_file(tmp_path / "table.csv")
    with (
        locked_folder(tmp_path / "a" / "b"),
        locked_file(tmp_path / "table.csv"),
        pytest.raises(ConfigError, match="table.csv is being"),
    ):
        again.__enter__()
    assert [entry.name for entry in tmp_path.iterdir()] == ["a"]
    assert not list((tmp_path / "a").iterdir())


def test_a_damaged_line_is_named_and_the_others_are_read(tmp_path: Path) -> None:
    rows = [{"step": step, "loss": 1 / (step + 1)} for step in range(5)]
    content = "".join(json_line(row) for row in rows).encode()
    (tmp_path / "metrics.jsonl").write_bytes(content)
    assert read_json_lines(tmp_path / "metrics.jsonl") == (rows, [])
    begins = [0, *(i + 1 for i, byte in enumerate(content) if byte == ord("\n"))]
    for place in range(len(content)):
        (tmp_path / "metrics.jsonl").write_bytes(
            content[:place] + bytes([content[place] ^ 1 << place % 8]) + content[place + 1 :]
        )
        found, damaged = read_json_lines(tmp_path / "metrics.jsonl")
        assert damaged and all(row in rows for row in found)
        assert len(found) >= 3, begins  # at most the line itself, and the next one where the end of the line was hit
    (tmp_path / "metrics.jsonl").write_bytes(content[:-4])
    assert read_json_lines(tmp_path / "metrics.jsonl") == (rows[:4], [5])


def test_all_that_is_damaged_in_a_folder_is_named(tmp_path: Path) -> None:
    write_text(tmp_path / "weights.bin", "weights")
    write_json(tmp_path / "config.json", {FILES: file_checksums(tmp_path, ["weights.bin"])})
    write_text(tmp_path / "metrics.jsonl", json_line({"step": 1}) + json_line({"step": 2}))
    write_text(tmp_path / "theirs.json", "{")
    assert list(verify_folder(tmp_path)) == []
    write_text(tmp_path / "weights.bin", "weighty")
    write_text(tmp_path / "metrics.jsonl", json_line({"step": 1}) + json_line({"step": 2}).replace("2", "3", 1))
    assert [line.removeprefix(f"{tmp_path}/") for line in verify_folder(tmp_path)] == [
        "weights.bin is missing or differs from its checksum",
        "metrics.jsonl: line 2 is incomplete or damaged",
    ]
