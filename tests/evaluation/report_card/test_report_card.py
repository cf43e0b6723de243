"""The report card: an encoder without a defect passes every check, and each defect is found by the check for it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import unheard
from unheard.cli import main
from unheard.errors import ConfigError
from unheard.evaluation.report_card.card import CHECKS, report_card, run_check
from unheard.evaluation.report_card.cost import peak_growth
from unheard.evaluation.report_card.result import Outcome, ReportCard
from unheard.evaluation.report_card.subject import Subject, open_subject

MODULE = """
import torch

HOP = 800


class Levels(torch.nn.Module):
    sample_rate = 16000


def load_model():
    return Levels()


def blocks(audio):
    if not torch.isfinite(audio).all():
        raise ValueError("audio must be finite")
    short = -audio.shape[1] % HOP
    audio = torch.nn.functional.pad(audio, (0, short)).reshape(len(audio), -1, HOP)
    bands = torch.fft.rfft(audio).abs()[..., 1:161].reshape(*audio.shape[:2], 16, 10).mean(-1)
    return torch.log(bands + 0.1)


def get_scene_embeddings(audio, model):
    scene = blocks(audio).mean(1)
    {scene}
    return scene


def get_timestamp_embeddings(audio, model):
    frames = blocks(audio)
    ends = torch.arange(frames.shape[1]) * HOP + HOP / 2
    times = (1000 * ends / 16000).clamp(max=1000 * audio.shape[1] / 16000)
    {times}
    return frames, times.expand(len(audio), -1)
"""
Encoder = Callable[[str, str], str]
pytestmark = pytest.mark.filterwarnings("ignore:At least one mel filter")


@pytest.fixture
def write_encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Encoder]:
    """Write a HEAR module with two lines of its own, before it returns scenes and times."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(scene: str = "", times: str = "") -> str:
        (tmp_path / "levels_encoder.py").write_text(MODULE.replace("{scene}", scene).replace("{times}", times))
        return "hear:levels_encoder"

    yield write
    sys.modules.pop("levels_encoder", None)


def states(card: ReportCard) -> dict[str, str]:
    return {check.name: check.state for check in card.checks}


def result(name: str, subject: Subject) -> str:
    return run_check(name, CHECKS[name], subject).state


def test_an_encoder_without_a_defect_passes_every_check_that_applies(write_encoder: Encoder) -> None:
    card = report_card(write_encoder("", ""), "cpu")
    assert card.passed and not card.failed, [(check.name, check.meaning) for check in card.failed]
    assert [name for name, state in states(card).items() if state != "pass"] == ["other lengths"]
    assert card.sample_rate == 16_000 and len(card.checks) == len(CHECKS)
    late = next(check for check in card.checks if check.name == "click track")
    assert late.value is not None and 0 <= late.value <= 25 and late.unit == "ms"


def test_our_model_passes_every_check(tmp_path: Path) -> None:
    card = unheard.doctor("random-tiny", device="cpu")
    assert card.passed, [(check.name, check.meaning) for check in card.failed]
    assert set(states(card).values()) == {"pass"}


@pytest.mark.parametrize(
    ("check", "scene", "times"),
    [
        ("alone and in a batch", "scene = scene - scene.mean(0) * (len(scene) > 1)", ""),
        ("repetition", "scene = scene + torch.rand_like(scene)", ""),
        ("repetition", "", "frames = frames + torch.rand_like(frames)"),
        ("width", "scene = torch.nn.functional.pad(scene, (0, audio.shape[1] // 16000))", ""),
        ("finite values", "scene = scene / (audio.std(1, keepdim=True) > 1e-6)  # a constant divides by zero", ""),
        ("silence", "scene = scene / audio.abs().amax(1, keepdim=True)", ""),
        ("level", "scene = torch.where(audio.abs().amax() > 1, torch.nan, scene)", ""),
        ("one sample", "assert audio.shape[1] > 1", ""),
        ("a tenth of a second", "assert audio.shape[1] > 1600", ""),
        ("a tenth of a second", "scene = torch.nan * scene if audio.shape[1] == 1600 else scene", ""),
        ("click track", "", "times = times + 500"),
        ("click track", "", "times = times / 2"),
        ("order of times", "", "times = times.flip(0)"),
        ("order of times", "", "times = times + 500"),
        ("coverage of times", "", "frames, times = frames[:, :-3], times[:-3]"),
        ("coverage of times", "", "times = times + 100"),
        ("a minute of audio", "", "frames, times = frames[:, :600], times[:600]"),
        ("file formats", "scene = scene + 9 * (audio.diff(dim=1).abs().amin(1, keepdim=True) == 0)", ""),
        ("alone and in a batch", "scene = scene[0]", ""),
    ],
)
def test_a_defect_is_found(write_encoder: Encoder, check: str, scene: str, times: str) -> None:
    assert result(check, open_subject(write_encoder(scene, times), "cpu")) == "fail"


def test_invalid_input_that_gets_a_vector_is_a_failure(write_encoder: Encoder, tmp_path: Path) -> None:
    name = write_encoder("", "")
    module = tmp_path / "levels_encoder.py"
    module.write_text(module.read_text().replace("if not torch.isfinite(audio).all():", "if False:"))
    found = run_check("invalid", CHECKS["NaN and infinite input"], open_subject(name, "cpu"))
    assert (found.state, found.value) == ("fail", 3) and "nan, inf, -inf" in found.meaning


def test_lengths_that_change_a_vector_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    subject = open_subject("random-tiny", "cpu")
    assert result("other lengths", subject) == "pass"
    together = Subject.together

    def padded(self: Subject, sounds: list[tuple[np.ndarray, int]]) -> list[np.ndarray] | None:
        longest = max(len(wav) for wav, _ in sounds)
        return together(self, [(np.pad(wav, (0, longest - len(wav))), rate) for wav, rate in sounds])

    monkeypatch.setattr(Subject, "together", padded)
    assert result("other lengths", subject) == "fail"


def test_an_error_in_one_check_leaves_the_others(write_encoder: Encoder) -> None:
    card = report_card(write_encoder("assert audio.shape[1] > 1600, 'too short'", ""), "cpu")
    assert [check.name for check in card.failed] == ["one sample", "a tenth of a second"]
    assert card.failed[0].meaning == "The encoder raised AssertionError: too short"
    assert card.failed[0].value is None and "2 failed" in card.summary


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux reports the peak")
def test_memory_that_is_freed_before_the_end_of_a_call_is_counted() -> None:
    held = [np.ones(2**17) for _ in range(64)]  # 64 MiB that the allocator may keep
    del held
    grown = peak_growth(lambda: float(np.concatenate([np.ones(2**17) for _ in range(32)]).sum()))
    assert grown is not None and 48 <= grown <= 96  # 32 MiB of parts and 32 MiB of their copy


def test_numbers_that_are_not_finite_are_left_out() -> None:
    subject = open_subject("random-tiny", "cpu")
    found = run_check("any", lambda _: Outcome(False, "It failed.", float("nan"), "cosine"), subject)
    assert found.value is None and found.number == ""


def test_encoders_of_hugging_face_are_checked(hf_model: Callable[[str], Path]) -> None:
    card = report_card(f"hf:{hf_model('hubert')}", "cpu")
    assert len(card.checks) == len(CHECKS) and "not applicable" not in states(card).values()
    assert {"alone and in a batch", "other lengths", "repetition"} <= {
        name for name, state in states(card).items() if state == "pass"
    }


def test_encoders_of_x_ares_are_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "late_encoder.py").write_text(
        "import torch\n\n\nclass LateEncoder(torch.nn.Module):\n"
        "    sampling_rate, output_dim, hop_size_in_ms = 16000, 2, 50\n\n"
        "    def forward(self, audio):\n"
        "        x = torch.nn.functional.pad(audio, (8000, 800))[:, : -(-audio.shape[1] // 800) * 800]\n"
        "        x = x.reshape(len(audio), -1, 800)\n"
        "        return torch.stack([x.mean(-1), x.std(-1)], dim=-1)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    found = run_check("click", CHECKS["click track"], open_subject("xares:late_encoder", "cpu"))
    assert found.state == "fail" and "495 ms late" in found.meaning


def test_stored_embeddings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no encoder"):
        open_subject(f"embeddings:{tmp_path}")


def test_the_command_prints_a_table_and_writes_a_page(
    write_encoder: Encoder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page, name = tmp_path / "card.html", write_encoder("", "times = times + 500")
    assert main(["doctor", "--model", name, "-o", str(page), "--device", "cpu"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["check", "state", "number", "meaning"] and lines[-1] == f"page: {page}"
    row = next(line for line in lines if line.startswith("click track"))
    assert "fail" in row and "505 ms late" in row
    html = page.read_text()
    assert "more than one hop (50 ms) away" in html and "Report card of hear:levels_encoder" in html
    assert main(["doctor", "--model", name, "-o", str(page)]) == 2 and "exists" in capsys.readouterr().err


def test_the_command_prints_json_and_exits_with_0_if_nothing_failed(
    write_encoder: Encoder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor", "--model", write_encoder("", ""), "--json", "--device", "cpu"]) == 0
    card = json.loads(capsys.readouterr().out)
    assert card["passed"] and card["out"] is None and {check["name"] for check in card["checks"]} == set(CHECKS)


@pytest.mark.parametrize("options", [["-o", "card.html"], ["--device", "cpu"], ["--overwrite"]])
def test_options_of_encoders_are_refused_without_one(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", *options]) == 2
    assert "no effect without --model" in capsys.readouterr().err
