"""``unheard probe``."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from unheard.cli.shell import DONE, Json, Out, Overwrite, note, tell, verb
from unheard.errors import ConfigError
from unheard.progress import bar


@verb("unheard probe runs/first sounds/labels.csv -o probes/first")
def probe(
    model: str,
    labels: Path,
    /,
    *,
    out: Out,
    seeds: int = 3,
    pool: Literal["mean", "mean+std", "max"] = "mean",
    layer: int | None = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> int:
    """How much of some labels can be read off frozen embeddings, beside a random encoder and plain log-mel.

    Parameters
    ----------
    model
        A run, a model folder, or a built-in name such as random-tiny.
    labels
        A CSV with the columns path and label, and perhaps split, fold, group, start, end.
    seeds
        How many random encoders, and how many ways to deal out folds.
    pool
        How time steps become one vector.
    layer
        Which block's output, 1 to depth; default the last, normalised.
    """
    if seeds < 1:
        raise ConfigError(f"--seeds must be at least 1; got {seeds}")
    from unheard import api

    report = api.probe(model, labels, out, seeds=range(seeds), pool=pool, layer=layer, overwrite=overwrite, track=bar)
    tell([report.table()], report.to_json(), json)
    note(f"report and figure in {out}")
    return DONE
