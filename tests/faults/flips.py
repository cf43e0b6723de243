"""Flipped bits in every kind of file: each is named, or changes nothing; none is read silently as something else."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tests.evaluation.made import make_task
from tests.faults.inputs import flags, make_model, make_sounds
from tests.faults.processes import run, verb

from unheard.audio.frontend import LogMel
from unheard.data.mapping import open_store
from unheard.embedding.table_files import read_blocks, read_identity
from unheard.errors import UnheardError
from unheard.evaluation.encoders.choose import LogMelEncoder
from unheard.evaluation.hear import suite
from unheard.evaluation.hear.embeddings import damaged_files
from unheard.evaluation.hear.fit import FitResult
from unheard.evaluation.hear.fit_cache import DiskFitCache
from unheard.evaluation.hear.head import HyperParams
from unheard.evaluation.hear.rows import read_splits
from unheard.evaluation.hear.task_folder import read_task
from unheard.evaluation.probe.cache import EmbeddingCache
from unheard.evaluation.report import load_result
from unheard.files import read_json, read_json_lines
from unheard.training.checkpoints import TENSORS, checkpoints, read_progress
from unheard.weights.checkpoint import load_model
from unheard.weights.tensors import read_tensors

Read = Callable[[], object]


def readers(place: Path) -> dict[Path, Read]:
    """Files of every kind, each with a function that reads what they say."""
    sounds, model = make_sounds(place / "sounds", 9), make_model(place / "model")
    for arguments in (
        ["data", "pack", sounds, "-o", place / "packed"],
        ["pretrain", sounds, "-o", place / "run", "--steps", 4, "--batch-size", 4, "--device", "cpu", *flags()],
        *(["embed", model, sounds, "-o", place / f"e{end}", "--device", "cpu"] for end in (".parquet", ".npz", ".csv")),
    ):
        ended = run(verb(arguments), place / "log")
        assert ended.code == 0, ended.text
    checkpoint = checkpoints(place / "run")[-1]

    def corpus() -> object:
        store = open_store(place / "packed")
        store.verify()
        return list(store.names), [store.clip(number).tolist() for number in range(len(store))]

    def weights() -> object:
        return {name: value.tolist() for name, value in load_model(model).learner.export_state_dict().items()}

    def saved() -> object:
        held = read_json(checkpoint / "state.json")["files"]
        tensors = [read_tensors(checkpoint / name, held) for name in TENSORS]
        return read_progress(checkpoint), [
            {name: torch.Tensor.tolist(value) for name, value in each.items()} for each in tensors
        ]

    def rows() -> object:
        found, damaged = read_json_lines(place / "run" / "metrics.jsonl")
        if damaged:
            raise UnheardError(f"line {damaged} is damaged")
        return found

    def table(end: str) -> Read:
        return lambda: (
            read_identity(place / f"e{end}"),
            [block.to_pydict() for block in read_blocks(place / f"e{end}")],
        )

    return {
        **{place / "packed" / name: corpus for name in ("dataset.json", "index.npz", "shard-00000.bin")},
        **{model / name: weights for name in ("config.json", "model.safetensors")},
        **{checkpoint / name: saved for name in ("state.json", *TENSORS)},
        place / "run" / "config.json": lambda: read_json(place / "run" / "config.json"),
        place / "run" / "metrics.jsonl": rows,
        **{place / f"e{end}": table(end) for end in (".parquet", ".npz", ".csv")},
        place / "e.csv.json": table(".csv"),
        **evaluated(place),
    }


def evaluated(place: Path) -> dict[Path, Read]:
    """Files of evaluations and probes: embeddings of a task, its scores, a fit, vectors of a probe."""
    task, encoder = read_task(make_task(place / "tasks" / "noise")), LogMelEncoder(LogMel())
    suite.evaluate([encoder], [task.folder], place / "scores")
    (stored,), (result,) = (
        (place / "scores" / "embeddings").glob("*/noise"),
        (place / "scores" / "scores").glob("*/*/noise.json"),
    )
    fits, vectors, stamp = (
        DiskFitCache(place / "fits"),
        EmbeddingCache(place / "vectors", "made of"),
        str(read_json(result)["stamp"]),
    )
    fits.put(0, FitResult(HyperParams(), {"weight": torch.arange(50.0)}, 0.5, 3))
    vectors("model", lambda: np.arange(300.0))

    def rows() -> object:
        if damaged := damaged_files(stored):
            raise UnheardError(f"{damaged} are damaged")
        return {split: (each.x.tolist(), each.y.tolist()) for split, each in read_splits(stored, task).items()}

    def fit() -> object:
        found = _there(fits.get(0))
        return found.score, found.epoch, found.hyper, found.state["weight"].tolist()

    def missing() -> np.ndarray:
        raise UnheardError("made again")

    return {
        **{path: rows for path in sorted(stored.iterdir()) if path.stat().st_size},
        result: lambda: _there(load_result(result, stamp)),
        **{fits.folder / name: fit for name in ("000.json", "000.safetensors")},
        **{vectors.folder / name: lambda: vectors("model", missing).tolist() for name in ("model.json", "model.npy")},
    }


def _there(found: Any) -> Any:
    """What was read; a cache that cannot be used counts as named, for it is made again."""
    if found is None:
        raise UnheardError("made again")
    return found


def flips(place: Path, count: int, seed: int = 0) -> tuple[int, list[str]]:
    """Flip ``count`` bits, the files in turn. Return how many, and what was read silently or ended in another error."""
    place.mkdir(parents=True, exist_ok=True)
    rng, faults, every = np.random.default_rng(seed), [], readers(place)
    wanted = {file: read() for file, read in every.items()}
    for number in range(count):
        file = list(every)[number % len(every)]
        content = bytearray(file.read_bytes())
        at, bit = int(rng.integers(len(content))), int(rng.integers(8))
        shutil.copy(file, place / "copy")
        content[at] ^= 1 << bit
        file.write_bytes(content)
        try:
            if every[file]() != wanted[file]:
                faults.append(f"{file.name}: bit {bit} of byte {at} is read silently")
        except UnheardError:
            pass
        except Exception as error:
            faults.append(f"{file.name}: bit {bit} of byte {at} ends in {type(error).__name__}: {error}")
        shutil.copy(place / "copy", file)
    return count, faults
