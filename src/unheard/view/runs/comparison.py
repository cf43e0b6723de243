"""Page that compares two runs: settings that differ, loss curves, scores, and reconstructions of the same sounds."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from unheard.addresses import address_of, named
from unheard.audio.archives.members import ARCHIVES
from unheard.audio.folders import find_sounds
from unheard.audio.suffixes import AUDIO_SUFFIXES, AV_SUFFIXES
from unheard.data.tables import read_csv
from unheard.embedding.loading import load_own
from unheard.errors import ConfigError, UnheardError
from unheard.outputs import refuse_existing
from unheard.remote.reading import copied_folder
from unheard.training.journal import SCORES
from unheard.training.session import read_config
from unheard.view.axes import FONT, caption, colour_bar, new_figure, robust_limits, save, show
from unheard.view.page import write_page
from unheard.view.run import FEW_ROWS, read_metrics
from unheard.view.runs.listing import ListedRun, at_address, model_folders, read_run
from unheard.view.runs.paired import PairedScore, paired_scores, unpaired_scores
from unheard.view.window import reconstruct_window, take_window
from unheard.weights.built_in import is_needed

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from unheard.view.reconstruction import Reconstruction

SOUNDS = 3
"""Number of sounds of the corpus that are reconstructed if none are given (our choice)."""

NOT_SETTINGS = ("fingerprint", "teacher")
"""Fields of the configuration of a run that are hashes."""

COLOURS = ("tab:blue", "tab:orange")


@dataclass(frozen=True)
class Comparison:
    """Two runs.

    Parameters
    ----------
    runs : tuple of ListedRun
    settings : list of (str, str, str)
        Name of each setting that differs, and its value in each run; empty where a run does not have it.
    scores : list of PairedScore
        Scores that both runs have.
    notes : list of str
        What could not be compared, with the reason.
    """

    runs: tuple[ListedRun, ListedRun]
    settings: list[tuple[str, str, str]]
    scores: list[PairedScore]
    notes: list[str]


def compare_runs(
    first: str | Path,
    second: str | Path,
    out: Path,
    audio: Sequence[Path] = (),
    device: str = "auto",
    overwrite: bool = False,
) -> Comparison:
    """Compare two runs, and write the page ``out``.

    Parameters
    ----------
    first, second : path
        Run folders; of those at addresses, what is needed is copied first.
    audio : sequence of Path
        Sounds that both runs reconstruct. Default: some of the corpus of the first run.

    Raises
    ------
    CheckpointError
        When a folder is not a run.
    ConfigError
        When both are one run, the page exists, or its name does not end in ``.html``.
    """
    if out.suffix.lower() not in (".html", ".htm"):
        raise ConfigError(f"{out}: the name of the page must end in .html")
    refuse_existing(out, overwrite, kind="file")
    places = [address_of(run).rstrip("/") or str(Path(run).resolve()) for run in (first, second)]
    if places[0] == places[1]:
        raise ConfigError(f"{named(first)} and {named(second)} are one run; give two")
    names, notes = _names(first, second), list[str]()
    with (
        copied_folder(first, is_needed) as one,
        copied_folder(second, is_needed) as two,
        tempfile.TemporaryDirectory() as folder,
    ):
        configs = [read_config(run) for run in (one, two)]
        runs = (_listed(one, first, configs[0]), _listed(two, second, configs[1]))
        curves = _curves((one, two), names, Path(folder), _other_clips(configs), notes)
        pictures = list(_pictures(runs, names, audio, Path(folder), device, notes))
        notes += unpaired_scores(one, two)
        found = Comparison(runs, _settings(configs), list(paired_scores(one, two)), notes)
        out.parent.mkdir(parents=True, exist_ok=True)
        title = f"{names[0]} and {names[1]}"
        write_page(
            out,
            "compare.html",
            title=title,
            names=names,
            found=found,
            curves=curves,
            pictures=pictures,
            facts=_facts(runs),
        )
    return found


def _listed(folder: Path, path: str | Path, config: dict[str, Any]) -> ListedRun:
    run = read_run(folder, config)
    return at_address(run, Path(path)) if address_of(path) else replace(run, path=Path(path))


def _names(first: str | Path, second: str | Path) -> tuple[str, str]:
    """Return the names of the folders, or both paths where the names are the same."""
    one, two = (Path(address_of(run) or Path(run).resolve()).name for run in (first, second))
    return (one, two) if one != two else (named(first), named(second))


def _facts(runs: tuple[ListedRun, ListedRun]) -> list[tuple[str, str, str]]:
    def values(run: ListedRun) -> tuple[str, ...]:
        loss = "" if run.loss is None else f"{run.loss:.4f}"
        return run.recipe, run.data, f"{run.steps} of {run.total}", loss, run.changed, run.state

    names = ("recipe", "data", "steps", "last loss", "changed", "state")
    return list(zip(names, values(runs[0]), values(runs[1]), strict=True))


def _settings(configs: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, str]]:
    """Return the settings that differ."""
    flat = [dict(_flat({name: each[name] for name in each if name not in NOT_SETTINGS})) for each in configs]
    names = list(dict.fromkeys([*flat[0], *flat[1]]))
    return [
        (name, flat[0].get(name, ""), flat[1].get(name, "")) for name in names if flat[0].get(name) != flat[1].get(name)
    ]


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield the dotted name and the text of each setting."""
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value if isinstance(value, str) else json.dumps(value)


def _other_clips(configs: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Return the beginnings of the names of curves that are of other clips or labels in each run."""
    watched = [(each.get("watch") or {}).get("content") for each in configs]
    tables = [each["fingerprint"].rpartition("-")[2] for each in configs]
    return (*(SCORES if watched[0] != watched[1] else ()), *(("valid/",) if tables[0] != tables[1] else ()))


def _curves(
    runs: tuple[Path, Path], names: tuple[str, str], folder: Path, other: tuple[str, ...], notes: list[str]
) -> Path | None:
    """Plot the losses of both runs, and the scores on validation clips and watched tables that both have, without
    those whose names begin with one of ``other``.
    """
    rows = [read_metrics(model_folders(run)[0]) for run in runs]
    missing = [str(run) for run, each in zip(runs, rows, strict=True) if not each]
    if missing:
        notes.append(f"no curves: {' and '.join(missing)} have no metrics yet")
        return None
    keys = [
        key
        for key in dict.fromkeys(key for row in rows[0] for key in row)
        if (key == "loss" or key.startswith(("loss/", "valid/", *SCORES))) and any(key in row for row in rows[1])
    ]
    if left_out := [key for key in keys if key.startswith(other)]:
        notes.append(f"no curves of {', '.join(left_out)}: the clips or labels differ")
    keys = [key for key in keys if key not in left_out]
    keys = [key for key in keys if not key.startswith("loss/") or sum(each.startswith("loss/") for each in keys) > 1]
    figure, grid = new_figure(min(11.0, 3.2 * max(2, len(keys))), 2.8, 1, max(1, len(keys)))
    for axes, key in zip(grid[0], keys, strict=False):
        for each, name, colour in zip(rows, names, COLOURS, strict=True):
            points = [(row["step"], row[key]) for row in each if row.get(key) is not None]
            marker = "o" if len(points) < FEW_ROWS else None
            axes.plot(*zip(*points, strict=True), color=colour, label=name, linewidth=1.2, marker=marker, markersize=3)
        caption(axes, key)
        axes.set_xlabel("step")
        axes.spines[["top", "right"]].set_visible(False)
    grid[0][0].legend(fontsize=FONT, frameon=False)
    save(figure, folder / "curves.png")
    return folder / "curves.png"


def _pictures(
    runs: tuple[ListedRun, ListedRun],
    names: tuple[str, str],
    audio: Sequence[Path],
    folder: Path,
    device: str,
    notes: list[str],
) -> Iterator[tuple[str, Path]]:
    """Yield the reconstructions of each sound by both runs."""
    if any(run.kind == "finetune" for run in runs):
        if audio:
            notes.append("no reconstructions: a fine-tuned run has no decoder")
        return
    try:
        sounds = list(audio) or _sounds(Path(runs[0].data))
        if not sounds:
            notes.append(f"no reconstructions: {runs[0].data} has no sounds; give some with --audio")
            return
        models = [load_own(named(run.path), device) for run in runs]
        for number, sound in enumerate(sounds):
            shown = [reconstruct_window(model, take_window(model, sound)) for model in models]
            save(_side_by_side(shown, names), folder / f"{number}.png")
            yield sound.name, folder / f"{number}.png"
    except UnheardError as error:
        notes.append(f"no reconstructions: {error}")


def _sounds(corpus: Path) -> list[Path]:
    """Return some sounds of a corpus, evenly chosen: of a folder, of the rows of a CSV, or the one file."""
    if corpus.is_dir() or corpus.suffix.lower() in AUDIO_SUFFIXES | AV_SUFFIXES | ARCHIVES:
        found = find_sounds(corpus)
    else:
        names = dict.fromkeys(row["path"] for row in read_csv(corpus, ("path",))) if corpus.is_file() else {}
        found = [corpus.parent / name for name in names]
    return [found[at] for at in np.unique(np.linspace(0, len(found) - 1, min(SOUNDS, len(found))).astype(int))]


def _side_by_side(shown: Sequence[Reconstruction], names: Sequence[str]) -> Figure:
    """Plot input and reconstruction of one sound, a column for each run."""
    figure, grid = new_figure(10.0, 4.2, 2, len(shown), sharex="col")
    for column, (each, name) in enumerate(zip(shown, names, strict=True)):
        limits = robust_limits(each.spec)
        show(grid[0, column], each.spec, each.scale, limits)
        image = show(grid[1, column], each.drawn, each.scale, limits)
        best, value = each.error.best
        caption(grid[0, column], f"{name}: input")
        caption(grid[1, column], f"{each.hidden.mean():.0%} masked, error {each.error.model:.3f} ({best} {value:.3f})")
        grid[1, column].set_xlabel("time (s)")
        colour_bar(figure, image, list(grid[:, column]), "log-mel (nat)")
    return figure
