"""``unheard data``: look at, generate, fetch, label and pack corpora."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from cyclopts import Parameter

from unheard.cli.shell import DONE, USER_ERROR, Json, Out, Overwrite, Strict, allow_code, data, status, tell, verb
from unheard.errors import ConfigError, DataError
from unheard.progress import bar


@verb("unheard data check my_audio/", data)
def check(place: Path, /, *, json: Json = False, strict: Strict = False) -> int:
    """List unreadable, cut, empty, silent, clipped, duplicate and odd sound files of a folder, or look at one file.

    Parameters
    ----------
    place
        A sound file, or a folder that is searched with everything below it; other files are ignored.
    """
    from unheard.data.check import check as look

    report = look(place, bar)
    if not report.files:
        raise DataError(
            f"{place}: holds no sound files that can be read here; expected wav, flac, ogg, opus, mp3 or aiff files in it or below it"
        )
    tell(report.lines(), report.to_json(), json)
    return status(not report.clean, strict)


@verb("unheard data sounds -o sounds/ --clips 60", data)
def sounds(*, out: Out, clips: int = 300, seed: int = 0, overwrite: Overwrite = False, json: Json = False) -> int:
    """Generate a labelled set of sounds: strings, bars, drums, chirps, voices, noises.

    Parameters
    ----------
    clips
        How many; 12 is the smallest number with every family in train and in test.
    seed
        Same seed, same bytes.
    """
    from unheard.data.sounds import make_sounds

    if out.exists() and not overwrite:
        raise ConfigError(f"{out} exists; choose another -o, or write into it with --overwrite")
    labels = make_sounds(out, clips, seed, track=bar)
    tell([f"{clips} sounds and their labels: {labels}"], {"labels": str(labels), "clips": clips, "seed": seed}, json)
    return DONE


@verb("unheard data fetch S -o corpora/S", data)
def fetch(name: str, /, *, out: Out, json: Json = False, strict: Strict = False) -> int:
    """Get a named real corpus from the system's package manager.

    Parameters
    ----------
    name
        S, M or L (hours to tens of hours), soundfonts, or one package that holds sounds.
    """
    from unheard.data.sources import fetch as get

    report = get(name, out, bar)
    tell(report.lines(), report.to_json(), json)
    return status(len(report.skipped), strict)


@verb("unheard data labels drum-hit corpora/M -o drum-hit.csv", data)
def labels(name: str, corpus: Path, /, *, out: Out, json: Json = False) -> int:
    """Write the label table of a task on fetched sounds, for unheard probe.

    Parameters
    ----------
    name
        Such as drum-hit, unit-action or gm-family.
    corpus
        Folder that unheard data fetch wrote.
    """
    from unheard.data.labels import write_labels

    written = write_labels(name, corpus, out, bar)
    tell([f"labels: {written}"], {"labels": str(written)}, json)
    return DONE


@verb("unheard data tasks drum-hit unit-action -o tasks/", data)
def tasks(
    *names: str,
    out: Out,
    corpus: Path | None = None,
    sample_rate: tuple[int, ...] = (16000,),
    seconds: float | None = None,
    mode: Literal["auto", "folds", "split"] = "auto",
    seed: int = 0,
    overwrite: Overwrite = False,
    json: Json = False,
) -> int:
    """Build tasks on real sounds as HEAR folders, for unheard evaluate.

    Parameters
    ----------
    names
        Such as drum-hit, unit-action or drum-events; "all" builds every one.
    corpus
        Folder that unheard data fetch wrote; without it the packages are fetched into -o.
    sample_rate
        Hz; give it twice for two rates.
    seconds
        Length of every clip; default the task's own.
    mode
        Folds test every clip once; split keeps the table's train and test sides; auto takes folds where a task has them.
    seed
        Of generated tasks.
    """
    from unheard.data.tasks import MAKING, TaskOptions, build_task

    if not names:
        raise ConfigError(f"name the tasks to build: all, or some of {', '.join(MAKING)}")
    options = TaskOptions(tuple(dict.fromkeys(sample_rate)), seconds, mode, seed)
    chosen = tuple(MAKING) if names == ("all",) else names
    if unknown := [name for name in chosen if name not in MAKING]:
        raise ConfigError(f"no task is called {unknown[0]!r}; choose all, or some of {', '.join(MAKING)}")
    built = [build_task(name, out, corpus, options, overwrite=overwrite, track=bar) for name in chosen]
    tell([line for report in built for line in report.lines()], [report.to_json() for report in built], json)
    return DONE


@data.command(name="import", help_epilogue="Example:\n  unheard data import esc50 ESC-50-master/ -o esc50.csv")
def import_(layout: str, folder: Path, /, *, out: Out, overwrite: Overwrite = False, json: Json = False, strict: Strict = False) -> int:
    """Write the labels CSV of a public data set with its official splits, for unheard probe and finetune.

    Parameters
    ----------
    layout
        audioset, audioset-20k, esc50, us8k, speech-commands-v1, speech-commands-v2, fsd50k, dcase2019-task1a, openmic, nsynth,
        nsynth-pitch, gtzan or magnatagatune.
    folder
        Where the data set was unpacked.
    """
    from unheard.data.layouts import import_labels

    if out.exists() and not overwrite:
        raise ConfigError(f"{out} exists; choose another -o, or replace it with --overwrite")
    report = import_labels(layout, folder, out)
    tell(report.lines(), report.to_json(), json)
    return status(len(report.missing), strict)


@verb("unheard data captions corpora/M -o captions/M.csv", data)
def captions(corpus: Path, /, *, out: Out, notes: bool = True, json: Json = False) -> int:
    """Write captions of fetched sounds, from their names and folders, for unheard pretrain --recipe clap-mini.

    Parameters
    ----------
    corpus
        Folder that unheard data fetch wrote.
    notes
        Also render notes of the General MIDI soundfont, when the corpus holds it, beside the table.
    """
    from unheard.data.captions import write_captions

    written = write_captions(corpus, out, notes, bar)
    tell([f"captions: {written}"], {"captions": str(written)}, json)
    return DONE


@Parameter(name="*")
@dataclass(frozen=True)
class FrontEnd:
    """The recipe whose front end transforms the sounds.

    Parameters
    ----------
    recipe
        Whose front end: a name of unheard recipes, or a .py file with a recipe() function, which is run.
    no_code
        Refuse a recipe that is a .py file.
    """

    recipe: str = "msm-mae"
    no_code: bool = False


@verb("unheard data pack my_audio/ -o corpora/mine", data)
def pack(
    source: Path,
    /,
    *,
    out: Out,
    front_end: FrontEnd = FrontEnd(),
    store: Literal["spec", "wav"] | None = None,
    dtype: Literal["float16", "uint8"] = "float16",
    rate: int | None = None,
    workers: int | None = None,
    json: Json = False,
    strict: Strict = False,
) -> int:
    """Decode a corpus once, for training, to spectrograms or waves; a folder that was partly packed is completed.

    Parameters
    ----------
    source
        A folder of audio, a CSV with a column path, or a fetched corpus.
    store
        Spectrograms, or 16-bit waves that are transformed in training; default what the recipe needs.
    dtype
        How spectrograms are stored; uint8 takes half the space.
    rate
        Samples a second of stored waves; default the front end's.
    workers
        Threads; default one a core.
    """
    allow_code(front_end.recipe, front_end.no_code)
    from unheard.data.corpus import open_corpus
    from unheard.data.pack import pack as transform
    from unheard.data.packing import Packing
    from unheard.recipes import find_recipe

    chosen = find_recipe(front_end.recipe)
    waves = (store or chosen.data.store) == "wav"
    if rate is not None and not (waves and rate > 0):
        raise ConfigError(f"--rate is the samples a second of stored waves, such as 48000, and goes with --store wav; got {rate}")
    packing = Packing(chosen.frontend, "int16" if waves else dtype, rate)
    packed = transform(open_corpus(source, bar), packing, out, workers, bar)
    mean, std = packed.statistics.mean[0], packed.statistics.std[0]
    lines = [
        *(f"skipped {skipped.path}: {skipped.reason}" for skipped in packed.skipped),
        f"{len(packed)} clips, {packed.seconds_total / 3600:.2f} hours, {len(packed.skipped)} skipped; "
        f"{f'waves at {packing.rate} Hz, ' if waves else ''}spectrogram mean {mean:.4f}, deviation {std:.4f}; packed in {out}",
    ]
    if packed.header.clipped:
        lines.append(f"{packed.header.clipped} values were outside the range of {packing.dtype} and were clipped")
    values = {
        "out": str(out),
        "clips": len(packed),
        "hours": packed.seconds_total / 3600,
        "store": packed.header.stores,
        "clipped": packed.header.clipped,
        "statistics": {"mean": mean, "std": std},
        "skipped": [asdict(skipped) for skipped in packed.skipped],
    }
    tell(lines, values, json)
    return status(len(packed.skipped), strict)


@verb("unheard data verify corpora/mine runs/first emb.parquet", data)
def verify(*paths: Path, json: Json = False) -> int:
    """Compare packed corpora, models, runs and tables with the checksums they were written with. Exit with 2 when something differs.

    Parameters
    ----------
    paths
        Folders, with everything below them, and tables of embeddings.
    """
    from unheard.verify import verify as compare

    if not paths:
        raise ConfigError("name what to compare: a packed corpus, a model, a run, or a table of embeddings")
    found = compare(paths, bar)
    tell([*found, f"{len(found)} files are damaged or missing"], {"damaged": found}, json)
    return USER_ERROR if found else DONE
