"""Probes on frozen embeddings of a labels CSV."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal

from unheard.api.options import ProbeOptions, documented
from unheard.api.options.evaluating import Head
from unheard.data.label_table import read_labels
from unheard.data.leakage import content_of
from unheard.embedding.embedder import Precision
from unheard.embedding.embedding_model import EmbeddingModel
from unheard.embedding.identity import precision_of
from unheard.embedding.job import Layer, Options, plain_layer
from unheard.embedding.loading import named
from unheard.errors import ConfigError, require
from unheard.evaluation.head_training import one_thread
from unheard.evaluation.probe.cache import FOLDER, EmbeddingCache, vectors_fingerprint
from unheard.evaluation.probe.few_shot import refuse_multilabel
from unheard.evaluation.probe.files import map_rows, report_folder, write
from unheard.evaluation.probe.layers import LAYER_MIX
from unheard.evaluation.probe.probe import HEADS, TOKEN_HEADS, InnerOutputs, ProbeConfig, chosen_heads, probe_embeddings
from unheard.evaluation.probe.projection import draw_map
from unheard.evaluation.probe.protocol import ProbeProtocol, clips_digest
from unheard.evaluation.probe.report import ProbeReport
from unheard.evaluation.probe.token_heads.fit import TokenSource
from unheard.evaluation.probe.token_heads.sources import TokenStore
from unheard.evaluation.probe.token_heads.tokens import refuse_without_tokens
from unheard.evaluation.probe.vectors import LOG_MEL, RANDOM, baselines, check_clips, layer_vectors, scenes
from unheard.outputs import refuse_existing
from unheard.progress import Track, silent
from unheard.remote.outputs import uploaded
from unheard.view.probe_figures import draw
from unheard.view.probe_page import write_probe_page

SEEDS = 3  # published scores are means over three or more; our choice
MODEL = "model"
"""Name of the first model in a report."""


@documented(ProbeOptions)
@uploaded("out")
def probe(
    models: EmbeddingModel | str | Path | Sequence[EmbeddingModel | str | Path],
    labels: str | Path,
    out: str | Path,
    *,
    head: Head | Sequence[Head] = (),
    prototypes: int | None = None,
    quick: bool = False,
    seeds: int | None = None,
    pool: Literal["mean", "mean+std", "max"] = "mean",
    layer: Layer = None,
    layers: Literal["all"] | None = None,
    shots: int | None = None,
    draws: int = 10,
    precision: Precision = "float32",
    overwrite: bool = False,
    track: Track = silent,
) -> ProbeReport:
    """Train probes on frozen embeddings and compare them with a random encoder and log-mel statistics.

    ``models`` is a model of any kind, or several. The first is compared with each of the others, by paired differences;
    the random encoder and log-mel are those of the first.
    Writes ``report.html``, ``probe.json``, tables and figures into ``out``, which may be at an address.

    Raises
    ------
    DataError, AudioError
        When the table, or one of its sounds, cannot be used.
    ConfigError
        When ``out`` exists and ``overwrite`` is false, two models have the same name, or bf16 is asked of an encoder of
        others or of a model loaded in float32.
    """
    refuse_existing(out, overwrite, kind="folder")
    several = [models] if isinstance(models, EmbeddingModel | str | Path) else list(models)
    heads = (head,) if isinstance(head, str) else tuple(head)
    plain = plain_layer(layer)
    chosen = (plain,) if isinstance(plain, int) else plain
    options = ProbeOptions(heads, prototypes, quick, seeds, pool, chosen, layers, shots, draws, precision)
    return probe_table(named(several, MODEL, precision), Path(labels), Path(out), options, track)


def probe_table(
    models: Mapping[str, EmbeddingModel], table: Path, out: Path, options: ProbeOptions, track: Track = silent
) -> ProbeReport:
    """Probe models on a labels CSV, compare the first with the others, and write the report into ``out``.

    The table is checked before anything is embedded. Vectors are cached in ``out/vectors``, and until the end the
    predictions of finished heads, so that an interrupted probe continues with ``--overwrite``.

    Raises
    ------
    DataError, AudioError
        When the table, or one of its sounds, cannot be used.
    ConfigError
        When another process writes to ``out``.
    UnheardError
        When scikit-learn or matplotlib is not installed.
    """
    _refuse_missing()
    _refuse_reserved(models)
    config = _checked(models, options)
    model, labels = next(iter(models.values())), read_labels(table)
    if options.shots:
        refuse_multilabel(labels)
    ProbeProtocol.of(labels, config.seeds, config.n_resamples)
    notes = check_clips(labels, track)
    with report_folder(out):
        content, vector_options = (
            content_of(labels.paths),
            Options(layer=options.layer, pool=options.pool, frames=False),
        )
        cache = EmbeddingCache(out / FOLDER, vectors_fingerprint(model, labels, content, vector_options))
        layers = cache("layers", lambda: layer_vectors(model, labels, options.pool, track)) if options.layers else None
        if layers is not None and options.layer is None:
            own = layers[:, -1]
        else:
            own = cache("model", lambda: scenes(model, labels, vector_options, "embedding (model)", track))
        compared = {}
        for index, (name, other) in enumerate(list(models.items())[1:], 1):
            stored = EmbeddingCache(out / FOLDER, vectors_fingerprint(other, labels, content, vector_options))
            get = partial(scenes, other, labels, vector_options, f"embedding ({name})", track)
            compared[name] = stored(f"compared-{index}", get)
        baseline_vectors = baselines(model, labels, config.seeds, vector_options, track, cache)
        sources: dict[str, TokenSource] = {}
        if set(config.heads) & set(TOKEN_HEADS):
            tokens = TokenStore(out / FOLDER, labels, content, track)
            sources = tokens.sources(models, config.seeds)
            notes += tokens.notes(models)
        report = probe_embeddings(
            {MODEL: own, **compared, **baseline_vectors},
            labels,
            replace(config, finished=out / FOLDER / "heads"),
            track,
            inner=InnerOutputs(layers, sources),
            content=content,
            statistics=baseline_vectors[LOG_MEL],
        )
        about = _about(models, table, options)
        settings = {"seeds": len(config.seeds), **{name: about.get(name) for name in ("pooling", "layer", "precision")}}
        report = replace(
            report,
            warnings=[*report.warnings, *notes],
            about=about,
            protocol={"clips": clips_digest(labels, content), **settings},
        )
        with one_thread():
            projection = draw_map(own, config.seeds[0])
        points = map_rows(report, labels, projection)
        write(report, out, points)
        draw(report, projection, [point["label"] for point in points], out)
        write_probe_page(out, track)
        return report


def _checked(models: Mapping[str, EmbeddingModel], options: ProbeOptions) -> ProbeConfig:
    """Check the options before anything is read; return those of fits and scores."""
    if options.pool not in ("mean", "mean+std", "max"):
        raise ConfigError(f"a probe needs one vector per clip: pool is mean, mean+std or max; got {options.pool}")
    if options.quick and options.seeds is not None:
        raise ConfigError("--quick uses one seed; leave out --seeds or --quick")
    number = options.seeds if options.seeds is not None else 1 if options.quick else SEEDS
    if number < 1:
        raise ConfigError(f"--seeds must be at least 1; got {number}")
    if options.draws < 1 or (options.shots is not None and options.shots < 1):
        raise ConfigError(f"--shots and --draws must be at least 1; got {options.shots} and {options.draws}")
    wanted = options.head or (("linear",) if options.quick else ())
    heads, prototypes = chosen_heads(wanted, options.prototypes)
    refuse_without_tokens(models, [head for head in heads if head in TOKEN_HEADS], HEADS)
    fit = ProbeConfig(tuple(range(number)), heads, curve=not options.quick)
    return replace(fit, shots=options.shots, draws=options.draws, prototypes=prototypes)


def _about(models: Mapping[str, EmbeddingModel], table: Path, options: ProbeOptions) -> dict[str, str]:
    """Return the source of the embeddings and labels."""
    model, *compared = models
    return {
        "model": models[model].description,
        **({"compared with": ", ".join(compared)} if compared else {}),
        "table": table.name,
        "pooling": options.pool,
        "layer": ", ".join(map(str, options.layer or ("last",))),
        **({"precision": precision} if (precision := precision_of(models[model])) else {}),
    }


def _refuse_reserved(models: Mapping[str, EmbeddingModel]) -> None:
    """Refuse a compared model with the name of a row of the report."""
    if taken := [name for name in list(models)[1:] if name in (MODEL, RANDOM, LOG_MEL, LAYER_MIX)]:
        raise ConfigError(f"the report has a row {taken[0]!r} of its own; rename the folder of that model")


def _refuse_missing() -> None:
    require("sklearn", "eval", "scikit-learn")
    require("threadpoolctl", "eval")
    require("matplotlib", "eval")
