"""An untrusted file is read for its tensors only; nothing in it is executed, even if it is broken."""

from __future__ import annotations

import argparse
import io
import os
import sys
import types
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from unheard.cli import main
from unheard.errors import CheckpointError
from unheard.weights.allowlist import load_tensors, read_pickle
from unheard.weights.pickle_values import InertConfig

NEW_AND_OLD = pytest.mark.parametrize("new", [True, False], ids=["zip", "old format"])


class Call:
    """Pickles as a call of ``function`` with ``arguments``."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.call


def save(content: object, file: Path, new: bool = True) -> Path:
    torch.save(content, file, _use_new_zipfile_serialization=new)
    return file


@NEW_AND_OLD
def test_a_file_that_would_run_a_command_is_refused_and_nothing_runs(
    new: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    marker = tmp_path / "ran"
    file = save(
        {"model": {"w": torch.ones(2)}, "extra": Call(os.system, f"touch {marker}")}, tmp_path / "evil.pth", new
    )
    code = main(["convert", str(file), "-o", str(tmp_path / "made"), "--layout", "msm-mae", "--name", "80x512p16x16"])
    output = capsys.readouterr()
    assert code == 2 and output.out == "" and len(output.err.splitlines()) == 1
    assert "posix.system" in output.err and "could run code" in output.err
    assert "weights_only" not in output.err
    assert not marker.exists() and not (tmp_path / "made").exists()


@NEW_AND_OLD
@pytest.mark.parametrize("function", [eval, exec, __import__, getattr, open], ids=lambda function: function.__name__)
def test_built_in_functions_are_refused(function: Callable[..., object], new: bool, tmp_path: Path) -> None:
    file = save({"w": torch.ones(2), "x": Call(function, "os")}, tmp_path / "evil.pth", new)
    with pytest.raises(CheckpointError, match="could run code"):
        read_pickle(file)


@NEW_AND_OLD
def test_whatever_a_training_program_left_is_inert(new: bool, tmp_path: Path) -> None:
    content = {
        "model": OrderedDict(w=torch.arange(3.0)),
        "args": argparse.Namespace(lr=6e-4, nested=argparse.Namespace(a=[1, 2])),
        "loss": np.float32(0.25),
        "step": np.int64(7),
        "finite": np.bool_(True),
    }
    opened = read_pickle(save(content, tmp_path / "whole.pth", new))
    assert (
        isinstance(opened["args"], InertConfig)
        and opened["args"]["lr"] == 6e-4
        and opened["args"]["nested"]["a"] == [1, 2]
    )
    assert (opened["loss"], opened["step"], opened["finite"]) == (0.25, 7, True)
    assert load_tensors(tmp_path / "whole.pth")["w"].tolist() == [0, 1, 2]


@pytest.fixture
def fairseq(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """A module named like fairseq's, there while files are written and gone when they are read."""
    module = types.ModuleType("fairseq.dataclass.configs")
    for name in ("fairseq", "fairseq.dataclass"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, module.__name__, module)

    class CommonConfig:
        calls: ClassVar[list[object]] = []

        def __init__(self, *arguments: object) -> None:
            self.seed = 3
            self.calls.append(arguments)

        def __setstate__(self, state: dict[str, object]) -> None:
            self.calls.append(state)

    CommonConfig.__module__, CommonConfig.__qualname__ = module.__name__, "CommonConfig"
    module.CommonConfig = CommonConfig  # type: ignore[attr-defined]
    return module


@NEW_AND_OLD
@pytest.mark.parametrize("present", [False, True], ids=["not installed", "installed"])
def test_configuration_classes_are_never_looked_up(
    fairseq: types.ModuleType, new: bool, present: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = fairseq.CommonConfig
    file = save(
        {"model": {"w": torch.ones(2)}, "cfg": made(), "call": Call(made, "arguments")}, tmp_path / "fairseq.pth", new
    )
    made.calls.clear()
    if not present:
        for name in ("fairseq", "fairseq.dataclass", "fairseq.dataclass.configs"):
            monkeypatch.delitem(sys.modules, name)
    opened = read_pickle(file)
    assert opened["cfg"] == {"seed": 3} and opened["call"] == {"arguments": ("arguments",)}
    assert type(opened["cfg"]) is type(opened["call"]) is InertConfig
    assert made.calls == []


def test_a_harmless_looking_name_does_not_open_a_door(tmp_path: Path) -> None:
    """A name below an allowed prefix is never resolved, whatever it spells; a blocked module stays blocked."""
    function = types.FunctionType((lambda: None).__code__, {}, "system")
    function.__module__, function.__qualname__ = "typing.os", "system"
    module = types.ModuleType("typing.os")
    module.system = function  # type: ignore[attr-defined]
    sys.modules["typing.os"] = module
    try:
        save({"w": torch.ones(1), "x": Call(function, "touch it")}, tmp_path / "odd.pth")
    finally:
        del sys.modules["typing.os"]
    assert read_pickle(tmp_path / "odd.pth")["x"] == {"arguments": ("touch it",)}


def test_what_is_allowed_for_one_file_is_not_for_the_next(tmp_path: Path) -> None:
    before = set(torch.serialization.get_safe_globals())
    read_pickle(save({"w": torch.ones(1), "args": argparse.Namespace(a=1)}, tmp_path / "first.pth"))
    assert set(torch.serialization.get_safe_globals()) == before


BROKEN = {
    "empty": b"",
    "text": b"this is not a checkpoint\nbut some text\n",
    "html": b"<!doctype html><html><body>404</body></html>",
    "zip without a pickle": b"PK\x05\x06" + bytes(18),
    "pickle of something": b"\x80\x02}q\x00.",
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_no_checkpoint_is_one_clear_line(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "broken.pth"
    file.write_bytes(BROKEN[name])
    assert (
        main(["convert", str(file), "-o", str(tmp_path / "made"), "--layout", "msm-mae", "--name", "80x512p16x16"]) == 2
    )
    output = capsys.readouterr().err
    assert len(output.splitlines()) == 1 and "broken.pth is not a torch checkpoint, or is damaged" in output


@cache
def whole_file(new: bool) -> bytes:
    """Return a checkpoint. It is saved once: the old format holds addresses of memory, so its length varies."""
    content = {"model": {"w": torch.ones(4)}, "args": argparse.Namespace(a=1), "loss": np.float64(1.0)}
    file = io.BytesIO()
    torch.save(content, file, _use_new_zipfile_serialization=new)
    return file.getvalue()


@NEW_AND_OLD
@given(data=st.data())
def test_a_damaged_file_opens_or_is_an_error_of_ours(
    new: bool, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    file, whole = tmp_path_factory.mktemp("damaged") / "damaged.pth", whole_file(new)
    changed = bytearray(whole[: data.draw(st.integers(0, len(whole)), "bytes kept")])
    for place in data.draw(st.lists(st.integers(0, len(changed) - 1), max_size=4), "changed bytes") if changed else []:
        changed[place] = data.draw(st.integers(0, 255), "new value")
    file.write_bytes(changed)
    text = ""
    try:
        load_tensors(file)
    except CheckpointError as error:
        text = str(error)
    assert "weights_only" not in text and "\n" not in text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([torch.ones(2)], "holds a list; give a file with a dictionary of tensors"),
        ({"epoch": 3}, "holds no tensors; its entries are epoch"),
    ],
)
def test_files_without_a_state_dictionary_say_so(content: object, message: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=message):
        load_tensors(save(content, tmp_path / "odd.pth"))


def test_a_scripted_model_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "scripted.pth", "w") as archive:
        for name in ("data.pkl", "constants.pkl", "version"):
            archive.writestr(f"scripted/{name}", b"\x80\x02}q\x00." if name.endswith("pkl") else b"3\n")
    with pytest.raises(CheckpointError, match="torchscript"):
        read_pickle(tmp_path / "scripted.pth")
