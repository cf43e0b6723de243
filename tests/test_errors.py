"""Optional packages that are missing, or present and broken, and memory that is missing, are named with the remedy."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from unheard.audio.decode import open_sound
from unheard.cli import main
from unheard.datasets.notes import Player
from unheard.errors import AudioError, UnheardError, require
from unheard.training.journal import MetricsLogger


def test_a_missing_package_is_named_with_the_command_that_installs_it() -> None:
    with pytest.raises(UnheardError, match=r"no-such, which is not installed.*pip install 'unheard\[eval\]'"):
        require("no_such_package", "eval", "no-such")


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import another_missing_package", "No module named 'another_missing_package'"),
        ("raise ImportError('libgone.so: cannot open\\nshared object file')", "libgone.so: cannot open shared object"),
        ("raise ValueError('numpy.dtype size changed')", "numpy.dtype size changed"),
    ],
)
def test_a_package_that_is_there_but_cannot_be_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, reason: str
) -> None:
    (tmp_path / "broken_package.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UnheardError, match=f"broken_package.*cannot be imported .*{reason}") as error:
        require("broken_package", "eval")
    assert "pip install --force-reinstall" in str(error.value) and "\n" not in str(error.value)


def test_a_decoder_that_cannot_be_imported_is_named_with_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.m4a").write_bytes(b"x")
    (tmp_path / "av.py").write_text("raise ImportError('libavcodec.so.60: cannot open shared object file')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "av", raising=False)
    with pytest.raises(AudioError, match=r"a.m4a: the package av .*cannot be imported .*libavcodec.so.60"):
        open_sound(tmp_path / "a.m4a")


@pytest.mark.parametrize("module", ["tensorboard", "tinysoundfont"])
def test_an_optional_package_that_is_installed_and_broken_is_not_called_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == module or name == "torch.utils.tensorboard"]:
        monkeypatch.delitem(sys.modules, name)
    use = {
        "tensorboard": lambda: MetricsLogger(tmp_path, 0, 1),
        "tinysoundfont": lambda: Player(tmp_path).note("notes/fluid/0-40.wav"),
    }[module]
    (tmp_path / f"{module}.py").write_text("raise ImportError('libgone.so: cannot open shared object file')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UnheardError, match=f"{module} is installed but cannot be imported .*libgone"):
        use()


def test_a_run_without_tensorboard_has_its_metrics_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with MetricsLogger(tmp_path, 0, 1) as rows:
        rows.write({"step": 1, "loss": 0.5})
    assert [entry.name for entry in tmp_path.iterdir()] == ["metrics.jsonl"]


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("Unable to allocate 9 GiB"),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: 9 GiB"),
    ],
)
def test_too_little_memory_is_one_line_that_proposes_smaller_batches(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("unheard.data.check.check", fail)
    assert main(["data", "check", "."]) == 2
    line = capsys.readouterr().err
    assert "9 GiB" in line and "smaller batches" in line and line.count("\n") == 1


def test_another_fault_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr("unheard.data.check.check", fail)
    with pytest.raises(RuntimeError, match="a fault of ours"):
        main(["data", "check", "."])
