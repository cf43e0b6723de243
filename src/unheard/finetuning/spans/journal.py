"""Output of a detection job: an interrupted one is continued, and a finished one extended by other recordings.

OUT                        the detections, see `formats`
OUT.json                   the identity of the job, the recordings with their detections, and the checksum of OUT
.OUT.recordings.jsonl      during the job: the identity, and whether OUT is replaced; then one line for each finished
                           recording
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from unheard.embedding.identity import differences
from unheard.embedding.tables import absolute
from unheard.errors import ConfigError, DataError
from unheard.files import (
    FILES,
    differing_files,
    file_checksums,
    json_line,
    read_json,
    read_json_lines,
    write_json,
    write_text,
)
from unheard.finetuning.spans.formats import Recording, SpanFormat, write_spans
from unheard.finetuning.spans.merging import Span
from unheard.outputs import locked_file

RECORDINGS = "recordings"


class DetectionJournal:
    """Stores the recordings of a job as they are finished; a context manager.

    Parameters
    ----------
    out : Path
    identity : dict
        All that the detections depend on; an earlier job with another identity is refused.
    resume, overwrite : bool
        Continue or extend an earlier job, or replace it. With neither, an existing one is refused.

    Attributes
    ----------
    earlier : dict of str to Recording
        Recordings of earlier jobs by absolute path.

    Raises
    ------
    ConfigError
        When the output exists and neither flag was given, another process writes it, the earlier job has another
        identity, or a folder to be replaced was not written by a job.
    DataError
        When the earlier output was edited or is damaged.
    """

    def __init__(self, out: Path, identity: dict[str, Any], resume: bool = False, overwrite: bool = False) -> None:
        if resume and overwrite:
            raise ConfigError("an output is either continued or replaced; give --resume or --overwrite, not both")
        self.out, self.identity, self.resume, self.overwrite = out, identity, resume, overwrite
        self.replaces = overwrite
        self.companion = out.with_name(f"{out.name}.json")
        self.lines = out.with_name(f".{out.name}.{RECORDINGS}.jsonl")
        self.earlier: dict[str, Recording] = {}
        self._lock = locked_file(self.companion)  # the output itself is locked while a folder is replaced
        self._file: IO[str] | None = None

    def __enter__(self) -> DetectionJournal:
        """Lock the output and read earlier results if they are to be continued."""
        self._lock.__enter__()
        try:
            self._refuse()
            if self.resume:
                self._take_up()
            done = [json_line(row_of(recording)) for recording in self.earlier.values()]
            head = {"identity": self.identity, "replaces": self.replaces}
            write_text(self.lines, "".join([json_line(head), *done]))
            self._file = self.lines.open("a", encoding="utf-8")
        except BaseException:
            self._lock.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file and release the lock; a job without a finished recording leaves nothing."""
        try:
            if self._file is not None:
                self._file.close()
            if not self.earlier and not (self.replaces and self.out.exists()):
                self.lines.unlink(missing_ok=True)
        finally:
            self._lock.__exit__(kind, error, trace)

    def add(self, recording: Recording) -> None:
        """Store a recording. One that could not be read to its end is read again by the next job."""
        assert self._file is not None, "the journal is open"
        if not recording.error:
            self.earlier[absolute(recording.path)] = recording
            self._file.write(json_line(row_of(recording)))
            self._file.flush()
            os.fsync(self._file.fileno())

    def finish(self, kind: SpanFormat, recordings: list[Recording], sample_rate: int) -> None:
        """Write the output and its companion, and delete the lines of the job."""
        names = write_spans(self.out, kind, recordings, sample_rate)
        rows = [row_of(recording) for recording in recordings]
        checksums = file_checksums(self.out.parent, names)
        write_json(self.companion, {"identity": self.identity, RECORDINGS: rows, FILES: checksums})
        self.lines.unlink(missing_ok=True)

    def _refuse(self) -> None:
        if self.overwrite and self.out.is_dir() and not self.companion.is_file():
            raise ConfigError(
                f"{self.out} is a folder that no detection wrote: {self.companion.name} is missing; choose another -o"
            )
        if not self.resume and not self.overwrite and (self.out.exists() or self.lines.exists()):
            state = "exists" if self.out.exists() else "has recordings of an interrupted job"
            raise ConfigError(
                f"{self.out} {state}; continue it with --resume, replace it with --overwrite, or choose another -o"
            )

    def _take_up(self) -> None:
        """Read the recordings of the finished and of the interrupted job; of the latter only, if it replaces the
        output.
        """
        rows = read_json_lines(self.lines)[0] if self.lines.is_file() else []  # without a last line that is torn
        self.replaces = bool(rows) and rows[0].get("replaces", False)
        if self.out.exists() and not self.replaces:
            advice = "replace the output with --overwrite"
            if not self.companion.is_file():
                raise DataError(f"{self.out} has no {self.companion.name}, so it cannot be continued; {advice}")
            stored = read_json(self.companion, DataError, advice)
            if differing_files(self.out.parent, stored[FILES]):
                raise DataError(f"{self.out} differs from its checksum: it is edited or damaged; {advice}")
            self._compare(stored["identity"])
            self._keep(stored[RECORDINGS])
        if rows:
            self._compare(rows[0]["identity"])
        self._keep(rows[1:])

    def _keep(self, rows: list[dict[str, Any]]) -> None:
        for row in rows:
            if not row["error"]:
                self.earlier[absolute(row["path"])] = recording_of(row)

    def _compare(self, stored: dict[str, Any]) -> None:
        if differing := differences(stored, self.identity):
            raise ConfigError(
                f"{self.out} was written with other settings ({differing}); repeat them, choose another -o, or replace"
                " it with --overwrite"
            )


def row_of(recording: Recording) -> dict[str, Any]:
    """Return a recording as plain values."""
    return asdict(recording)


def recording_of(row: Mapping[str, Any]) -> Recording:
    """Return the recording of the result of `row_of`."""
    spans = tuple(Span(**span) for span in row["spans"])
    return Recording(row["path"], row["seconds"], spans, row["error"])
