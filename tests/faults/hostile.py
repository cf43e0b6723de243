"""Weights and folders of strangers: nothing in them runs, and none costs a gigabyte, ten seconds or a traceback."""

from __future__ import annotations

import os
import pickle
import shutil
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from tests.faults.inputs import make_model
from tests.faults.processes import CRASHED, run, verb

from unheard.files import FILES, file_checksums, read_json, write_json

MOST_MB, MOST_SECONDS, MEMORY = 1000, 10.0, 8 << 30
NUMBERS = (0, -1, 10**6, 10**9, 10**12, 2**63, 1e308, float("nan"), "x", None, [], {})
NAMES = (
    "os system",
    "builtins eval",
    "builtins bytearray",
    "posix system",
    "subprocess Popen",
    "_codecs encode",
    "numpy ndarray",
)


class Call:
    """Pickles as a call."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.call


def hostile(place: Path, count: int, seed: int = 0) -> tuple[int, list[str]]:
    """Load ``count`` hostile files and folders. Return their number, and those that ran code, were slow or crashed."""
    shutil.rmtree(place, ignore_errors=True)
    model, faults, marker = make_model(place / "model"), [], place / "ran"
    rng = np.random.default_rng(seed)
    for number in range(count):
        target = (_folder if number % 2 else _pickle)(place / f"odd-{number}", model, marker, rng)
        if target.is_dir():
            call = verb(["embed", target, place / "model", "-o", place / "o.npz", "--device", "cpu"])
        else:
            call = verb(
                [
                    "convert",
                    target,
                    "-o",
                    place / "made",
                    "--layout",
                    "msm-mae",
                    "--name",
                    "80x208p16x16",
                    "--overwrite",
                ]
            )
        ended = run(call, place / "log", limit=60, memory=MEMORY)
        if marker.exists():
            faults.append(f"{target.name}: something in it ran")
            marker.unlink()
        if ended.code in (CRASHED, 1) or ended.code < 0 or "Traceback" in ended.text:
            faults.append(f"{target.name}: exit {ended.code}: {ended.text[-300:]}")
        elif "\x1b" in ended.text:
            faults.append(f"{target.name}: control characters reach the terminal")
        elif ended.megabytes > MOST_MB or ended.seconds > MOST_SECONDS:
            faults.append(f"{target.name}: {ended.megabytes:.0f} MB, {ended.seconds:.1f} s")
    return count, faults


def _folder(place: Path, model: Path, marker: Path, rng: np.random.Generator) -> Path:
    """A model folder with valid checksums and one absurd setting or tensor."""
    shutil.copytree(model, place)
    config = read_json(place / "config.json")
    if rng.random() < 0.6:
        leaves = list(_leaves(config))
        holder, key = leaves[int(rng.integers(len(leaves)))]
        holder[key] = NUMBERS[int(rng.integers(len(NUMBERS)))]
    else:
        tensors = load_file(place / "model.safetensors")
        name = sorted(tensors)[int(rng.integers(len(tensors)))]
        odd = [torch.full_like(tensors[name], float("nan")), torch.zeros(0), torch.zeros(1), tensors[name].half()][
            int(rng.integers(4))
        ]
        tensors[("\x1b[31m" + name) if rng.random() < 0.3 else name] = odd
        save_file(tensors, place / "model.safetensors")
    write_json(place / "config.json", {**config, FILES: file_checksums(place, ["model.safetensors"])})
    return place


def _leaves(values: Any) -> Iterator[tuple[Any, Any]]:
    for key, value in values.items() if isinstance(values, dict) else enumerate(values):
        if isinstance(value, dict | list) and value:
            yield from _leaves(value)
        else:
            yield values, key


def _pickle(place: Path, model: Path, marker: Path, rng: np.random.Generator) -> Path:
    """A checkpoint with a call, an absurd size, or random instructions."""
    file, kind = place.with_suffix(".pth"), int(rng.integers(6))
    weights = {"pos_embed": torch.zeros(1, 66, 8), "norm.weight": torch.zeros(8)}
    if kind == 0:
        torch.save(
            {"model": weights, "x": Call(os.system, f"touch {marker}")},
            file,
            _use_new_zipfile_serialization=bool(rng.integers(2)),
        )
    elif kind == 1:
        name = NAMES[int(rng.integers(len(NAMES)))].replace(" ", "\n")
        body = f"\x80\x02}}X\x01\x00\x00\x00wc{name}\n(J".encode("latin1") + b"\xff\xff\xff\x7ftRs."
        _archive(file, body)
    elif kind == 2:
        key = ("blocks." + "9" * int(rng.integers(1, 400)), "\x1b[31m", "x" * 10**5)[int(rng.integers(3))]
        torch.save(weights | {f"{key}.norm1.weight": torch.zeros(8)}, file)
    elif kind == 3:
        _archive(file, b"\x80\x02" + bytes(rng.integers(0, 256, 200).astype(np.uint8)) + b".")
    elif kind == 4:
        nested: object = ()
        for _ in range(60):
            nested = (nested, nested)
        _archive(file, b"\x80\x02}" + pickle.dumps(nested, protocol=2)[2:-1] + b"K\x01s.")
    else:
        torch.save(weights, file)
        content = bytearray(file.read_bytes())
        for place_ in rng.integers(0, len(content), 8):
            content[int(place_)] = int(rng.integers(256))
        file.write_bytes(content)
    return file


def _archive(file: Path, content: bytes) -> None:
    with zipfile.ZipFile(file, "w") as target:
        target.writestr("odd/data.pkl", content)
        target.writestr("odd/data/0", bytes(64))
