"""Search a table of embeddings by example: exact cosine similarity to vectors centred by the mean of the table.

    v' = (v - m) / |v - m|        m: mean of all rows of the table
    q = mean of the examples' v', minus the mean of those of the counter-examples, scaled to length 1
    score of a row = v' . q

Opening copies the vectors, block by block, to one unnamed temporary file in the folder of the table. The file is
memory-mapped and searched in blocks, whose pages are released after use: memory does not grow with the table, except
for times, norms and scores. Rows of an example's own file that overlap with it are left out.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Int

from unheard.addresses import address_of
from unheard.audio.archives.members import is_sound_file
from unheard.audio.waveform import read
from unheard.data.tables import ends_before
from unheard.embedding.embedder import Precision
from unheard.embedding.embedding_model import EmbeddingModel
from unheard.embedding.identity import SOURCE, fingerprint, folder_of
from unheard.embedding.job import Options, Sound
from unheard.embedding.loading import loaded
from unheard.embedding.table_files import FORMATS, read_blocks, read_identity, vectors
from unheard.embedding.tables import absolute
from unheard.embedding.vector_file import VectorFile
from unheard.errors import CheckpointError, ConfigError, DataError, shown, warn_audio
from unheard.remote.reading import local_path

DIGITS = 6
"""Decimals of a score; equal scores are sorted by their row, whatever the rounding of the products (our choice)."""

_PART = re.compile(r"(.+)@(\d+(?:\.\d+)?)-(\d+(?:\.\d+)?)")


@dataclass(frozen=True)
class Example:
    """A sound, or a part of it from ``start`` to ``end`` in seconds, for which similar ones are searched."""

    path: str
    start: float | None = None
    end: float | None = None

    @property
    def sound(self) -> Sound:
        """Return the samples of the part with their rate, or the path of a whole file."""
        if self.start is None or self.end is None:
            return self.path
        wav, rate = read(self.path, start=self.start, seconds=self.end - self.start)
        if ends_before(last := self.start + len(wav) / rate, self.end):
            text = f"the example ends at {self.end:g} s, but the file lasts {last:.3f} s; the existing part is used"
            warn_audio(f"{shown(self.path)}: {text}")
        return wav, rate


@dataclass(frozen=True)
class Hit:
    """A row of the table, with its times in seconds and its similarity from -1 to 1."""

    path: str
    start: float
    end: float
    score: float


def parse_example(text: str | Path) -> Example:
    """Return an example from ``FILE`` or ``FILE@START-END`` with times in seconds.

    Raises
    ------
    ConfigError
        When the file does not exist, or the part does not end after its start.
    """
    path, start, end = str(text), None, None
    if not is_sound_file(path) and (match := _PART.fullmatch(path)):
        path, start, end = match[1], float(match[2]), float(match[3])
        if end <= start:
            raise ConfigError(f"{shown(text)} ends at {end:g} s, which is not after its start; give FILE@START-END")
    if not is_sound_file(path):
        raise ConfigError(f"there is no sound file {shown(path)}; give FILE, or FILE@START-END in seconds")
    return Example(path, start, end)


class EmbeddingTable:
    """A table of embeddings, open for searches; closed with the object.

    Parameters
    ----------
    path : Path
        A table that `unheard.embed` wrote: one row a file, a window, a segment or a frame.

    Raises
    ------
    DataError
        When it does not exist, is damaged, or has no identity, or when its vectors are not finite or cannot be copied.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if self.path.suffix in FORMATS:
            self.path = local_path(path)
        if not self.path.is_file() or self.path.suffix not in FORMATS:
            raise DataError(
                f"{shown(path)}: no such table; give one that unheard embed wrote, which ends in {', '.join(FORMATS)}"
            )
        self.identity: dict[str, Any] = read_identity(self.path)
        if "size" not in self.identity or "pool" not in self.identity:
            raise DataError(f"{shown(path)} holds no embeddings; give a table that unheard embed wrote")
        self._read()

    def _read(self) -> None:
        numbers: dict[str, int] = {}
        codes, starts, ends = [], [], []
        total = np.zeros(self.identity["size"])
        self._vectors = VectorFile(self.path, len(total))
        for block in read_blocks(self.path):
            values = np.ascontiguousarray(vectors(block), np.float32)
            self._vectors.append(values)
            total += values.sum(axis=0, dtype=np.float64)
            codes.append(np.array([numbers.setdefault(p, len(numbers)) for p in block["path"].to_pylist()]))
            first, last = _times({name: block[name] for name in block.column_names}, len(values))
            starts.append(first)
            ends.append(last)
        if not codes:
            raise DataError(f"{self.path} has no rows; embed some sounds first")
        self.mean = (total / len(self)).astype(np.float32)
        self.paths = list(numbers)
        self._codes, self._starts, self._ends = np.concatenate(codes), np.concatenate(starts), np.concatenate(ends)
        self._norms = np.concatenate([np.linalg.norm(block - self.mean, axis=1) for block in self._vectors.blocks()])
        self._norms[self._norms == 0] = np.inf  # a row equal to the mean is similar to nothing

    def __len__(self) -> int:
        return len(self._vectors)

    def search(
        self,
        like: Float32[np.ndarray, "n D"],
        unlike: Float32[np.ndarray, "m D"],
        k: int,
        exclude: Sequence[Example] = (),
    ) -> list[Hit]:
        """Return the ``k`` most similar rows, the best first; rows of equal score in the order of the table.

        Parameters
        ----------
        like, unlike : Float32[ndarray, "n D"]
            Vectors of the examples and of the counter-examples.
        exclude : sequence of Example
            Rows that overlap with one of these are left out.
        """
        query = self._unit(like).mean(axis=0)
        if len(unlike):
            query = query - self._unit(unlike).mean(axis=0)
        query = query / max(float(np.linalg.norm(query)), 1e-12)
        shift = float(self.mean @ query)
        scores = np.concatenate([block @ query for block in self._vectors.blocks()])
        scores = np.round((scores - shift) / self._norms, DIGITS)
        rows = np.flatnonzero(~self._overlapping(exclude))
        best = _top(scores[rows], k)
        return [
            Hit(
                self.paths[self._codes[i]],
                float(self._starts[i]),
                float(self._ends[i]),
                round(float(scores[i]), DIGITS),
            )
            for i in rows[best].tolist()
        ]

    def _unit(self, values: Float32[np.ndarray, "n D"]) -> Float32[np.ndarray, "n D"]:
        centred = values - self.mean
        return np.asarray(centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-12), np.float32)

    def _file(self, path: str) -> str:
        """Return the identity of a file of the table."""
        return absolute(path if address_of(path) else str(self._base / path))

    @cached_property
    def _base(self) -> Path:
        return folder_of(self.paths, self.path)

    def _overlapping(self, examples: Sequence[Example]) -> Bool[np.ndarray, " N"]:
        found = np.zeros(len(self), bool)
        names = [self._file(path) for path in self.paths] if examples else []
        for example in examples:
            same = [number for number, name in enumerate(names) if name == absolute(example.path)]
            start, end = example.start or 0.0, np.inf if example.end is None else example.end
            # a frame has no length: it counts when it lies inside
            apart = (self._starts >= end) | ((self._ends <= start) & (self._ends > self._starts)) | (self._ends < start)
            found |= np.isin(self._codes, same) & ~apart
        return found


def search(
    table: str | Path | EmbeddingTable,
    like: str | Path | Sequence[str | Path],
    k: int = 20,
    *,
    unlike: str | Path | Sequence[str | Path] = (),
    model: EmbeddingModel | str | Path | None = None,
    device: str = "cpu",
) -> list[Hit]:
    """Return the rows of a table of embeddings that are most similar to examples, the best first.

    Parameters
    ----------
    table : path or EmbeddingTable
        A table that `embed` wrote; open it once with `EmbeddingTable` for several searches.
    like, unlike : path or sequence of path
        Examples and counter-examples: sound files, or parts of them as ``FILE@START-END`` in seconds.
    k : int
        Number of rows.
    model : optional
        The model that made the table, when it has moved. Default: the one whose path the table holds.

    Raises
    ------
    ConfigError
        When there is no example, or the model is not the one that made the table.
    DataError
        When the table cannot be read.
    AudioError
        When an example cannot be read.

    Examples
    --------
    >>> import unheard
    >>> unheard.search("emb.parquet", like="dog.wav@1.5-3.0", k=5)  # doctest: +SKIP
    """
    good, bad = _examples(like), _examples(unlike)
    if not good or k < 1:
        raise ConfigError(f"a search needs an example (--like FILE) and k of at least 1; got {len(good)} and {k}")
    opened = table if isinstance(table, EmbeddingTable) else EmbeddingTable(table)
    encoder, options = _model_of(opened, model, device), _options(opened)
    found = [each for _, each in encoder.embed_many([example.sound for example in (*good, *bad)], options)]
    values = np.stack([each.frames.mean(axis=0) if options.frames else each.scene for each in found])
    return opened.search(values[: len(good)], values[len(good) :], k, good)


def _examples(given: str | Path | Sequence[str | Path]) -> list[Example]:
    return [parse_example(each) for each in ([given] if isinstance(given, str | Path) else given)]


def _model_of(table: EmbeddingTable, model: EmbeddingModel | str | Path | None, device: str) -> EmbeddingModel:
    """Return the model that made a table; refuse any other."""
    source, made_by = str(table.identity.get(SOURCE) or ""), str(table.identity["model"])
    if model is None and not source:
        raise ConfigError(f"{table.path} does not name the model that made it; give the model with --model")
    try:
        precision: Precision = table.identity.get("precision") or "float32"
        encoder = loaded(source if model is None else model, device, precision)
    except CheckpointError as error:
        if model is not None:
            raise
        raise ConfigError(
            f"{table.path} was made by {source}, which cannot be loaded; give --model ({error})"
        ) from error
    if (found := fingerprint(encoder)) != made_by:
        raise ConfigError(
            f"{table.path} was made by {source or 'a model'} with the fingerprint {made_by[:12]};"
            f" {encoder.origin or encoder.description} has {found[:12]}; give the model that made the table with"
            " --model, or embed the sounds again"
        )
    return encoder


def _options(table: EmbeddingTable) -> Options:
    """Return the options of an example; for frames, the mean is used: scene vectors of HEAR are of another space."""
    stored = table.identity
    framed = stored["pool"] == "none" or bool(stored["frames"])
    return Options(stored["layer"], "mean" if framed else stored["pool"], None, framed, stored["cls"])


def _times(columns: dict[str, Any], rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Return start and end of rows in seconds; both are the centre of a frame."""
    if "start" in columns:
        return np.asarray(columns["start"], np.float64), np.asarray(columns["end"], np.float64)
    if "time_ms" in columns:
        centre = np.asarray(columns["time_ms"], np.float64) / 1000
        return centre, centre
    return np.zeros(rows), np.asarray(columns["seconds"], np.float64)


def _top(scores: Float32[np.ndarray, " n"], k: int) -> Int[np.ndarray, " k"]:
    """Return the indices of the ``k`` largest scores in descending order, equal ones by index."""
    if k < len(scores):
        candidates = np.flatnonzero(scores >= np.partition(scores, len(scores) - k)[len(scores) - k])
    else:
        candidates = np.arange(len(scores))
    return candidates[np.argsort(-scores[candidates], kind="stable")][:k]
