"""Tables of embeddings on disk: parts during the job, then one parquet, npz or csv file.

A table has one row a clip (``path, seconds, embedding``), one row a frame with ``time_ms`` as well, or one row for each
part of a file (``path, start, end, embedding``). During the job, a folder ``.TABLE.parts`` holds

    part-00000.parquet ...   finished rows
    manifest.json            the identity of model and options, the SHA-256 of each part (other parts are ignored), and
                             whether the job replaces an existing table, whose rows are not kept then
    in-work                  the files that are being read; if the process dies, one of them may be the reason
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from unheard.addresses import address_of, named
from unheard.embedding.identity import refuse_differences, refuse_other_folder
from unheard.embedding.table_files import (
    FORMATS,
    clear_errors,
    read_blocks,
    read_columns,
    read_identity,
    read_paths,
    write_table,
)
from unheard.embedding.table_jobs.crashes import count_death, fatal_files, in_work
from unheard.errors import ConfigError, DataError, utf8
from unheard.files import FILES, atomic_write, differing_files, file_checksum, read_json, remove_unfinished, write_json
from unheard.outputs import locked_file

if TYPE_CHECKING:
    import pyarrow as pa

PART_VALUES = 8_000_000
"""Numbers kept in memory before a part is written: 32 MB (our choice)."""

PART_SECONDS = 30.0
"""Rows are kept in memory for at most this time (our choice)."""


class TableWriter:
    """Writes a table in parts next to its final file, so that an interrupted job can be resumed; a context manager.

    Parameters
    ----------
    out : Path
        Final file; its suffix selects the format.
    identity : dict
        All that the embeddings depend on; an earlier table with another identity is refused.
    size : int
        Length of one embedding.
    resume, overwrite : bool
        Continue an earlier table, or replace it. With neither, an existing one is refused.

    Raises
    ------
    ConfigError
        When the suffix is unknown, the file exists and neither flag was given, another process writes it, or the
        earlier table has another model or other options.
    DataError
        When the earlier table is damaged.
    """

    def __init__(
        self, out: Path, identity: dict[str, Any], size: int, resume: bool = False, overwrite: bool = False
    ) -> None:
        if out.suffix not in FORMATS:
            raise ConfigError(f"{out}: the name of the table must end in {', '.join(FORMATS)}")
        self.out, self.size, self.resume, self.overwrite = out, size, resume, overwrite
        self.identity = {**identity, "size": size}
        self.parts = parts_folder(out)
        self._rows: list[dict[str, Any]] = []
        self._values, self._flushed = 0, time.monotonic()
        self._waiting: dict[str, str] = {}
        self._open = False
        self._in_work: list[str] = []
        self._manifest: dict[str, Any] = {**self.identity, FILES: {}, "deaths": {}, "replaces": overwrite}
        self._lock = locked_file(out)

    def __enter__(self) -> TableWriter:
        """Lock the table and read earlier results if they are to be continued."""
        with clear_errors(self.out):
            self._lock.__enter__()
            try:
                if not self.resume and not self.overwrite and (self.out.exists() or self.parts.exists()):
                    state = "exists" if self.out.exists() else "has parts of an interrupted job"
                    raise ConfigError(
                        f"{self.out} {state}; continue it with --resume, replace it with --overwrite, or choose"
                        " another -o"
                    )
                if self.resume:
                    self._take_up()
                else:  # the table itself is replaced when the new one is complete
                    shutil.rmtree(self.parts, ignore_errors=True)
                self.parts.mkdir(parents=True, exist_ok=True)
                if self.overwrite:  # a killed job is continued without the rows of the table that it replaces
                    write_json(self.parts / "manifest.json", self._manifest)
            except BaseException:
                self._lock.__exit__(None, None, None)
                raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Store the rows in memory, also after an error or Ctrl-C, and release the lock."""
        try:
            if self.parts.exists():
                with clear_errors(self.out):
                    if self._open:  # rows of a file without its last ones
                        self._rows, self._waiting = [], {}
                    self._flush()
                    if self._manifest[FILES]:
                        write_json(self.parts / "manifest.json", self._manifest)  # an interrupt may have prevented it
                    (self.parts / "in-work").unlink(missing_ok=True)
                if not self._manifest[FILES] and not (self._manifest["replaces"] and self.out.exists()):
                    shutil.rmtree(self.parts, ignore_errors=True)
        finally:
            self._lock.__exit__(kind, error, trace)

    @property
    def _extends(self) -> bool:
        """Return whether the rows of an existing table are kept."""
        return self.resume and self.out.exists() and not self._manifest["replaces"]

    @property
    def _stored(self) -> list[Path]:
        """Return the files with the rows of earlier jobs, and the parts of this one."""
        return [self.out] * self._extends + [self.parts / part for part in sorted(self._manifest[FILES])]

    def done(self) -> set[str]:
        """Return the absolute paths of the clips that are finished."""
        return {absolute(path) for file in self._stored for path in read_paths(file)}

    def fatal(self, sample_rate: int) -> dict[str, str]:
        """Return files on which the process died and which are left out: their decoder crashes, or it happened
        twice.
        """
        return fatal_files(self._manifest["deaths"], sample_rate)

    def suspects(self) -> set[str]:
        """Return files that were being read when the process died; read them before others, and one at a time."""
        return set(map(absolute, self._manifest["deaths"]))

    def begin(self, path: str, together: int = 1) -> str:
        """Record that a sound is being read, as one of the latest ``together``. Return ``path``."""
        self._in_work = [*self._in_work, path][-together:]
        unfinished = self.parts / "in-work.new"  # replaced at once: a reader may make the process die at any time
        unfinished.write_bytes(b"\0".join(map(os.fsencode, self._in_work)))
        unfinished.replace(self.parts / "in-work")
        return path

    def last_row(self) -> tuple[str, float] | None:
        """Return the absolute path and the start of the last row of the parts, for a table with starts."""
        if not self._manifest[FILES]:
            return None
        paths, starts = read_columns(self.parts / max(self._manifest[FILES]), ("path", "start"))
        return absolute(paths[-1]), starts[-1]

    def _partial(self) -> set[str]:
        """Return the absolute paths of files that have rows and may need more: of segments all, of windows the last."""
        if self.identity.get("segments"):
            return self.done()
        last = self.last_row() if self.identity.get("window") is not None else None
        return set() if last is None else {last[0]}

    def stored_segments(self) -> list[tuple[str, float, float]]:
        """Return absolute path, start and end of the rows of earlier jobs, for a table with starts and ends."""
        columns = (read_columns(file, ("path", "start", "end")) for file in self._stored)
        return [(absolute(path), start, end) for rows in columns for path, start, end in zip(*rows, strict=True)]

    def add(self, path: str, embedding: np.ndarray, complete: bool = True, **columns: float | np.ndarray) -> None:
        """Append rows of a file: one vector (D,), or several (T, D), with a value or T values for other columns.

        Without ``complete``, more rows of the file follow. They become valid together with the last ones.
        """
        with clear_errors(self.out):
            if not complete and not self._open:
                self._flush()  # the rows of other files
            self._open = not complete
            rows = embedding.reshape(-1, self.size)
            self._rows.append({"path": utf8(named(path)), "embedding": rows, "columns": columns})
            self._values += embedding.size
            if self._values >= PART_VALUES:
                self._write_part()
            if complete and (self._waiting or time.monotonic() - self._flushed >= PART_SECONDS):
                self._flush()

    def finish(self) -> int:
        """Join earlier rows and the parts to the final file, atomically. Return its number of rows."""
        with clear_errors(self.out):
            self._flush()
            if not self._manifest[FILES]:
                rows = sum(len(block) for block in self._earlier())
            else:
                rows = write_table(self.out, self._earlier, self.identity)
        discard(self.parts)
        return rows

    def _take_up(self) -> None:
        """Compare earlier results with this job, and record the file on which the process died."""
        manifest = self.parts / "manifest.json"
        stored = read_json(manifest, DataError, "start again with --overwrite") if manifest.exists() else {}
        self._manifest["replaces"] = stored.get("replaces", False)
        if self._extends:
            refuse_differences(self.out, read_identity(self.out), self.identity)
        if stored:
            refuse_differences(self.out, stored, self.identity)
            if damaged := differing_files(self.parts, stored[FILES]):
                raise DataError(
                    f"{self.parts}: {', '.join(damaged)} is missing or differs from its checksum; start again with"
                    " --overwrite"
                )
            self._manifest |= {FILES: {} if self._joined(stored[FILES]) else stored[FILES], "deaths": stored["deaths"]}
        refuse_other_folder(self._stored[:1])
        if self.parts.exists():
            remove_unfinished(self.parts)
            for part in self.parts.glob("part-*.parquet"):
                if part.name not in self._manifest[FILES]:
                    part.unlink()
        if (self.parts / "in-work").exists():
            done, partial = self.done(), self._partial()
            for path in in_work(self.parts / "in-work"):
                if absolute(path) in partial or absolute(path) not in done:
                    count_death(self._manifest["deaths"], path, absolute(path) in partial)
            write_json(manifest, self._manifest)
            (self.parts / "in-work").unlink()

    def _joined(self, parts: Iterable[str]) -> bool:
        """Return whether the table contains the clips of the parts: the process died after joining and before deleting
        them.
        """
        return self._extends and read_paths(self.out).issuperset(
            {path for part in parts for path in read_paths(self.parts / part)}
        )

    def _earlier(self) -> Iterator[pa.Table]:
        """Yield the rows of the finished table and of the parts, in blocks."""
        for file in self._stored:
            yield from read_blocks(file)

    def _flush(self) -> None:
        """Write the rows in memory as one part, then the checksums of all new parts, which makes them valid.

        An interrupt may come at any time, and `__exit__` then flushes again. So the parts enter the manifest of this
        object at once, before it is written.
        """
        self._flushed = time.monotonic()
        if self._rows:
            self._write_part()
        if self._waiting:
            self._manifest[FILES], self._waiting = {**self._manifest[FILES], **self._waiting}, {}
            write_json(self.parts / "manifest.json", self._manifest)

    def _write_part(self) -> None:
        """Write the rows in memory as one part that is not valid yet."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        counts = [len(row["embedding"]) for row in self._rows]
        columns: dict[str, Any] = {
            "path": [row["path"] for row, n in zip(self._rows, counts, strict=True) for _ in range(n)],
        }
        for name in self._rows[0]["columns"]:
            values = [np.broadcast_to(row["columns"][name], n) for row, n in zip(self._rows, counts, strict=True)]
            columns[name] = np.concatenate(values)
        flat = np.concatenate([row["embedding"] for row in self._rows]).astype(np.float32, copy=False).ravel()
        columns["embedding"] = pa.FixedSizeListArray.from_arrays(pa.array(flat), self.size)
        target = self.parts / f"part-{len(self._manifest[FILES]) + len(self._waiting):06d}.parquet"
        with atomic_write(target) as unfinished:
            pq.write_table(pa.table(columns), unfinished, write_page_checksum=True)
        checksum = file_checksum(target)
        self._rows, self._values, self._waiting = [], 0, {**self._waiting, target.name: checksum}


def parts_folder(out: Path) -> Path:
    """Return the folder of the parts of a table that is being written."""
    return out.with_name(f".{out.name}.parts")


def discard(parts: Path) -> None:
    """Delete the parts of a table that is complete."""
    shutil.rmtree(parts, ignore_errors=True)


def absolute(path: str) -> str:
    """Return the identity of a file in a table: its address, or its absolute path without following links."""
    return address_of(path) or os.path.abspath(utf8(path))  # noqa: PTH100
