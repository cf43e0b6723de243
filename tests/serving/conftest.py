"""A server with an untrained model and a folder of generated sounds."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import soundfile

pytest.importorskip("fastapi")
from fastapi import FastAPI
from fastapi.testclient import TestClient

from unheard.embedding.embedder import Model
from unheard.embedding.loading import load_own
from unheard.serving.app import build_app
from unheard.serving.folder_vectors import FolderVectors
from unheard.serving.guard import Address
from unheard.serving.library import Library
from unheard.serving.limits import Limits
from unheard.serving.workbench import Workbench
from unheard.weights.checkpoint import Provenance

RATE, URL = 16000, "http://127.0.0.1:8000"
SMALL = Limits(upload_bytes=400_000, upload_seconds=8, body_bytes=20_000, body_timeout=0.3)


def tone(hz: float, seconds: float = 1.0, seed: int = 0) -> np.ndarray:
    """Return a tone in quiet noise."""
    time = np.arange(round(seconds * RATE)) / RATE
    noise = 0.01 * np.random.default_rng(seed).standard_normal(len(time))
    return (0.4 * np.sin(2 * np.pi * hz * time) + noise).astype(np.float32)


def encoded(wav: np.ndarray, kind: str = "WAV", rate: int = RATE) -> bytes:
    """Return samples as the bytes of a sound file."""
    buffer = io.BytesIO()
    soundfile.write(buffer, wav, rate, format=kind)
    return buffer.getvalue()


def make_folder(place: Path) -> Path:
    """Write 12 low tones, 12 high tones and 12 noises into three folders, and a link that leads outside."""
    for number in range(12):
        made = {
            "low": tone(150 + 5 * number, seed=number),
            "high": tone(2500 + 60 * number, seed=number),
            "noise": 0.3 * np.random.default_rng(number).standard_normal(RATE),
        }
        for group, wav in made.items():
            (place / "sounds" / group).mkdir(parents=True, exist_ok=True)
            soundfile.write(place / "sounds" / group / f"{group} {number:02d}.wav", wav, RATE)
    soundfile.write(place / "secret.wav", tone(440), RATE)
    (place / "sounds" / "link.wav").symlink_to(place / "secret.wav")
    return place / "sounds"


@pytest.fixture(scope="session")
def served_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of 36 sounds and a link to a file outside of it."""
    return make_folder(tmp_path_factory.mktemp("served"))


@pytest.fixture(scope="session")
def served_model() -> Model:
    """Return an untrained model that reconstructs."""
    model = load_own("random-tiny", "cpu")
    model.provenance = Provenance()
    return model


@dataclass
class Served:
    """A server in this process."""

    app: FastAPI
    bench: Workbench
    client: TestClient

    def ids(self) -> dict[str, str]:
        """Return the ids of the files by name."""
        found = self.client.get("/api/files").json()["files"]
        return {file["name"]: file["id"] for file in found}

    def upload(self, wav: np.ndarray, name: str = "sound.wav", kind: str = "WAV") -> str:
        """Upload samples and return the id."""
        response = self.client.post(f"/api/sounds?name={name}", content=encoded(wav, kind))
        assert response.status_code == 201, response.text
        return str(response.json()["id"])


def serve(bench: Workbench, address: Address = Address()) -> Served:
    """Return a server of a workbench."""
    app = build_app(bench, address)
    return Served(app, bench, TestClient(app, base_url=URL, raise_server_exceptions=True))


@pytest.fixture
def served(served_model: Model, served_folder: Path) -> Iterator[Served]:
    """Return a server with the folder, and small limits."""
    bench = Workbench(served_model, Library(served_folder), SMALL)
    yield serve(bench)
    bench.close()


@pytest.fixture(scope="session")
def served_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder for embeddings that tests share."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def embedded(served_model: Model, served_folder: Path, served_cache: Path, tmp_path: Path) -> Iterator[Served]:
    """Return a server whose folder is embedded, with labels in a folder of the test."""
    library = Library(served_folder)
    folder = FolderVectors(served_model, library, served_cache)
    folder.start()
    folder.wait()
    bench = Workbench(served_model, library, SMALL, folder, tmp_path / "labels.csv")
    yield serve(bench)
    bench.close()
