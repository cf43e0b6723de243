"""Class names for a released fine-tuned file, which has none: read from a list and stored in the model folder."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from unheard.errors import ConfigError
from unheard.weights.checkpoint import SavedModel

NAMES = (
    "display_name",
    "name",
    "label",
    "class",
)  # columns with the names, in order of preference; AudioSet's list has the first


def read_class_names(file: str | Path) -> tuple[str, ...]:
    """Return the names in a list, in the order of a classifier's scores.

    Parameters
    ----------
    file : path
        A CSV with a header and one of the columns `NAMES`, such as AudioSet's ``class_labels_indices.csv``, in the
        order of the column ``index`` if it has one; or a text file with one name a line.

    Raises
    ------
    ConfigError
        When it cannot be read, is empty, or holds a name twice.
    """
    path = Path(file)
    try:
        with path.open(newline="", encoding="utf-8-sig") as lines:
            names = _of_csv(path, lines) if path.suffix.lower() == ".csv" else [line.strip() for line in lines]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(
            f"the class names of {path} cannot be read ({error}); give a CSV or a text file with one name a line"
        ) from error
    names = [name for name in names if name]
    if not names or len(set(names)) < len(names):
        twice = next((name for name in names if names.count(name) > 1), None)
        raise ConfigError(
            f"{path} {'has no names' if twice is None else f'has {twice!r} twice'}; give a different name for each"
            " class"
        )
    return tuple(names)


def with_class_names(saved: SavedModel, names: tuple[str, ...]) -> SavedModel:
    """Return the same model with names for its classes.

    Raises
    ------
    ConfigError
        When it has no classifier, or one with another number of classes.
    """
    if saved.classifier is None:
        raise ConfigError("the file has no classifier and so no classes; leave the names out")
    config = saved.classifier.config
    if len(config.labels) != len(names):
        raise ConfigError(
            f"the file has {len(config.labels)} classes and the list {len(names)} names; give the list it was trained"
            " with"
        )
    saved.classifier.config = replace(config, labels=names)
    return saved


def _of_csv(path: Path, lines: Iterable[str]) -> list[str]:
    rows = csv.DictReader(lines)
    columns = rows.fieldnames or ()
    column = next((name for name in NAMES if name in columns), None)
    if column is None:
        raise ConfigError(
            f"{path} has the columns {', '.join(columns)}; the names must be in one of {', '.join(NAMES)}"
        )
    found = list(rows)
    if "index" in columns:
        try:
            found.sort(key=lambda row: int(row["index"]))
        except (TypeError, ValueError) as error:
            raise ConfigError(
                f"{path} has an index that is not a number ({error}); it must count the classes from 0"
            ) from error
    return [(row[column] or "").strip() for row in found]
