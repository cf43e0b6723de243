"""``unheard data import``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

from unheard.cli.shell import Flat, Json, Out, Overwrite, Strict, data, emit, status
from unheard.errors import ConfigError
from unheard.outputs import locked_file
from unheard.remote.outputs import local_output
from unheard.remote.writing import relocated

if TYPE_CHECKING:
    from unheard.datasets.archives.table import ArchiveImport
    from unheard.datasets.layouts import ImportReport
    from unheard.datasets.selections import SelectionReport


@dataclass(frozen=True)
class SelectionOptions:
    """Options of an import of annotations.

    Parameters
    ----------
    background
        raven, audacity: also write parts between the annotations, as many as there are annotations. Their label is
        background. If a part has several labels, they have none.
    label_column
        raven: column with the label. Default: Annotation, Label, Species, Common Name or another usual name.
        webdataset, hf-parquet: field or column with the label. Default: label and labels. hdf5: dataset with the rows
        of 0 and 1. Default: target.
    classes
        hdf5: names of the classes, as class_labels_indices.csv of AudioSet, or as a text file with one name per line.
        Default: class-000, class-001 and so on.
    """

    background: bool = False
    label_column: str | None = None
    classes: Path | None = None


@data.command(
    name="import", help_epilogue="Example:\n  unheard data import raven recordings/ -o labels.csv --background"
)
def import_(
    layout: str,
    /,
    *folders: Path,
    out: Out,
    options: Annotated[SelectionOptions, Flat] = SelectionOptions(),
    overwrite: Overwrite = False,
    json: Json = False,
    strict: Strict = False,
) -> int:
    """Write the label table of annotated recordings, of archives or of a public data set, for unheard probe and
    finetune.

    Parameters
    ----------
    layout
        raven: selection tables. audacity: label files. webdataset: tar files with sounds and JSON. hf-parquet: parquet
        files of Hugging Face datasets. hdf5: HDF5 files of MaskSpec, PaSST and PANNs. Or a public data set: audioset,
        audioset-20k, esc50, us8k, speech-commands-v1, speech-commands-v2, fsd50k, dcase2019-task1a, openmic, nsynth,
        nsynth-pitch, gtzan or magnatagatune.
    folders
        Recordings with their tables next to them, one such table, or the folder of the unpacked data set. webdataset,
        hf-parquet, hdf5: archives, or folders with some. All of them may be at addresses.
    """
    from unheard.datasets.archives.table import SUFFIXES

    if not folders or (len(folders) > 1 and layout not in SUFFIXES):
        raise ConfigError(f"give one folder with the data after {layout}; got {len(folders)}")
    if options.classes is not None and layout != "hdf5":
        raise ConfigError("--classes needs hdf5; leave it out")
    with local_output(out, kind="file", overwrite=overwrite, verb="import") as place, locked_file(place):
        report, left_out = _imported(layout, folders, place, options)
    report = relocated(report, place, out)
    emit(report.lines(), report.to_json(), json)
    return status(left_out, strict)


def _imported(
    layout: str, folders: Sequence[Path], out: Path, options: SelectionOptions
) -> tuple[ArchiveImport | SelectionReport | ImportReport, int]:
    """Write the table. Return its report, and the number of sounds that were left out."""
    from unheard.data.selections.formats import Format
    from unheard.datasets.archives.table import SUFFIXES, import_archives
    from unheard.datasets.layouts import import_labels
    from unheard.datasets.selections import import_selections

    for archives in SUFFIXES:
        if layout == archives:
            if options.background:
                raise ConfigError("--background needs raven or audacity; leave it out")
            classes = None if options.classes is None else _names(options.classes)
            packed = import_archives(archives, folders, out, options.label_column, classes)
            return packed, len(packed.left_out)
    for kind in get_args(Format):
        if layout == kind:
            chosen: dict[str, Any] = {"background": options.background, "label_column": options.label_column}
            return import_selections(kind, folders[0], out, **chosen), 0
    if options != SelectionOptions():
        raise ConfigError("--background and --label-column are not for public data sets; leave them out")
    report = import_labels(layout, folders[0], out)
    return report, len(report.missing)


def _names(file: Path) -> tuple[str, ...]:
    """Return the names of classes in a list."""
    from unheard.weights.class_names import read_class_names

    return read_class_names(file)
