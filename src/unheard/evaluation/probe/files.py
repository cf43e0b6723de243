"""Files of a probe report: probe.json, probe.md and CSV tables."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unheard.data.label_table import Labels
from unheard.errors import DataError
from unheard.evaluation.probe.projection import Projection2D
from unheard.evaluation.probe.report import (
    ClassScore,
    CurvePoint,
    FewShotScore,
    LayerScore,
    Prediction,
    ProbeReport,
    Score,
)
from unheard.files import FILES, file_checksums, read_json, write_confusion, write_json, write_table, write_text
from unheard.outputs import locked_folder

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

TABLES = (
    "scores.csv",
    "classes.csv",
    "predictions.csv",
    "curve.csv",
    "layers.csv",
    "few_shot.csv",
    "confusion.csv",
    "map.csv",
    "probe.md",
)
"""Files of a report whose checksums are in ``probe.json``."""
MAP_COLUMNS = ("clip", "path", "start", "end", "label", "predicted", "right", "pca_x", "pca_y", "tsne_x", "tsne_y")


@contextmanager
def report_folder(out: Path) -> Iterator[None]:
    """Create the folder of a report, check that it is writable, and hold its lock while the block runs.

    A folder that was created is deleted if it stays empty, such as by an error before anything is embedded.

    Raises
    ------
    DataError
        When the folder is not writable.
    InUseError
        When another process writes to it.
    """
    existed = out.is_dir()
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_text(out / ".trial", "").unlink()
    except OSError as error:
        raise DataError(f"cannot write the probe's report to {out}: {error}; choose another -o") from error
    try:
        with locked_folder(out):
            yield
    finally:
        if not existed:
            with suppress(OSError):  # it holds a report or vectors
                out.rmdir()


def write(report: ProbeReport, out_dir: Path | str, points: Sequence[Mapping[str, str]] = ()) -> Path:
    """Write a report into a folder atomically. Return the folder.

    ``scores.csv``, ``classes.csv``, ``confusion.csv``, ``predictions.csv``, ``curve.csv``, ``layers.csv`` and
    ``few_shot.csv`` hold the rows of ``probe.json``. ``map.csv`` holds ``points``, the rows of `map_rows`.

    Raises
    ------
    DataError
        When the folder cannot be written.
    """
    out = Path(out_dir)
    try:
        out.mkdir(parents=True, exist_ok=True)
        _rows(out / "scores.csv", Score, report.scores)
        _rows(out / "classes.csv", ClassScore, report.per_class)
        _rows(out / "predictions.csv", Prediction, report.answers)
        _rows(out / "curve.csv", CurvePoint, report.curve)
        _rows(out / "layers.csv", LayerScore, report.layers)
        _rows(out / "few_shot.csv", FewShotScore, report.few_shot)
        write_confusion(out, report.classes, report.confusion)
        if points:
            write_table(out / "map.csv", MAP_COLUMNS, points)
        write_text(out / "probe.md", report.table())
        tables = [name for name in TABLES if (out / name).is_file()]
        write_json(out / "probe.json", {**report.to_json(), FILES: file_checksums(out, tables)})
    except OSError as error:
        raise DataError(f"cannot write the probe's report to {out}: {error}") from error
    return out


def read_report(file: Path) -> dict[str, Any]:
    """Read the fields of ``probe.json``.

    Raises
    ------
    DataError
        When the file is damaged.
    """
    report = read_json(file, DataError, "run the probe again")
    report.pop(FILES, None)
    return report


def map_rows(report: ProbeReport, labels: Labels, projection: Projection2D) -> list[dict[str, str]]:
    """Return one row for each projected clip; the prediction is empty for clips that were not tested."""
    predicted = {answer.clip: answer.predicted for answer in report.answers}
    rows = []
    for clip, pca, tsne in zip(projection.clips.tolist(), projection.pca, projection.tsne, strict=True):
        label = labels.format_labels(labels.target[clip])
        right = int(predicted[clip] == label) if clip in predicted else ""
        values = (
            clip,
            os.fspath(labels.paths[clip].resolve()),
            labels.start[clip],
            labels.end[clip],
            label,
            predicted.get(clip, ""),
            right,
        )
        rows.append(dict(zip(MAP_COLUMNS, map(_cell, (*values, *pca.tolist(), *tsne.tolist())), strict=True)))
    return rows


def _rows(path: Path, kind: type[DataclassInstance], rows: Sequence[DataclassInstance]) -> None:
    """Write a table of dataclasses; if there are no rows, delete an existing one."""
    if not rows:
        path.unlink(missing_ok=True)
        return
    write_table(
        path,
        [field.name for field in fields(kind)],
        [{key: _cell(value) for key, value in asdict(row).items()} for row in rows],
    )


def _cell(value: Any) -> str:
    """Format a cell: numbers with six digits, lists separated by spaces, None as empty."""
    if isinstance(value, list):
        return " ".join(map(_cell, value))
    return "" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)
