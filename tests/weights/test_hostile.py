"""Sizes, names and numbers of untrusted files are compared with the file before they are used."""

from __future__ import annotations

import pickle
import re
import resource
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from unheard.cli import main
from unheard.errors import CheckpointError
from unheard.files import FILES, file_checksums, read_json, write_json
from unheard.weights.allowlist import load_tensors
from unheard.weights.built_in import untrained
from unheard.weights.checkpoint import load_model, save_model

Change = Callable[[dict[str, Any]], object]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    saved = untrained("random-tiny")
    save_model(tmp_path / "model", saved.learner, saved.recipe, saved.statistics, saved.provenance)
    return tmp_path / "model"


def seal(folder: Path, config: dict[str, Any]) -> None:
    """Write a config with valid checksums: a hostile author can."""
    write_json(folder / "config.json", config | {FILES: file_checksums(folder, ["model.safetensors"])})


@pytest.mark.parametrize(
    "change",
    [
        lambda config: config["recipe"]["model"].update(depth=10**9),
        lambda config: config["recipe"]["model"].update(decoder_depth=10**9),
        lambda config: config["recipe"]["model"].update(embed_dim=4 * 10**8, num_heads=1),
        lambda config: config["recipe"]["model"].update(decoder_embed_dim=4 * 10**8, decoder_num_heads=1),
        lambda config: config["recipe"]["model"].update(frames=10**12),
        lambda config: config["recipe"]["model"].update(hypotheses=10**12),
        lambda config: config["recipe"]["model"].update(mlp_ratio=1e12),
        lambda config: config["recipe"]["frontend"].update(n_mels=10**9),
        lambda config: config["recipe"]["frontend"].update(n_fft=2 * 10**9),
        lambda config: config["recipe"]["model"].update(patch_size=[16, 0]),
    ],
    ids=[
        "depth",
        "decoder depth",
        "width",
        "decoder width",
        "frames",
        "hypotheses",
        "mlp",
        "bands",
        "transform",
        "patch",
    ],
)
def test_sizes_that_the_weights_do_not_have_are_refused(change: Change, folder: Path) -> None:
    config = read_json(folder / "config.json")
    change(config)
    seal(folder, config)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(CheckpointError, match=r"do not fit its configuration|does not describe a model"):
        load_model(folder)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # KiB


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused(value: float, folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors["model.encoder.positions"][0, 0] = value
    save_file(tensors, folder / "model.safetensors")
    seal(folder, {name: each for name, each in read_json(folder / "config.json").items() if name != FILES})
    with pytest.raises(CheckpointError, match=r"hold NaN or infinity in model\.encoder\.positions"):
        load_model(folder)


def mae_keys() -> dict[str, torch.Tensor]:
    names = {
        "pos_embed": (1, 161, 8),
        "patch_embed.proj.weight": (8, 1, 16, 16),
        "norm.weight": (8,),
        "cls_token": (1, 1, 8),
    }
    names |= {"blocks.0.attn.qkv.weight": (24, 8), "blocks.0.mlp.fc1.weight": (32, 8)}
    return {name: torch.zeros(shape) for name, shape in names.items()}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"blocks.99999999.norm1.weight": (8,)}, "are not numbered"),
        ({f"blocks.{'9' * 6000}.norm1.weight": (8,)}, "is not printable text"),
        ({"norm.weight": (400_000,)}, "does not fit|do not fit"),
        ({"norm.weight": (0,)}, "no norm.weight of rank 1"),
        ({"blocks.0.mlp.fc1.weight": (0, 8)}, "no blocks.0.mlp.fc1.weight of rank 2"),
        ({"\x1b[31mred": (1,)}, r"\\x1b\[31mred"),
    ],
    ids=["block number", "long name", "width", "no width", "no rows", "escape"],
)
@pytest.mark.parametrize("layout", ["msm-mae", "m2d"])
def test_keys_and_shapes_of_a_released_file_are_not_believed(
    layout: str, changes: dict[str, tuple[int, ...]], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(mae_keys() | {name: torch.zeros(shape) for name, shape in changes.items()}, tmp_path / "odd.pth")
    code = main(
        [
            "convert",
            str(tmp_path / "odd.pth"),
            "-o",
            str(tmp_path / "made"),
            "--layout",
            layout,
            "--name",
            "80x512p16x16",
        ]
    )
    shown = capsys.readouterr().err
    assert code == 2 and len(shown.splitlines()) == 1 and "\x1b" not in shown
    assert re.search(message, shown), shown


class Call:
    """Pickles as a call."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.call


def doubled(levels: int) -> tuple[object, ...]:
    value: tuple[object, ...] = ("x",)
    for _ in range(levels):
        value = (value, value)
    return value


def archive(file: Path, content: bytes, compressed: bool = False) -> Path:
    """A checkpoint in the zip format around a pickle."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED) as target:
        target.writestr("odd/data.pkl", content)
        target.writestr("odd/data/0", bytes(16))
        target.writestr("odd/version", b"3\n")
    return file


def tensor_pickle(shape: tuple[int, ...], stride: tuple[int, ...], offset: int = 0) -> bytes:
    """A tensor of some shape on a storage of four numbers."""
    body = b"\x80\x02}X\x01\x00\x00\x00wctorch._utils\n_rebuild_tensor_v2\n(("
    body += b"X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x04tQ"

    def number(value: int) -> bytes:
        raw = value.to_bytes(9, "little")
        return b"\x8a\x09" + raw

    body += (
        number(offset)
        + b"("
        + b"".join(map(number, shape))
        + b"t("
        + b"".join(map(number, stride))
        + b"t\x89ccollections\nOrderedDict\n)RtRs."
    )
    return body


def test_a_tensor_on_its_storage_opens(tmp_path: Path) -> None:
    assert load_tensors(archive(tmp_path / "good.pth", tensor_pickle((2, 2), (2, 1))))["w"].shape == (2, 2)


@pytest.mark.parametrize(
    "content",
    [
        tensor_pickle((10**10,), (1,)),
        tensor_pickle((10**10,), (0,)),
        tensor_pickle((2,), (1,), 10**10),
        tensor_pickle((2, 2), (4, 1)),
        pickle.dumps({"w": Call(bytearray, 7 * 10**9)}, protocol=2),
        pickle.dumps({"w": np.void(10)}, protocol=2),
        b"\x80\x02}c_codecs\nencode\n(X\x02\x00\x00\x00abX\x08\x00\x00\x00punycodetRK\x01s.",
        b"\x80\x02}" + pickle.dumps(doubled(60), protocol=2)[2:-1] + b"K\x01s.",
        pickle.dumps({"w": {1, 2}}, protocol=4),
        b"\x80\x04\x95" + (2**60).to_bytes(8, "little") + b"}.",
        b"\x80\x02}r\xff\xff\xff\x7f.",
        b"(" * 10**6 + b".",
        b"\x80\x02" + b")0" * (5 * 2**20) + b"}.",
    ],
    ids=[
        "elements",
        "stride 0",
        "offset",
        "stride",
        "bytearray",
        "numpy void",
        "punycode",
        "doubled tuple",
        "set",
        "frame",
        "memo",
        "marks",
        "long",
    ],
)
def test_a_small_file_costs_little_and_is_refused(content: bytes, tmp_path: Path) -> None:
    file = archive(tmp_path / "odd.pth", content)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(CheckpointError) as caught:
        load_tensors(file)
    assert len(str(caught.value)) < 600
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 400_000  # KiB


def test_a_doubled_tuple_as_a_value_costs_nothing(tmp_path: Path) -> None:
    body = pickle.dumps({"args": doubled(60)}, protocol=2)
    with pytest.raises(CheckpointError, match="holds no tensors; its entries are args"):
        load_tensors(archive(tmp_path / "odd.pth", body))


def test_a_compressed_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="compressed"):
        load_tensors(archive(tmp_path / "odd.pth", tensor_pickle((2,), (1,)), compressed=True))


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads the size of the process from /proc")
def test_loading_many_of_them_stays_small_in_a_process_of_its_own(folder: Path) -> None:
    config = read_json(folder / "config.json")
    config["recipe"]["model"]["depth"] = 10**9
    seal(folder, config)
    limited = (
        "import resource, sys, torch; from unheard.cli import main; pages = open('/proc/self/statm').read().split()[0];"
        " limit = int(pages) * resource.getpagesize() + (1 << 30); resource.setrlimit(resource.RLIMIT_AS, (limit,"
        " limit)); sys.exit(main())"
    )
    done = subprocess.run(
        [sys.executable, "-c", limited, "reconstruct", str(folder), "x.wav", "-o", "x.png"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2 and "model.depth requires more than they hold" in done.stderr
