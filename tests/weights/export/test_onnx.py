"""ONNX files compute what the models compute, from the waveform on, and say what they are."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import unheard
from unheard.cli import main
from unheard.errors import UnheardError

KINDS = ("log-mel", "kaldi-fbank", "maskspec")


def session(file: Path) -> Any:
    onnxruntime = pytest.importorskip("onnxruntime")
    return onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])


def sound(samples: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.normal(0, 0.1, samples) * np.linspace(0.1, 1, samples)).astype(np.float32)


@pytest.mark.parametrize("seconds", [0, 0.1, "window", 10.3, 61.3])
@pytest.mark.parametrize("kind", KINDS)
def test_the_file_equals_the_model_at_any_length(exported: Path, kind: str, seconds: float | str) -> None:
    model, graph = unheard.load(exported / kind), session(exported / f"{kind}.onnx")
    rate = model.sample_rate
    samples = (
        model.frontend.num_samples(model.grid.frames) if isinstance(seconds, str) else max(1, round(seconds * rate))
    )
    batch = np.stack([sound(samples), sound(samples, seed=1)])
    got = dict(zip([each.name for each in graph.get_outputs()], graph.run(None, {"waveform": batch}), strict=True))
    for row, wav in enumerate(batch):
        expected = model.embed((wav, rate))
        assert got["frames"][row].shape == expected.frames.shape
        np.testing.assert_allclose(got["frames"][row], expected.frames, atol=1e-4)
        np.testing.assert_allclose(got["scene"][row], expected.scene, atol=1e-4)
        np.testing.assert_allclose(got["times_ms"], expected.times_ms, atol=1e-2)
        if model.labels:
            np.testing.assert_allclose(got["scores"][row], model.classify((wav, rate)), atol=1e-4)
    assert ("scores" in got) == bool(model.labels)


@pytest.mark.parametrize("kind", KINDS)
def test_the_file_describes_itself(exported: Path, kind: str) -> None:
    onnx = pytest.importorskip("onnx")
    model, graph, file = unheard.load(exported / kind), session(exported / f"{kind}.onnx"), exported / f"{kind}.onnx"
    about = graph.get_modelmeta().custom_metadata_map
    assert (about["sample_rate"], about["hop_ms"]) == (str(model.sample_rate), "10")
    assert about["patch_ms"] == f"{10 * model.grid.patch_size[1]}"
    assert about["embedding_size"] == str(model.embedding_size)
    assert about["unheard_version"] == unheard.__version__ and about["licence"]
    assert json.loads(about.get("labels", "[]")) == list(model.labels)
    shapes = {value.name: value.shape for value in (*graph.get_inputs(), *graph.get_outputs())}
    assert shapes["waveform"] == ["batch", "samples"]
    assert shapes["frames"] == ["batch", "frames", model.embedding_size] and shapes["times_ms"] == ["frames"]
    assert shapes["scene"] == ["batch", model.embedding_size]
    assert [each.version for each in onnx.load(file).opset_import if each.domain == ""] == [20]
    onnx.checker.check_model(file)


@pytest.fixture(scope="module")
def int8(exported: Path) -> Path:
    """The log-mel graph with 8-bit weights."""
    onnx = pytest.importorskip("onnx")
    from unheard.weights.export.int8 import quantise

    quantise(onnx.load(exported / "log-mel.onnx"), exported / "int8.onnx")
    return exported / "int8.onnx"


def test_int8_keeps_the_embedding_and_the_front_end(exported: Path, int8: Path) -> None:
    onnx = pytest.importorskip("onnx")
    wav = sound(40000)[None]
    exact, small = (session(file).run(["scene"], {"waveform": wav})[0][0] for file in (exported / "log-mel.onnx", int8))
    assert np.dot(exact, small) / np.linalg.norm(exact) / np.linalg.norm(small) > 0.999
    graph = onnx.load(int8).graph
    log = next(index for index, node in enumerate(graph.node) if node.op_type == "Log")
    assert not [node.name for node in graph.node[:log] if "Integer" in node.op_type or "Quantize" in node.op_type]
    assert onnx.TensorProto.UINT8 in {tensor.data_type for tensor in graph.initializer}


def test_a_file_that_differs_from_its_model_does_not_appear(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    onnx = pytest.importorskip("onnx")
    from unheard.weights.export import onnx_file

    graph = onnx.load(exported / "log-mel.onnx")
    for tensor in graph.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT and len(tensor.dims) == 2 and tensor.dims[0] == 24:
            values = onnx.numpy_helper.to_array(tensor) * 1.01
            tensor.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float32), tensor.name))
    monkeypatch.setattr(onnx_file, "_traced", lambda model: graph)
    assert main(["export", str(exported / "log-mel"), "-o", str(tmp_path / "wrong.onnx")]) == 2
    message = capsys.readouterr().err
    assert "differs from the model" in message and len(message.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_check_reports_the_agreement_on_sounds_of_the_user(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    onnx = pytest.importorskip("onnx")
    soundfile = pytest.importorskip("soundfile")
    from unheard.weights.export import onnx_file

    for number in range(4):
        soundfile.write(tmp_path / f"{number}.wav", sound(8000 + 4000 * number, number), 16000)
    monkeypatch.setattr(onnx_file, "_traced", lambda model: onnx.load(exported / "log-mel.onnx"))
    out = tmp_path / "small.onnx"
    command = ["export", str(exported / "log-mel"), "-o", str(out), "--int8", "--check", str(tmp_path), "--json"]
    assert main(command) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["check"]["sounds"] == 4 and 0.99 < values["check"]["cosine_min"] <= 1.0001
    assert values["check"]["centred_min"] <= values["check"]["centred_median"] <= 1.0001
    assert 0 <= values["check"]["same_neighbour"] <= 4 and max(values["errors"].values()) < 1e-4
    shapes = {value.name: value.shape for value in session(out).get_outputs()}
    assert shapes["frames"][:2] == ["batch", "frames"]
    assert session(out).get_modelmeta().custom_metadata_map["sample_rate"] == "16000"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["random-tiny", "-o", "there.onnx"], "exists"),
        (["random-tiny", "-o", "dir", "--int8"], "belong to ONNX files"),
        (["random-tiny", "-o", "new.onnx", "--code"], "belongs to Hugging Face folders"),
        (["random-tiny", "-o", "new.bin", "--to", "onnx"], "ends in .onnx"),
        (["hear:some.module", "-o", "new.onnx"], "not a model of unheard"),
        (["no-such-model", "-o", "new.onnx"], "there is no model"),
    ],
)
def test_bad_input_gets_one_line(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("there.onnx").write_bytes(b"")
    monkeypatch.setattr("unheard.weights.export.onnx_file.require_onnx", lambda: None)
    assert main(["export", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and len(error.splitlines()) == 1
    assert Path("there.onnx").read_bytes() == b"" and not Path("new.onnx").exists()


def test_a_missing_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(UnheardError, match=r"pip install 'unheard\[onnx\]'"):
        unheard.export("random-tiny", tmp_path / "enc.onnx")
    assert not list(tmp_path.iterdir())


def test_a_front_end_that_cannot_be_traced_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxscript")
    from unheard.audio.frontend import LogMel

    def by_value(self: LogMel, bands: Any) -> Any:
        return bands if float(bands.sum()) > 0 else -bands

    monkeypatch.setattr(LogMel, "compress", by_value)
    with pytest.raises(UnheardError, match="cannot be exported"):
        unheard.export("random-tiny", tmp_path / "enc.onnx")
    assert not list(tmp_path.iterdir())
