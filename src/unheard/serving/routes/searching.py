"""Embeddings of sounds, search by example or words, and the map of FOLDER."""

from __future__ import annotations

from typing import Annotated

import numpy as np
import torch
from fastapi import APIRouter, Query
from jaxtyping import Float32

from unheard.addresses import named
from unheard.embedding.search import Example
from unheard.embedding.search import Hit as TableHit
from unheard.embedding.zero_shot import audio_vectors, caption_vectors
from unheard.errors import ConfigError, shown
from unheard.serving.folder_map import clusters, folder_map
from unheard.serving.folder_vectors import Embedded
from unheard.serving.routes.context import ERRORS, Bench
from unheard.serving.schemas_search import (
    EmbedOut,
    FolderState,
    Hit,
    Hits,
    MapOut,
    NeighboursIn,
    Part,
    Point,
)
from unheard.serving.workbench import Workbench

router = APIRouter(prefix="/api", tags=["search"], responses=ERRORS)


@router.get("/folder")
async def folder(bench: Bench) -> FolderState:
    """Return how far the embedding of FOLDER is."""
    if bench.folder is None:
        return FolderState(state="none")
    now = bench.folder.progress
    names = [[bench.relative(path), bench.relative(reason)] for path, reason in now.skipped]
    return FolderState(state=now.state, done=now.done, total=now.total, skipped=names, error=shown(now.error))


@router.post("/embed")
async def embed(asked: Part, bench: Bench) -> EmbedOut:
    """Return the scene embedding of a sound, or of a part of it."""
    vector = await bench.jobs.run(bench.vector, asked.sound, asked.start, asked.end)
    return EmbedOut(model=shown(bench.model.origin or bench.model.description), vector=vector.tolist())


@router.post("/neighbours")
async def neighbours(asked: NeighboursIn, bench: Bench) -> Hits:
    """Return the files of FOLDER that are most similar to examples, or to words, the best first."""
    return await bench.jobs.run(_neighbours, bench, asked)


@router.get("/map")
async def map_of_folder(bench: Bench, count: Annotated[int, Query(ge=2, le=20, alias="clusters")] = 8) -> MapOut:
    """Return the files of FOLDER in two dimensions, with clusters and labels."""
    return await bench.jobs.run(_map, bench, count)


def vectors_of(bench: Workbench, parts: list[Part]) -> Float32[np.ndarray, "n D"]:
    """Return the embedding of each part; those of whole files of FOLDER come from its table."""
    found = bench.embedded
    rows = [found.row(part.sound) if part.end is None and not part.start else None for part in parts]
    values = [
        found.vectors[row] if row is not None else bench.vector(part.sound, part.start, part.end)
        for part, row in zip(parts, rows, strict=True)
    ]
    return np.stack(values) if values else np.zeros((0, found.vectors.shape[1]), np.float32)


def _neighbours(bench: Workbench, asked: NeighboursIn) -> Hits:
    found = bench.embedded
    if asked.words.strip():
        return _by_words(bench, found, asked)
    if not asked.like:
        raise ConfigError("a search needs at least one example in like, or words")
    library = found.files
    if bench.library is None or not library:
        raise ConfigError("this server has no folder; start it as: unheard serve MODEL FOLDER")
    own = [
        Example(named(bench.library[part.sound].path), part.start, part.end)
        for part in asked.like
        if part.sound in bench.library
    ]
    hits = found.table.search(vectors_of(bench, asked.like), vectors_of(bench, asked.unlike), asked.k, own)
    return Hits(hits=[made for hit in hits if (made := _hit(bench, hit)) is not None])


def _hit(bench: Workbench, hit: TableHit) -> Hit | None:
    file = None if bench.library is None else bench.library.of_path(hit.path)
    if file is None:
        return None
    return Hit(id=file.id, name=shown(file.name), folder=shown(file.group), score=round(hit.score, 4))


def _by_words(bench: Workbench, found: Embedded, asked: NeighboursIn) -> Hits:
    model = bench.own
    caption = caption_vectors(model, [asked.words.strip()])
    scores = (audio_vectors(model, torch.from_numpy(found.vectors).to(model.device)) @ caption.T)[:, 0].cpu().numpy()
    best = np.argsort(-scores, kind="stable")[: asked.k].tolist()
    files = [(found.files[row], float(scores[row])) for row in best]
    return Hits(
        hits=[Hit(id=file.id, name=shown(file.name), folder=shown(file.group), score=round(s, 4)) for file, s in files]
    )


def _map(bench: Workbench, count: int) -> MapOut:
    found, folder = bench.embedded, bench.folder
    assert folder is not None, "there are embeddings"
    made = folder_map(found, folder.folder)
    numbers = clusters(found, made.rows, count)
    labels = bench.label_of
    points = []
    for at, row in enumerate(made.rows.tolist()):
        file = found.files[row]
        points.append(
            Point(
                id=file.id,
                name=shown(file.name),
                folder=shown(file.group),
                label=labels(file.id),
                cluster=int(numbers[at]),
                pca=made.pca[at].round(4).tolist(),
                tsne=made.tsne[at].round(4).tolist(),
            )
        )
    return MapOut(points=points, total=len(found.files), variance=round(made.variance, 4))
