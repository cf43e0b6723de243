"""Reconstruction, its sound, and attention over the REST interface."""

import io
import shlex

import numpy as np
import pytest
import soundfile
from tests.serving.conftest import Served, tone

from unheard import api
from unheard.cli import main
from unheard.errors import CheckpointError
from unheard.serving.routes import inspecting
from unheard.view.window import parse_painted, reconstruct_window, take_window


def test_the_window_is_that_of_the_figures(served: Served, served_folder, served_model) -> None:
    sound = served.ids()["low/low 03.wav"]
    found = served.client.get(f"/api/sounds/{sound}/window").json()
    window = take_window(served_model, served_folder / "low/low 03.wav")
    np.testing.assert_allclose(found["spec"], window.spec, atol=6e-4)
    assert found["grid"] == [window.grid.freq, window.grid.time] and found["seconds"] == 1.0
    assert len(found["mel_hz"]) == window.spec.shape[0]


def test_a_reconstruction_is_that_of_the_library(served: Served, served_folder, served_model) -> None:
    sound = served.ids()["high/high 00.wav"]
    asked = {"sound": sound, "mask": "random", "mask_ratio": 0.5, "seed": 3}
    found = served.client.post("/api/reconstruct", json=asked).json()
    expected = reconstruct_window(
        served_model, take_window(served_model, served_folder / "high/high 00.wav"), "random", 0.5, 3
    )
    np.testing.assert_array_equal(found["hidden"], expected.hidden)
    np.testing.assert_allclose(found["drawn"], expected.drawn, atol=6e-4)
    assert found["error"] == pytest.approx(expected.error.model, abs=1e-5)
    assert f"{expected.error.model:.3f} of the variance" in found["sentence"]


def test_a_painted_mask_hides_exactly_these_patches(served: Served) -> None:
    sound = served.upload(tone(500, 2.0))
    first = served.client.post("/api/reconstruct", json={"sound": sound}).json()
    hidden = np.zeros_like(first["hidden"], dtype=bool)
    hidden[1, 2:5] = True
    found = served.client.post("/api/reconstruct", json={"sound": sound, "hidden": hidden.tolist()}).json()
    assert found["hidden"] == hidden.tolist()
    words = shlex.split(found["command"])
    np.testing.assert_array_equal(parse_painted(words[words.index("--painted") + 1]), hidden)


@pytest.mark.parametrize(
    ("hidden", "message"),
    [([[True]], "5 x 7"), ([[True] * 7] * 5, "at least one visible"), ([[True], [True, False]], "differ in length")],
)
def test_masks_that_do_not_fit_are_refused(served: Served, hidden, message) -> None:
    sound = served.ids()["low/low 00.wav"]
    response = served.client.post("/api/reconstruct", json={"sound": sound, "hidden": hidden})
    assert response.status_code == 422 and message in response.json()["detail"]


@pytest.mark.parametrize("asked", [{"mask": "structured", "seed": 5}, {"mask": "chessboard"}, {"painted": True}])
def test_the_command_makes_the_same_reconstruction(
    served: Served, asked, tmp_path, monkeypatch, served_model, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(api, "load", lambda *_: served_model)
    sound = served.ids()["noise/noise 01.wav"]
    if asked.pop("painted", False):
        asked = {"hidden": [[(row + column) % 3 == 0 for column in range(7)] for row in range(5)]}
    found = served.client.post("/api/reconstruct", json={"sound": sound, **asked}).json()
    assert main(shlex.split(found["command"])[1:]) == 0
    assert f"{found['error']:.3f} of the variance" in capsys.readouterr().out
    assert (tmp_path / "reconstruction.png").is_file()


def test_the_three_sounds_differ_only_through_the_mask(served: Served) -> None:
    sound = served.ids()["low/low 00.wav"]
    waves = {}
    for what in ("original", "masked", "reconstructed"):
        response = served.client.post("/api/resynthesis", json={"sound": sound, "mask": "vertical", "what": what})
        assert response.headers["content-type"] == "audio/wav"
        waves[what], rate = soundfile.read(io.BytesIO(response.content))
        assert rate == 16000 and len(waves[what]) == pytest.approx(16000, abs=200)
    assert np.square(waves["masked"]).mean() < 0.8 * np.square(waves["original"]).mean()
    assert not np.allclose(waves["masked"], waves["reconstructed"])


def test_attention_of_any_layer_and_head(served: Served, served_model) -> None:
    sound = served.ids()["low/low 00.wav"]
    asked = {"sound": sound, "row": 1, "column": 2, "layer": 3}
    heads = [served.client.post("/api/attention", json={**asked, "head": head}).json()["weights"] for head in (1, 2, 3)]
    mean = served.client.post("/api/attention", json=asked).json()["weights"]
    np.testing.assert_allclose(np.mean(heads, axis=0), mean, atol=2e-3)
    last = served.client.post("/api/attention", json={**asked, "layer": served_model.depth}).json()["weights"]
    assert last == served.client.post("/api/attention", json={**asked, "layer": None}).json()["weights"] != mean
    for wrong, message in (({"layer": 13}, "layer must be 1 to 12"), ({"head": 4}, "head must be 1 to 3")):
        response = served.client.post("/api/attention", json={**asked, **wrong})
        assert response.status_code == 422 and message in response.json()["detail"]


def test_silence_has_an_error_without_a_unit(served: Served) -> None:
    sound = served.upload(np.zeros(16000, np.float32))
    found = served.client.post("/api/reconstruct", json={"sound": sound})
    assert found.status_code == 200 and found.json()["error"] is None and "no variance" in found.json()["sentence"]


def test_status_names_what_the_model_can_do(served: Served) -> None:
    found = served.client.get("/api/status").json()
    assert found["reconstructs"] and found["plays"] and not found["words"]
    assert (found["layers"], found["heads"], found["files"]) == (12, 3, 36)


def test_the_original_is_played_without_a_decoder(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model without a decoder has no reconstruction, and the original needs none."""

    def refused(*_: object) -> None:
        raise CheckpointError("this model has no trained decoder")

    monkeypatch.setattr(inspecting, "reconstruct_whole", refused)
    sound = served.upload(tone(500, 3.0))
    for whole, seconds in ((False, 2.08), (True, 3.0)):
        asked = {"sound": sound, "what": "original", "whole": whole}
        found = served.client.post("/api/resynthesis", json=asked)
        assert found.status_code == 200
        assert soundfile.info(io.BytesIO(found.content)).duration == pytest.approx(seconds, abs=0.05)
    assert served.client.post("/api/resynthesis", json={"sound": sound, "what": "masked"}).status_code == 422
