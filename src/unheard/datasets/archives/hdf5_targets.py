"""Labels of the sounds in HDF5 files: the rows of a dataset, ``target`` unless another one is named.

A row has 0 or 1 for each class, as PANNs stores AudioSet; or these values as bits, eight classes a byte, the first
class in the highest bit (`numpy.packbits`), as PaSST and MaskSpec do. Files have no names of classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Shaped

from unheard.audio.archives.hdf5 import open_hdf5
from unheard.datasets.archives.cells import Names
from unheard.errors import DataError, shown

if TYPE_CHECKING:
    import h5py

TARGET = "target"

BATCH = 4096
"""Rows that are read at once (our choice)."""


def read_targets(
    path: Path, field: str, count: int, classes: Sequence[str] | None
) -> tuple[Names, Iterator[dict[str, Any] | DataError]]:
    """Return the names of classes, and the numbers of the classes of each row.

    An error is yielded instead for a row with other values than 0 and 1.

    Parameters
    ----------
    path : Path
    field : str
        Name of the dataset.
    count : int
        Sounds in the file, which are its rows.
    classes : sequence of str, optional
        Names of the classes, in their order. Default: numbers, such as ``class-007``; rows of bytes above 1 are then
        bits.

    Raises
    ------
    DataError
        When there is no such dataset, its rows are not those of the sounds, or their length is not that of the classes.
    """
    with _reading(path) as file:
        width = _width(path, file, field, count)
        packed = _is_packed(path, file[field], classes)
    names = classes or [f"class-{number:03d}" for number in range(8 * width if packed else width)]

    def rows() -> Iterator[dict[str, Any] | DataError]:
        with _reading(path) as file:
            for values in _batches(file[field]):
                for row in np.unpackbits(values, axis=1) if packed else values:
                    yield _record(field, row)

    return {field: names}, rows()


def _record(field: str, row: Shaped[np.ndarray, " C"]) -> dict[str, Any] | DataError:
    """Return the numbers of the classes of a row."""
    other = row[(row != 0) & (row != 1)]
    if len(other):
        return DataError(f"{field} holds {other[0]:g}; give rows of 0 and 1 for each class, or of these as bits")
    return {field: np.flatnonzero(row).tolist()}


@contextmanager
def _reading(path: Path) -> Iterator[h5py.File]:
    """Open a file; what cannot be read is an error of one line."""
    try:
        with open_hdf5(path) as file:
            yield file
    except (OSError, RuntimeError, ValueError) as error:
        raise DataError(f"{shown(path)}: cannot be read ({' '.join(str(error).split())})") from error


def _width(path: Path, file: h5py.File, field: str, count: int) -> int:
    """Return the length of the rows of a dataset with targets."""
    item = file.get(field)
    shape = getattr(item, "shape", None)
    if shape is None:
        raise DataError(
            f"{shown(path)}: has no dataset {shown(field)}, it has {', '.join(map(shown, file))}; select the targets"
            " with --label-column"
        )
    if len(shape) != 2 or shape[0] != count or item.dtype.kind not in "biuf":
        raise DataError(
            f"{shown(path)}: its dataset {shown(field)} has the shape {shape} of {item.dtype}; it needs a row of 0 and"
            f" 1 for each of the {count} sounds"
        )
    return int(shape[1])


def _is_packed(path: Path, item: h5py.Dataset, classes: Sequence[str] | None) -> bool:
    """Return whether rows hold bits."""
    width, byte = item.shape[1], item.dtype == "uint8"
    if classes is None:
        return byte and any((values > 1).any() for values in _batches(item))
    if width == len(classes):
        return False
    if byte and width == -(-len(classes) // 8):
        return True
    bits = f", or of {8 * width - 7} to {8 * width} as bits" if byte else ""
    raise DataError(
        f"{shown(path)}: rows of {shown(item.name.strip('/'))} are of {width} classes{bits}; {len(classes)} names are"
        " given; give the list of classes of the file"
    )


def _batches(item: h5py.Dataset) -> Iterator[Any]:
    """Yield the values of some rows at a time."""
    for first in range(0, item.shape[0], BATCH):
        yield item[first : first + BATCH]
