"""Probes on frozen embeddings of a labels CSV."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from unheard.api.embedding import loaded
from unheard.data.label_table import read_labels
from unheard.data.leakage import content_of
from unheard.embedding.embedder import Model, Options
from unheard.embedding.pooling import Pool
from unheard.errors import ConfigError, require
from unheard.evaluation.probe.cache import FOLDER, EmbeddingCache, vectors_fingerprint
from unheard.evaluation.probe.files import make_folder, map_rows, write
from unheard.evaluation.probe.probe import ProbeConfig, probe_embeddings
from unheard.evaluation.probe.projection import draw_map
from unheard.evaluation.probe.protocol import ProbeProtocol, one_thread
from unheard.evaluation.probe.report import ProbeReport
from unheard.evaluation.probe.vectors import LOG_MEL, baselines, check_clips, layer_vectors, scenes
from unheard.outputs import locked_folder, refuse_existing
from unheard.progress import Track, silent
from unheard.view.probe_figures import draw
from unheard.view.probe_page import write_probe_page


@dataclass(frozen=True)
class ProbeOptions:
    """Which vectors of a model are probed.

    Parameters
    ----------
    seeds : tuple of int
        One run, and one random encoder, each.
    pool : {"mean", "mean+std", "max"}
        How time steps become one vector.
    layer : int, optional
        Which block's output, 1 to depth; the last, normalised, when left out.
    layers : "all", optional
        Also score every layer, and a gate over them.
    """

    seeds: tuple[int, ...] = (0, 1, 2)
    pool: Pool = "mean"
    layer: int | None = None
    layers: Literal["all"] | None = None


def probe(
    model: Model | str | Path,
    labels: str | Path,
    out: str | Path,
    *,
    seeds: Sequence[int] = (0, 1, 2),
    pool: Pool = "mean",
    layer: int | None = None,
    layers: Literal["all"] | None = None,
    overwrite: bool = False,
    track: Track = silent,
) -> ProbeReport:
    """How much of the labels in a CSV can be read off frozen embeddings, beside a random encoder and log-mel
    statistics.

    Writes ``report.html``, ``probe.json``, tables and figures into ``out``; see `Embedded` for the parameters.

    Raises
    ------
    DataError, AudioError
        When the table, or a sound it names, cannot be used.
    ConfigError
        When ``out`` exists and ``overwrite`` is false.
    """
    refuse_existing(out, overwrite)
    if Path(out).is_file():
        raise ConfigError(f"{out} is a file; -o names the folder that the report goes to")
    which = ProbeOptions(tuple(seeds), pool, layer, layers)
    return probe_table(loaded(model), Path(labels), Path(out), which, track)


def probe_table(model: Model, table: Path, out: Path, options: ProbeOptions, track: Track = silent) -> ProbeReport:
    """Probe a model on a labels CSV and write everything into ``out``; what is wrong with the table is said before
    anything is embedded.

    Vectors are kept in ``out/vectors`` as they are made: the same model on the same sounds does not embed again.

    Raises
    ------
    DataError, AudioError
        When the table, or a sound it names, cannot be used.
    ConfigError
        When another process writes into ``out``.
    UnheardError
        When scikit-learn or matplotlib is not installed.
    """
    _refuse_missing()
    if options.pool == "none":
        raise ConfigError("a probe needs one vector a clip; choose pool mean, mean+std or max")
    labels, how = read_labels(table), ProbeConfig(seeds=options.seeds)
    ProbeProtocol.of(labels, how.seeds, how.n_resamples)
    notes = check_clips(labels, track)
    make_folder(out)
    with locked_folder(out):
        content, vector_options = (
            content_of(labels.paths),
            Options(layer=options.layer, pool=options.pool, frames=False),
        )
        keep = EmbeddingCache(out / FOLDER, vectors_fingerprint(model, labels, content, vector_options))
        layers = keep("layers", lambda: layer_vectors(model, labels, options.pool, track)) if options.layers else None
        if layers is not None and options.layer is None:
            own = layers[:, -1]
        else:
            own = keep("model", lambda: scenes(model, labels, vector_options, "embedding (model)", track))
        beside = baselines(model, labels, options.seeds, vector_options, track, keep)
        report = probe_embeddings(
            {"model": own, **beside}, labels, how, track, layers=layers, content=content, statistics=beside[LOG_MEL]
        )
        name = f"{model.config.name} ({model.provenance.source})" if model.provenance.source else model.config.name
        told = {"model": name, "table": table.name, "pooling": options.pool, "layer": str(options.layer or "last")}
        report = replace(report, warnings=[*report.warnings, *notes], about=told)
        with one_thread():
            place = draw_map(own, options.seeds[0])
        points = map_rows(report, labels, place)
        write(report, out, points)
        draw(report, place, [point["label"] for point in points], out)
        write_probe_page(out, track)
        return report


def _refuse_missing() -> None:
    require("sklearn", "eval", "scikit-learn")
    require("threadpoolctl", "eval")
    require("matplotlib", "view")
