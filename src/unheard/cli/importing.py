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
    """Options of an import of raven or audacity annotations.

    Parameters
    ----------
    background
        raven, audacity: also write parts between the annotations, as many as there are annotations. Their label is
        background. If a part has several labels, they have none.
    label_column
        raven: column with the label. Default: Annotation, Label, Species, Common Name or another usual name.
    """

    background: bool = False
    label_column: str | None = None


@data.command(
    name="import", help_epilogue="Example:\n  unheard data import raven recordings/ -o labels.csv --background"
)
def import_(
    layout: str,
    folder: Path,
    /,
    *,
    out: Out,
    options: Annotated[SelectionOptions, Flat] = SelectionOptions(),
    overwrite: Overwrite = False,
    json: Json = False,
    strict: Strict = False,
) -> int:
    """Write the label table of annotated recordings or of a public data set, for unheard probe and finetune.

    Parameters
    ----------
    layout
        raven: selection tables. audacity: label files. Or a public data set: audioset, audioset-20k, esc50, us8k,
        speech-commands-v1, speech-commands-v2, fsd50k, dcase2019-task1a, openmic, nsynth, nsynth-pitch, gtzan or
        magnatagatune.
    folder
        Recordings with their tables next to them, one such table, or the folder of the unpacked data set.
    """
    from unheard.data.selections.formats import Format
    from unheard.datasets.layouts import import_labels
    from unheard.datasets.selections import import_selections

    refuse_existing(out, overwrite)
    with locked_file(out):
        for kind in get_args(Format):
            if layout == kind:
                annotated = import_selections(kind, folder, out, **vars(options))
                emit(annotated.lines(), annotated.to_json(), json)
                return status(0, strict)
        if options != SelectionOptions():
            raise ConfigError("--background and --label-column need raven or audacity; leave them out")
        report = import_labels(layout, folder, out)
    emit(report.lines(), report.to_json(), json)
    return status(len(report.missing), strict)
