"""Join the parts of a job to one table, in the order of the plan."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from unheard.embedding.table_files import clear_errors, read_blocks, read_columns, write_table
from unheard.embedding.table_jobs.work import part_file
from unheard.embedding.tables import absolute
from unheard.files import read_json, write_json
from unheard.jobs.plan import Outcome, Plan, Task

if TYPE_CHECKING:
    import pyarrow as pa

JOINING = "joining.json"
"""File with the state of the table before the parts were joined to it."""


def join(plan: Plan, outcomes: list[Outcome], out: Path, identity: dict[str, Any], earlier: bool) -> int:
    """Write the parts of a plan as one table, after the rows of an earlier table; delete the parts. Return the number
    of rows.

    Parameters
    ----------
    identity : dict
        That of the table, with ``size``.
    earlier : bool
        Keep the rows of the existing table, and write those of the parts after them.

    Raises
    ------
    DataError
        When a part is damaged, or the disk is full. The parts are kept.
    """
    tasks = [plan.task(outcome.number) for outcome in outcomes if outcome.rows]

    def blocks() -> Iterator[pa.Table]:
        if earlier:
            yield from read_blocks(out)
        for task in tasks:
            yield from _ordered(task)

    with clear_errors(out):
        write_json(plan.folder / JOINING, {"before": _state(out)})
        rows = write_table(out, blocks, identity)
    plan.discard()
    return rows


def joined(folder: Path, out: Path) -> bool:
    """Return whether the process died after it had joined the parts and before it deleted them."""
    file = folder / JOINING
    return file.is_file() and out.exists() and read_json(file)["before"] != _state(out)


def _state(out: Path) -> list[int] | None:
    """Return what changes when a table is replaced."""
    return [out.stat().st_ino, out.stat().st_size, out.stat().st_mtime_ns] if out.exists() else None


def _ordered(task: Task) -> Iterator[pa.Table]:
    """Yield the rows of a part in the order of its files: those on which a worker was lost were read first."""
    import pyarrow as pa

    part = part_file(task.part)
    if isinstance(task.items[0], str):
        order = {absolute(path): place for place, path in enumerate(task.items)}
        places = np.array([order[absolute(path)] for path in read_columns(part, ("path",))[0]])
        if (np.diff(places) < 0).any():
            yield pa.concat_tables(list(read_blocks(part))).take(pa.array(np.argsort(places, kind="stable")))
            return
    yield from read_blocks(part)
