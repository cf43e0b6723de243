"""Models of every kind as encoders: ours, HEAR modules, X-ARES encoders, log-mel; their names, and where they embed."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from tests.evaluation.made import RATE, Levels

from unheard.audio.frontend import LogMel, LogMelConfig
from unheard.errors import ConfigError
from unheard.evaluation.encoders import choose as encoders_module
from unheard.evaluation.encoders.choose import LogMelEncoder, encoder, encoders, folder_name


def test_one_encoder_alone_makes_no_baselines(levels: Levels, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = [each.name for each in encoders("hear:levels")]
    monkeypatch.setattr(
        encoders_module.hear_api, "load_model", lambda *given, **how: pytest.fail("a baseline was made")
    )
    monkeypatch.setattr(encoders_module, "reinitialised", lambda *given, **how: pytest.fail("a baseline was made"))
    assert [encoder("hear:levels").name, "random", "log-mel"] == wanted
    assert encoder("random-tiny").name == "random-tiny"


def test_an_xares_encoder_is_evaluated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_encoder.py").write_text(
        "import torch\n\n\nclass Blocks(torch.nn.Module):\n    sampling_rate, output_dim, hop_size_in_ms = 16000, 2,"
        " 50\n\n    def forward(self, audio):\n        x = audio[:, : audio.shape[1] // 800 * 800].reshape(len(audio),"
        " -1, 800)\n        return torch.stack([x.mean(-1), x.std(-1)], dim=-1)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    encoder = encoders("xares:my_encoder")[0]
    frames, times = encoder.timestamps(torch.ones(3, RATE))
    assert frames.shape == (3, 20, 2) and times[0, :2].tolist() == [25.0, 75.0]
    assert encoder.scenes(torch.ones(3, RATE)).shape == (3, 2)
    with pytest.raises(ConfigError, match="0 encoders named Other"):
        encoders("xares:my_encoder:Other")
    with pytest.raises(ConfigError, match="no load_model"):
        encoders("hear:my_encoder")
    with pytest.raises(ConfigError, match="cannot be imported"):
        encoders("hear:no_such_module")


def test_our_models_come_with_an_untrained_twin_and_log_mel() -> None:
    ours, blank, plain = encoders("random-tiny")
    assert [each.name for each in (ours, blank, plain)] == ["random-tiny", "random", "log-mel"]
    assert {each.sample_rate for each in (ours, blank, plain)} == {RATE}
    assert ours.scenes(torch.zeros(2, RATE)).shape == blank.scenes(torch.zeros(2, RATE)).shape


def test_log_mel_blocks_are_about_50_ms_and_end_with_the_sound() -> None:
    frames, times = LogMelEncoder(LogMel()).timestamps(torch.zeros(2, RATE))
    assert frames.shape == (2, 20, 160)
    assert times[0, :2].tolist() == [20.0, 70.0] and times[0, -1] <= 1000


def test_weights_are_part_of_the_name(levels: Levels, tmp_path: Path) -> None:
    (tmp_path / "first.v1.pt").write_bytes(b"")
    names = [
        "hear:levels",
        f"hear:levels:{tmp_path / 'first.v1.pt'}",
        "hear:levels:org/model-v1.5",
        "hear:levels:org/model-v1.6",
    ]
    assert [encoders(name)[0].name for name in names] == [
        "levels",
        "levels.first.v1",
        "levels.model-v1.5",
        "levels.model-v1.6",
    ]


class Placed(torch.nn.Module):
    """A torch module that tells where it and its audio are."""

    sample_rate = sampling_rate = RATE
    output_dim, hop_size_in_ms = 2, 50

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.devices = torch.nn.Parameter(torch.ones(1)), list[str]()

    def forward(self, audio: torch.Tensor, model: Any = None) -> torch.Tensor:
        self.devices.append(f"{audio.device}, {self.weight.device}")
        return torch.ones(len(audio), 10, 2)


@pytest.mark.parametrize(("device", "there"), [("cpu", "cpu, cpu"), ("meta", "meta, meta")])
def test_modules_of_others_and_the_untrained_one_embed_on_the_device(
    monkeypatch: pytest.MonkeyPatch, device: str, there: str
) -> None:
    made, module = Placed(), ModuleType("placed")
    module.load_model = lambda: made  # type: ignore[attr-defined]
    module.get_scene_embeddings = lambda audio, model: model(audio).mean(dim=1)  # type: ignore[attr-defined]
    module.get_timestamp_embeddings = lambda audio, model: (model(audio), torch.ones(len(audio), 10))  # type: ignore[attr-defined]
    module.Placed = type("Placed", (Placed,), {"__module__": "placed"})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "placed", module)
    own, untrained, _ = encoders("hear:placed", device)
    own.scenes(torch.zeros(2, RATE))
    own.timestamps(torch.zeros(2, RATE))
    assert made.devices == [there] * 2
    assert str(untrained._model.model.device) == device  # type: ignore[attr-defined]
    other = encoders("xares:placed", device)[0]
    assert other.scenes(torch.zeros(2, RATE)).device.type == "cpu"
    assert other._module.devices == [there]  # type: ignore[attr-defined]


def test_a_model_that_is_no_torch_module_hears_on_the_cpu(levels: Levels) -> None:
    assert encoders("hear:levels", "meta")[0].scenes(torch.ones(2, RATE)).shape == (2, 2)


def test_baselines_have_folders_of_their_own() -> None:
    of_tiny, of_small = ([folder_name(each) for each in encoders(name)] for name in ("random-tiny", "random-small"))
    assert of_tiny[0] == "random-tiny" and of_tiny[1] != of_small[1] and of_tiny[1].startswith("random-")
    assert of_tiny[2] == of_small[2]  # the same log-mel
    assert (
        len(
            {
                LogMelEncoder(LogMel(LogMelConfig(n_mels=n, f_min=low))).identity
                for n, low in ((80, 50), (64, 50), (80, 20))
            }
        )
        == 3
    )
