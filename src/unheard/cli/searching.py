"""``unheard search``."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from unheard.addresses import named
from unheard.cli.shell import ADDRESS, DONE, DeviceOption, Json, Overwrite, emit, log, verb
from unheard.cli.shell import table as aligned
from unheard.outputs import locked_file
from unheard.remote.outputs import local_output

COLUMNS = ("path", "start", "end", "score")


@verb("unheard search embeddings.parquet --like dog.wav@1.5-3.0 -k 20")
def search(
    table: Path,
    /,
    *,
    like: tuple[str, ...],
    unlike: tuple[str, ...] = (),
    k: Annotated[int, Parameter(name=["--count", "-k"])] = 20,
    out: Annotated[Path | None, Parameter(name=["--out", "-o"], help=f"CSV file to write. {ADDRESS}")] = None,
    overwrite: Overwrite = False,
    model: str | None = None,
    device: DeviceOption = "auto",
    json: Json = False,
) -> int:
    """Find the rows of a table of embeddings that are most similar to example sounds.

    Scores are cosine similarities to vectors centred by the mean of the table, from -1 to 1.

    Parameters
    ----------
    table
        A table that unheard embed wrote.
    like
        Example: FILE, or FILE@START-END in seconds. May be repeated.
    unlike
        Counter-example. May be repeated.
    k
        Number of rows to print.
    model
        The model that made the table, if it has moved.
    """
    from unheard.embedding.search import search as find
    from unheard.files import write_table

    with nullcontext() if out is None else local_output(out, kind="file", overwrite=overwrite, verb="search") as place:
        hits = find(table, like, k, unlike=unlike, model=model, device=device)
        if place is not None:
            rows = [{name: str(value) for name, value in asdict(hit).items()} for hit in hits]
            with locked_file(place):
                write_table(place, COLUMNS, rows)
    cells = ((f"{hit.score:.3f}", f"{hit.start:.2f}", f"{hit.end:.2f}", hit.path) for hit in hits)
    emit(aligned(("score", "start", "end", "path"), cells), {"hits": [asdict(hit) for hit in hits]}, json)
    if out is not None:
        log(f"{len(hits)} rows in {named(out)}")
    return DONE
