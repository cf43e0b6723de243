"""``unheard data import``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, get_args

from unheard.cli.shell import Flat, Json, Out, Overwrite, Strict, data, emit, status
from unheard.errors import ConfigError
from unheard.outputs import locked_file, refuse_existing


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
        webdataset, hf-parquet: field or column with the label. Default: label and labels.
    """

    background: bool = False
    label_column: str | None = None


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
        files of Hugging Face datasets. Or a public data set: audioset, audioset-20k, esc50, us8k,
        speech-commands-v1, speech-commands-v2, fsd50k, dcase2019-task1a, openmic, nsynth, nsynth-pitch, gtzan or
        magnatagatune.
    folders
        Recordings with their tables next to them, one such table, or the folder of the unpacked data set. webdataset,
        hf-parquet: archives, or folders with some.
    """
    from unheard.data.selections.formats import Format
    from unheard.datasets.archives.table import SUFFIX, import_archives
    from unheard.datasets.layouts import import_labels
    from unheard.datasets.selections import import_selections

    if not folders or (len(folders) > 1 and layout not in SUFFIX):
        raise ConfigError(f"give one folder with the data after {layout}; got {len(folders)}")
    folder = folders[0]
    refuse_existing(out, overwrite)
    with locked_file(out):
        for archives in SUFFIX:
            if layout == archives:
                if options.background:
                    raise ConfigError("--background needs raven or audacity; leave it out")
                packed = import_archives(archives, folders, out, options.label_column)
                emit(packed.lines(), packed.to_json(), json)
                return status(len(packed.left_out), strict)
        for kind in get_args(Format):
            if layout == kind:
                annotated = import_selections(kind, folder, out, **vars(options))
                emit(annotated.lines(), annotated.to_json(), json)
                return status(0, strict)
        if options != SelectionOptions():
            raise ConfigError("--background and --label-column are not for public data sets; leave them out")
        report = import_labels(layout, folder, out)
    emit(report.lines(), report.to_json(), json)
    return status(len(report.missing), strict)
