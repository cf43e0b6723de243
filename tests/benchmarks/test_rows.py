"""Every row of scripts/bench runs, in a size that takes seconds, so that none can stop working unnoticed.

Rows whose peers are not installed are skipped. ``UNHEARD_LONG=1`` runs them as a user does, with compiled steps, for
one round.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from unheard.recipes.learner import PretrainModule

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))  # benchmarks/ is not installed

LONG = bool(os.environ.get("UNHEARD_LONG"))
ROWS: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {  # the packages of the peers, and the smallest sizes
    "frontend": (("librosa", "nnAudio"), {"CLIPS": 2}),
    "filter_bank": (("librosa", "nnAudio", "kaldi_native_fbank"), {}),
    "packing": (("librosa", "nnAudio"), {"CLIPS": 1}),
    "files": (("librosa", "nnAudio"), {"SIZE": "tiny", "CLIPS": 4}),
    "loader": ((), {"CLIPS": 24, "BATCH": 8}),
    "embed": (("transformers",), {"SIZES": ("tiny",), "COUNTS": (1,)}),
    "train_step": ((), {"CASES": {"a1 tiny": ("tiny", 208, 2)}}),
    "matpac_step": ((), {"CASES": {"a4 tiny": ("tiny", 208, 2)}}),
    "bat_step": ((), {"CASES": {"a5 tiny": ("tiny", 208, 1, 2)}}),
    "targets_step": ((), {"CLIPS": 2, "BATCH": 2, "STEPS": 1, "CASES": {"reconstruction": (0, None), "one": (1, 8)}}),
    "stream": ((), {"SECONDS": 6}),
    "coverage": (
        ("sklearn",),
        {"WORLDS": ((40, 3, 1.0, 1.1),), "EQUAL": (2,), "POPULATION": 500, "SETS": 2, "N_RESAMPLES": 20},
    ),
}
OTHERS = {
    "heareval",
    "xares",
    "embed_folder",
    "growth",
    "gpu",
    "step_profile",
}  # no peers, or peers with environments of their own, and commands instead of functions
PROGRAMS = sorted(set(re.findall(r"programs\+=\(\"?(\w+)", (ROOT / "scripts" / "bench").read_text())))


def test_every_row_of_the_script_is_here_and_runs_as_a_module() -> None:
    assert set(PROGRAMS) == set(ROWS) - {"coverage"} | OTHERS
    assert '-m "benchmarks.$program"' in (ROOT / "scripts" / "bench").read_text()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the peers
@pytest.mark.parametrize("name", ROWS)
def test_a_row_runs_for_one_round(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    packages, sizes = ROWS[name]
    for package in packages:
        pytest.importorskip(package)
    module = import_module(f"benchmarks.{name}")
    if not LONG:
        for constant, value in sizes.items():
            assert hasattr(module, constant), f"benchmarks/{name}.py has no {constant} any more"
            monkeypatch.setattr(module, constant, value)
        monkeypatch.setattr(PretrainModule, "compile", lambda self, **options: None)  # takes a minute
    monkeypatch.setattr(sys, "argv", [name, "--rounds", "1", "--json"])
    module.main()
    lines = capsys.readouterr().out.strip().splitlines()
    if name == "coverage":
        assert lines[0].startswith("40 clips, 3 classes: true 0.") or LONG
        return
    for line in filter(None, lines):
        row = json.loads(line)
        assert row["rows"][0]["ratio"] == 1 and all(
            each["rounds"] == 1 and each["items_per_core_second"] > 0 for each in row["rows"]
        )


def test_the_time_of_a_step_is_divided_among_its_operations(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from benchmarks import step_profile

    monkeypatch.setattr(step_profile, "CASES", {"a7 tiny": ("tiny", 208, 2)})
    monkeypatch.setattr(step_profile, "SIDE", 256)
    monkeypatch.setattr(sys, "argv", ["step_profile", "--rounds", "1", "--json"])
    step_profile.main()
    rows = [json.loads(line) for line in capsys.readouterr().out.strip().splitlines()]
    assert rows[0]["row"] == "a7 tiny, float32"
    for row in rows:
        *groups, step, bound = row["rows"]
        assert [group["name"] for group in groups] == [*step_profile.GROUPS, step_profile.OTHER]
        assert sum(group["fraction"] for group in groups) == pytest.approx(1, abs=0.01)
        assert sum(group["ms"] for group in groups) == pytest.approx(step["ms"], rel=0.05)
        assert groups[0]["fraction"] > 0.2 and bound["ms"] == pytest.approx(
            row["gflop"] / row["gflop_per_s"] * 1000, rel=0.1
        )
    operations = ["aten::addmm", "aten::native_layer_norm_backward", "aten::_fused_adamw_", "aten::copy_", "aten::sum"]
    assert [step_profile.group_of(name) for name in operations] == [*step_profile.GROUPS, step_profile.OTHER]


def test_a_folder_is_embedded_by_both_sides(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for package in ("transformers", "librosa", "nnAudio"):
        pytest.importorskip(package)
    from benchmarks import embed_folder
    from benchmarks.made import write_clips

    monkeypatch.setattr(embed_folder, "CLIPS", 2)
    monkeypatch.setattr(sys, "argv", ["embed_folder", "g1", "--json"])
    embed_folder.main()
    found = json.loads(capsys.readouterr().out)
    assert found["files"] == 2 and 0 < found["hours"] < 0.02
    assert [each["name"] for each in found["rows"]] == ["transformers, DataLoader", "unheard embed"]
    (tmp_path / "sounds").mkdir()
    write_clips(tmp_path / "sounds", 3)
    assert embed_folder.link_sounds(tmp_path / "sounds", 2, tmp_path / "links") == pytest.approx(20 / 3600, rel=0.05)
    assert [each.resolve().name for each in sorted((tmp_path / "links").iterdir())] == ["000.mp3", "002.mp3"]


def test_growth_is_printed_and_drawn(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    pytest.importorskip("matplotlib")
    from benchmarks import growth
    from benchmarks.made import write_clips

    small = {"DURATIONS": (1, 3), "PATCHES": ((16, 16), (16, 8)), "SIZES": ("tiny",), "CLIPS": (100, 300)}
    for constant, value in small.items():
        monkeypatch.setattr(growth, constant, value)
    monkeypatch.setattr(growth, "seconds", lambda command, **_: 6.0 / int(command[command.index("--processes") + 1]))
    (tmp_path / "sounds").mkdir()
    write_clips(tmp_path / "sounds", 1)
    options = ["--sounds", str(tmp_path / "sounds"), "--rounds", "1", "--out", str(tmp_path / "growth.png")]
    monkeypatch.setattr(sys, "argv", ["growth", *options])
    growth.main()
    titles = ("duration", "patch size", "model size", "corpus size", "processes (0.00 h)")
    printed = capsys.readouterr().out
    assert all(f"| {title} |" in printed for title in titles)
    assert (tmp_path / "growth.png").stat().st_size > 10_000


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_the_rows_of_a_gpu_are_measured_in_one_run(
    device: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    from benchmarks import gpu

    for constant, value in {"CORPUS": 6, "FILES": 3, "AST_BATCH": 1, "ROUNDS": 1, "EMBED_SIZE": "tiny"}.items():
        monkeypatch.setattr(gpu, constant, value)
    base = gpu.Case("msm-mae", "tiny", 32, 4, 4, 1)
    small = {"f1": [base, replace(base, on_device=True)], "f3": [gpu.Case("matpac", "tiny", 32, 4, 4, 1)]}
    monkeypatch.setattr(gpu, "CASES", small)
    out = tmp_path / "gpu.json"
    words = ["gpu", "--out", str(out), "--rows", "f1,f3,f5", "--device", device, "--peak", "0.5"]
    monkeypatch.setattr(sys, "argv", words)
    gpu.main()
    found = json.loads(out.read_text())["rows"]
    peer = ["f5"] if find_spec("transformers") else []
    assert [row["row"] for row in found] == ["f1", "f4", "f6", "f1", "f1", "f4", "f3", "f3", *peer, "f5", "f5"]
    assert all(row["value"] > 0 if row["row"] != "f4" else 0 <= row["value"] < 1 for row in found)
    ours, wait, hours, theirs = found[:4]
    assert hours["value"] == pytest.approx(100 * 2e6 / ours["value"] / 3600)
    assert ours["mfu"] == pytest.approx(ours["value"] * ours["gflop_per_window"] * 1e9 / 0.5e12)
    assert theirs["ours_over_peer"] == pytest.approx(ours["value"] / theirs["value"])
    assert f"| f4 | {wait['what']} |" in capsys.readouterr().out


def test_the_flop_of_a_training_window_agree_with_the_estimate() -> None:
    from benchmarks import gpu

    case = gpu.BASE
    assert gpu.flop_of_window(case) == pytest.approx(2.3e18 / (100 * 1.97e6), rel=0.1)  # 100 epochs of AudioSet


@pytest.mark.parametrize("name", [*ROWS, *sorted(OTHERS)])
def test_a_row_starts_as_a_module_on_a_clean_path(name: str) -> None:
    if any(find_spec(package) is None for package in ROWS.get(name, ((), {}))[0]):
        pytest.skip("its peer is not installed")
    if name == "coverage":
        command = [
            sys.executable,
            "-c",
            "import benchmarks.coverage, numba, coverage; assert 'benchmarks' not in str(coverage.__file__)",
        ]
        if find_spec("numba") is None or find_spec("coverage") is None:
            pytest.skip("numba and coverage are not installed")
    else:
        command = [sys.executable, "-m", f"benchmarks.{name}", "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-1500:]
