"""``unheard runs`` and ``unheard compare``: several runs."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from unheard.addresses import named
from unheard.cli.shell import DeviceOption, Json, Out, Overwrite, Strict, emit, log, status, table, verb

if TYPE_CHECKING:
    from unheard.view.runs.listing import ListedRun


@verb("unheard runs runs/")
def runs(root: Path = Path(), /, *, strict: Strict = False, json: Json = False) -> int:
    """List the runs below a folder: recipe, data, steps, loss, score, time and state.

    The score is that of the test clips of a fine-tuned run, or of the best probe in the run folder, with its linear
    head. The best probe is the best score of pretrain --watch. A run is finished, stopped or running. A stopped one
    continues with --resume. The state of an unfinished run at an address is
    unknown.

    Parameters
    ----------
    root
        Folder that is searched, also at an address. Default: the current one.
    """
    from unheard import api

    found, unreadable = api.runs(root)
    lines = table(
        ("run", "recipe", "data", "steps", "loss", "score", "best probe", "changed", "state"),
        [_row(run, root) for run in found],
    )
    lines = lines if found else [f"no runs below {named(root)}"]
    values = {
        "runs": [{**asdict(run), "path": named(run.path)} for run in found],
        "unreadable": unreadable,
    }
    emit([*lines, *(f"unreadable {reason}" for reason in unreadable)], values, json)
    return status(len(unreadable), strict)


def _row(run: ListedRun, root: Path) -> tuple[str, ...]:
    score = "" if run.score is None else f"{run.score.metric.replace('_', ' ')} {run.score.value:.3f}"
    where = f" ({run.score.source})" if run.score is not None else ""
    best = "" if run.watched is None else f"{run.watched.metric.replace('_', ' ')} {run.watched.value:.3f}"
    best += f" ({run.watched.source})" if run.watched is not None else ""
    path = run.path if run.path == root else run.path.relative_to(root)
    loss = "" if run.loss is None else f"{run.loss:.4f}"
    return (
        str(path),
        run.recipe,
        Path(run.data).name,
        f"{run.steps}/{run.total}",
        loss,
        score + where,
        best,
        run.changed,
        (run.state),
    )


@verb("unheard compare runs/first runs/second -o compare.html")
def compare(
    run: Path,
    other: Path,
    /,
    *,
    out: Out,
    audio: Annotated[tuple[Path, ...], Parameter(help="Sound whose reconstructions are shown; may be repeated.")] = (),
    device: DeviceOption = "auto",
    overwrite: Overwrite = False,
    json: Json = False,
) -> int:
    """Write a page that compares two runs: settings that differ, loss curves, scores and reconstructions.

    Scores come from probes and evaluations with the same folder name in both runs, and from the test clips of
    fine-tuned runs.
    Differences on the same clips have paired bootstrap intervals.

    Parameters
    ----------
    run, other
        Run folders.
    """
    from unheard import api

    found = api.compare(run, other, out, audio=audio, device=device, overwrite=overwrite)
    for note in found.notes:
        log(f"note: {note}")
    lines = [f"{len(found.settings)} settings differ", *(row.line() for row in found.scores), f"page: {named(out)}"]
    values = {"out": named(out), **asdict(found)}
    emit(lines, values, json)
    return 0
