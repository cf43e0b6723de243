"""Embeddings of FOLDER: computed in the background, cached on disk, searched in memory.

    CACHE/KEY/embeddings.parquet    one row a file, see `unheard.embedding.tables`
    CACHE/KEY/files.json            size and time, or version at its address, of each file when it was embedded
    CACHE/KEY/map/                  the 2-D projections

KEY is a hash of the folder, the model and the options. Rows of files that have changed are computed again.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from copy import copy
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event, Thread
from typing import Literal

import numpy as np
from jaxtyping import Float32

from unheard.addresses import address_of, named
from unheard.embedding.bulk import embed_table
from unheard.embedding.embedding_model import EmbeddingModel, Pending
from unheard.embedding.identity import SOURCE, identity
from unheard.embedding.job import Options
from unheard.embedding.search import EmbeddingTable
from unheard.embedding.table_files import read_blocks, read_identity, vectors, write_table
from unheard.embedding.table_jobs.audio_progress import IN_MINUTES
from unheard.embedding.tables import absolute, discard
from unheard.errors import DataError, UnheardError
from unheard.files import read_json, write_json
from unheard.outputs import locked_file
from unheard.progress import Item
from unheard.remote.listing import entry_of
from unheard.serving.library import File, Library
from unheard.serving.limits import RefusedError

OPTIONS = Options(frames=False)
State = Literal["embedding", "ready", "failed"]
Stamps = dict[str, list[int | str]]


@dataclass(frozen=True)
class Progress:
    """How far the embedding of a folder is.

    Parameters
    ----------
    state : {"embedding", "ready", "failed"}
    done, total : int
        Files.
    skipped : tuple of (path, reason)
        Files that could not be read.
    error : str
        Why it failed.
    """

    state: State = "embedding"
    done: int = 0
    total: int = 0
    skipped: tuple[tuple[str, str], ...] = ()
    error: str = ""


@dataclass(frozen=True)
class Embedded:
    """The embeddings of a folder.

    Parameters
    ----------
    table : EmbeddingTable
        For searches.
    files : list of File
        The file of each row.
    vectors : ndarray (n, D)
    key : str
        Hash of all that the vectors depend on.
    """

    table: EmbeddingTable
    files: list[File]
    vectors: Float32[np.ndarray, "n D"]
    key: str

    def row(self, sound: str) -> int | None:
        """Return the row of a file by its id; None if the file could not be read."""
        return next((row for row, file in enumerate(self.files) if file.id == sound), None)


class FolderVectors:
    """The embeddings of the files of a library by one model, computed in a thread.

    Parameters
    ----------
    model : EmbeddingModel
    library : Library
    cache : Path
        Folder for the embeddings of all folders and models; see `default_cache`.
    """

    def __init__(self, model: EmbeddingModel, library: Library, cache: Path) -> None:
        self._model, self._library = model, library
        made_of = {name: value for name, value in identity(model, OPTIONS).items() if name != SOURCE}
        key = hashlib.sha256(json.dumps([named(library.root), made_of], default=str).encode()).hexdigest()[:24]
        self.folder = cache / key
        self.progress = Progress(total=len(library.files))
        self._found: Embedded | None = None
        self._stop = Event()
        self._thread = Thread(target=self._run, name="unheard-embed")

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread after its batch; rows that are computed stay in the cache.

        A thread that the process leaves running is killed with it: the file that it reads would count as one on which
        the process died, and PyTorch may abort.
        """
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def wait(self, seconds: float | None = None) -> None:
        """Wait for the thread."""
        self._thread.join(seconds)

    @property
    def found(self) -> Embedded:
        """Return the embeddings.

        Raises
        ------
        RefusedError
            With status 409, when they are not complete.
        """
        if self._found is None:
            now = self.progress
            reason = f"{now.done} of {now.total} files are embedded" if now.state == "embedding" else now.error
            raise RefusedError(409, f"the folder is not ready: {reason}", {"Retry-After": "2"})
        return self._found

    def _run(self) -> None:
        try:
            self._found = self._embed()
            self.progress = replace(self.progress, state="ready")
        except UnheardError as error:
            self.progress = replace(self.progress, state="failed", error=str(error))
        except OSError as error:
            self.progress = replace(self.progress, state="failed", error=f"{self.folder}: {error.strerror or error}")
        except _Stopped:
            pass

    def _embed(self) -> Embedded:
        paths = [named(file.path) for file in self._library.files]
        table, stamps = self.folder / "embeddings.parquet", _stamps(paths)
        with locked_file(self.folder / "files.json"):
            drop_changed(table, _known_stamps(self.folder / "files.json"), stamps)
            write_json(self.folder / "files.json", {"stamps": stamps})
            report = embed_table(self._stoppable(), paths, table, OPTIONS, resume=True, track=self._track)
        self.progress = replace(self.progress, skipped=report.skipped, done=self.progress.total)
        opened = EmbeddingTable(table)
        files, values = [], []
        for block in read_blocks(table):
            there = [self._library.of_path(absolute(path)) for path in block["path"].to_pylist()]
            files += [file for file in there if file is not None]
            values.append(vectors(block)[[file is not None for file in there]])
        key = hashlib.sha256(json.dumps([self.folder.name, stamps]).encode()).hexdigest()
        return Embedded(opened, files, np.ascontiguousarray(np.concatenate(values), np.float32), key)

    def _stoppable(self) -> EmbeddingModel:
        """Return a copy of the model that encodes no further batch when the server stops: a file may last hours."""
        model, encode = copy(self._model), self._model.encode

        def unless_stopped(pending: Pending, options: Options) -> None:
            if self._stop.is_set():
                raise _Stopped
            encode(pending, options)

        model.encode = unless_stopped  # type: ignore[method-assign]
        return model

    def _track(self, items: Iterable[Item], total: int, description: str) -> Iterator[Item]:
        """Count the files that are embedded; those of an earlier run count from the start.

        If the items are minutes of a few long recordings, all files are counted in proportion, from 0.
        """
        files, in_minutes = self.progress.total, description == IN_MINUTES
        for done, item in enumerate(items):
            if self._stop.is_set():
                raise _Stopped
            count = files * done // total if in_minutes else files - total + done
            self.progress = replace(self.progress, done=count)
            yield item


class _Stopped(Exception):  # noqa: N818 - the end of a thread, not an error
    """The server stops."""


def default_cache() -> Path:
    """Return the folder for caches of this user: XDG_CACHE_HOME, or ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "unheard" / "serve"


def drop_changed(table: Path, before: Stamps, now: Stamps) -> None:
    """Remove the rows of files that were changed or deleted since they were embedded."""
    stale = {path for path, stamp in before.items() if now.get(path) != stamp}
    if not stale:
        return
    discard(table.with_name(f".{table.name}.parts"))
    if not table.exists():
        return
    kept = [block.filter([path not in stale for path in block["path"].to_pylist()]) for block in read_blocks(table)]
    if any(len(block) for block in kept):
        write_table(table, lambda: iter(kept), read_identity(table))
    else:
        table.unlink()


def _stamps(paths: Iterable[str]) -> Stamps:
    found: Stamps = {}
    for path in paths:
        if address := address_of(path):
            found[address] = list(entry_of(address))
            continue
        try:
            state = os.stat(path)  # noqa: PTH116 - many files
        except OSError:
            continue
        found[absolute(path)] = [state.st_size, state.st_mtime_ns]
    return found


def _known_stamps(file: Path) -> Stamps:
    """Return the stored stamps; without them, or when they are damaged, the table is removed."""
    try:
        return dict(read_json(file)["stamps"])
    except (FileNotFoundError, DataError):
        discard(file.with_name(".embeddings.parquet.parts"))
        file.with_name("embeddings.parquet").unlink(missing_ok=True)
        return {}
