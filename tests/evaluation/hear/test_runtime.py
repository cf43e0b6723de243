"""Options of embeddings: used, refused where a model lacks them, part of the identity, stored with the scores."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from tests.evaluation.made import RATE, Levels, make_task

from unheard.cli import main
from unheard.embedding.embedder import Options
from unheard.embedding.loading import load
from unheard.errors import ConfigError
from unheard.evaluation.encoders.choose import encoders, folder_name
from unheard.evaluation.encoders.own_encoder import Runtime
from unheard.hear import HearModel, get_scene_embeddings, get_timestamp_embeddings, load_model


def audio(count: int = 2, seconds: float = 1.5) -> torch.Tensor:
    return torch.rand(count, int(seconds * RATE), generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.mark.parametrize(
    "options", [{"published": "msm-mae"}, {"published": "m2d"}, {"layer": 2}, {"pool": "mean+std"}, {"hop": 0.04}]
)
def test_own_models_and_the_untrained_one_embed_with_the_options(options: dict[str, Any]) -> None:
    plain, own = encoders("random-tiny"), encoders("random-tiny", "cpu", Runtime(**options))
    wanted = load_model("random-tiny", device="cpu", **options)
    assert torch.equal(own[0].scenes(audio()), get_scene_embeddings(audio(), wanted))
    assert torch.equal(own[1].scenes(audio()), own[0].scenes(audio()))  # random-tiny is the untrained one of seed 0
    if options != {"pool": "mean+std"}:
        assert not torch.allclose(own[0].scenes(audio()), plain[0].scenes(audio()), atol=1e-4)
    assert own[0].identity != plain[0].identity and folder_name(own[1]) != folder_name(plain[1])
    assert own[0].options | options == own[0].options


def test_events_get_the_finest_hop_unless_one_is_given_or_published() -> None:
    steps = {
        name: float(torch.diff(encoders("random-tiny", "cpu", runtime)[0].timestamps(audio())[1][0]).mean())
        for name, runtime in {"default": Runtime(), "hop": Runtime(hop=0.04), "published": Runtime("m2d")}.items()
    }
    assert steps == pytest.approx(
        {"default": 10, "hop": 40, "published": 150}, abs=1
    )  # m2d stretches its steps of 160 ms over 1.5 s
    default = encoders("random-tiny")[0]
    assert default.options["hop"] is None and default.options["event_hop"] == 0.01
    assert torch.equal(default.scenes(audio()), get_scene_embeddings(audio(), load_model("random-tiny", device="cpu")))


def test_an_option_that_a_model_lacks_is_refused_before_anything_is_embedded(levels: Levels) -> None:
    for runtime, words in (
        (Runtime(layer=99), "layer must be"),
        (Runtime(hop=0.03), "hop must divide"),
        (Runtime(pool="none"), "pool must be"),
    ):
        with pytest.raises(ConfigError, match=words):
            encoders("random-tiny", "cpu", runtime)
    with pytest.raises(ConfigError, match="uses the mean over time"):
        encoders("random-tiny", "cpu", Runtime("m2d", pool="max"))
    sys.modules["levels"].load_model = lambda weights="": levels  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match="load_model of levels does not accept hop, layer; omit them"):
        encoders("hear:levels", "cpu", Runtime(hop=0.05, layer=3))
    for text in ("xares:torch:Tensor", "embeddings:nowhere"):
        with pytest.raises(ConfigError, match="takes no layer"):
            encoders(text, "cpu", Runtime(layer=3))


def test_options_reach_load_model_of_a_hear_module(monkeypatch: pytest.MonkeyPatch) -> None:
    got: list[dict[str, Any]] = []
    module = ModuleType("optional")
    module.load_model = lambda weights="", **options: got.append(options) or Levels()  # type: ignore[attr-defined,func-returns-value]
    module.get_scene_embeddings = module.get_timestamp_embeddings = lambda audio, model: None  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "optional", module)
    plain, other = encoders("hear:optional")[0], encoders("hear:optional", "cpu", Runtime("m2d", hop=0.05))[0]
    assert got == [{}, {"published": "m2d", "hop": 0.05}]
    assert plain.identity.startswith("optional ") and other.identity != plain.identity and other.options == got[1]
    ours = encoders("hear:unheard.hear:random-tiny", "cpu", Runtime(layer=1))[0]
    assert torch.equal(
        ours.scenes(audio()), get_scene_embeddings(audio(), load_model("random-tiny", layer=1, device="cpu"))
    )


def test_sizes_are_those_of_the_embeddings() -> None:
    model = load_model("random-tiny", layer=[3, 12], pool="mean+std", device="cpu")
    frames, _ = get_timestamp_embeddings(audio(), model)
    assert frames.shape[2] == model.timestamp_embedding_size == 2 * 960
    assert get_scene_embeddings(audio(), model).shape[1] == model.scene_embedding_size == 4 * 960


def test_the_model_of_the_caller_stays_as_it_is() -> None:
    model = load("random-tiny", "cpu")
    before = model.embed((np.ones(4000, np.float32), RATE)).scene
    HearModel(model, Options(), "msm-mae")
    assert not model.pad_window
    assert np.array_equal(model.embed((np.ones(4000, np.float32), RATE)).scene, before)


def test_the_command_stores_the_options_with_the_scores(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_task(tmp_path / "tasks" / "onsets-v1", event=True)
    command = ["evaluate", "random-tiny", str(tmp_path / "tasks"), "-o", str(tmp_path / "out"), "--json"]
    assert main([*command, "--hop", "0.08", "--layer", "2"]) == 0
    found = json.loads(capsys.readouterr().out)["results"]
    assert {row["encoder"]: row["options"] for row in found}["random-tiny"] == {
        "published": "no", "hop": 0.08, "pool": "mean", "layer": 2, "event_hop": 0.08
    }  # fmt: skip
    page = (tmp_path / "out" / "results-heareval.html").read_text()
    assert "Options of the embeddings of random-tiny, random: published no, hop 0.08, pool mean, layer 2" in page
    assert main([*command, "--resume", "--hop", "0.04"]) == 0
    captured = capsys.readouterr()
    assert "embeddings of another model, options or sample rate" in captured.err
    assert {row["encoder"] for row in json.loads(captured.out)["results"]} == {"random", "log-mel"}
    assert main([*command, "--resume", "--pool", "middle"]) == 2
