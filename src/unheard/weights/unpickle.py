"""A reader of torch checkpoints that builds only tensors and plain values, in memory bounded by the size of the file.

A pickle is a program of simple instructions. Python's own reader imports and calls any name of the program. torch's
``weights_only`` reader trusts a list of names, some of which allocate any requested size or never end. This reader
executes the instructions with these limits:

- A name stands for one of the functions in `NAMES`, or for an `InertConfig` if the caller allows it. It is never
imported.
- Only those functions are called, and only `InertConfig` and ordered dictionaries take a state.
- Keys of dictionaries are text, numbers, or None. The pickle has at most `MAX_PICKLE` bytes.
- A tensor has no more elements than its storage, and a storage is part of the file, uncompressed.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.serialization import MAGIC_NUMBER

from unheard.weights.pickle_values import NAMES, STORAGES, InertConfig, RefusedError

MAX_PICKLE = 8 * 2**20
"""Largest accepted pickle in bytes; those of published checkpoints have less than one million (our choice)."""

OLD_MAGIC = pickle.dumps(MAGIC_NUMBER, protocol=2)
"""First bytes of a file of torch.save before torch 1.6."""

_PythonUnpickler: Any = pickle._Unpickler  # the one in C cannot be restricted

REFUSED = (
    *(
        "INST",
        "OBJ",
        "EXT1",
        "EXT2",
        "EXT4",
        "NEWOBJ_EX",
        "PERSID",
        "BYTEARRAY8",
        "NEXT_BUFFER",
        "READONLY_BUFFER",
        "FROZENSET",
    ),
    *("ADDITEMS", "EMPTY_SET"),
)
"""Instructions that no checkpoint needs."""


def read_checkpoint(path: Path, is_inert: Callable[[str], bool]) -> Any:
    """Read a file of ``torch.save``, in the format since torch 1.6 or the older one.

    Parameters
    ----------
    is_inert : callable
        Whether a name is that of a configuration object, which becomes an `InertConfig`.

    Raises
    ------
    RefusedError
        When the file requires something that is not allowed, or is larger after decompression.
    Exception
        Of other kinds, when the file is damaged.
    """
    with path.open("rb") as file:
        begin = file.read(len(OLD_MAGIC))
        file.seek(0)
        if begin == OLD_MAGIC:
            return _read_old(file, path.stat().st_size, is_inert)
    with zipfile.ZipFile(path) as archive:
        return _read_zip(archive, is_inert)


class _Unpickler(_PythonUnpickler):  # type: ignore[misc]
    """Interpreter of a checkpoint's pickle; ``storage`` returns the storage of a persistent id."""

    dispatch: ClassVar[dict[int, Callable[..., None]]] = dict(_PythonUnpickler.dispatch)

    def __init__(self, file: Any, is_inert: Callable[[str], bool], storage: Callable[[Any], Any]) -> None:
        super().__init__(file, encoding="utf-8", errors="surrogateescape")
        self.is_inert, self.persistent_load = is_inert, storage

    def find_class(self, module: str, name: str) -> Any:
        full = f"{module}.{name}"
        if full in NAMES:
            return NAMES[full]
        if full.removeprefix("torch.") in STORAGES:
            return STORAGES[full.removeprefix("torch.")]
        if module == "torch" and isinstance(getattr(torch, name, None), torch.dtype):
            return getattr(torch, name)
        if self.is_inert(full):
            return InertConfig
        raise RefusedError(f"asks for {full}", full)

    def load_reduce(self) -> None:
        arguments, function = self.stack.pop(), self.stack[-1]
        if not (function is InertConfig or any(function is known for known in NAMES.values())):
            raise RefusedError(f"calls a {type(function).__name__}")
        self.stack[-1] = function(*arguments)

    dispatch[pickle.REDUCE[0]] = load_reduce

    def load_newobj(self) -> None:
        arguments, kind = self.stack.pop(), self.stack.pop()
        if kind is InertConfig:
            self.append(InertConfig.__new__(InertConfig))
        elif any(kind is known for known in NAMES.values()):
            self.append(kind(*arguments))
        else:
            raise RefusedError(f"makes a {type(kind).__name__}")

    dispatch[pickle.NEWOBJ[0]] = load_newobj

    def load_build(self) -> None:
        state, value = self.stack.pop(), self.stack[-1]
        if isinstance(value, InertConfig):
            value.update(
                {name: each for name, each in state.items() if isinstance(name, str)}
                if isinstance(state, dict)
                else {"state": state}
            )
        elif isinstance(value, np.dtype) and isinstance(state, tuple) and ">" in state:
            raise RefusedError("has big-endian NumPy values")
        elif not isinstance(value, OrderedDict | np.dtype | Tensor):
            raise RefusedError(f"sets the state of a {type(value).__name__}")

    dispatch[pickle.BUILD[0]] = load_build

    def load_setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._set([key, value])

    dispatch[pickle.SETITEM[0]] = load_setitem

    def load_setitems(self) -> None:
        self._set(self.pop_mark())

    dispatch[pickle.SETITEMS[0]] = load_setitems

    def load_dict(self) -> None:
        items = self.pop_mark()
        self.append({})
        self._set(items)

    dispatch[pickle.DICT[0]] = load_dict

    def load_append(self) -> None:
        value = self.stack.pop()
        self._list().append(value)

    dispatch[pickle.APPEND[0]] = load_append

    def load_appends(self) -> None:
        values = self.pop_mark()
        self._list().extend(values)

    dispatch[pickle.APPENDS[0]] = load_appends

    def refuse(self) -> None:
        raise RefusedError("holds instructions that no checkpoint needs")

    for _name in REFUSED:
        dispatch[getattr(pickle, _name)[0]] = refuse

    def _set(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, dict) or len(items) % 2:
            raise RefusedError(f"sets items of a {type(target).__name__}")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not isinstance(key, str | int | float | bytes | None):
                raise RefusedError(f"has a {type(key).__name__} as a key")
            target[key] = value

    def _list(self) -> list[Any]:
        target = self.stack[-1]
        if type(target) is not list:
            raise RefusedError(f"appends to a {type(target).__name__}")
        return target


def _read_zip(archive: zipfile.ZipFile, is_inert: Callable[[str], bool]) -> Any:
    records = {entry.filename: entry for entry in archive.infolist()}
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in records.values()):
        raise RefusedError("is compressed, which torch.save does not do")
    if any(name.endswith("constants.pkl") for name in records):
        raise RefusedError("is a torchscript program")
    found = [name for name in records if name.endswith("/data.pkl")]
    if len(found) != 1:
        raise ValueError("it holds no data.pkl")
    root, held = found[0].removesuffix("data.pkl"), {}
    if archive.read(f"{root}byteorder") == b"big" if f"{root}byteorder" in records else False:
        raise RefusedError("was written on a big-endian machine")

    def storage(persistent_id: Any) -> Tensor:
        dtype, key = _storage_of(persistent_id)
        if key not in held:
            held[key] = torch.frombuffer(
                bytearray(archive.read(f"{root}data/{key}")) or bytearray(8), dtype=torch.uint8
            )
        return _typed(held[key], dtype, records[f"{root}data/{key}"].file_size)

    if records[found[0]].file_size > MAX_PICKLE:
        raise RefusedError(f"has a pickle of more than {MAX_PICKLE} bytes")
    return _Unpickler(io.BytesIO(archive.read(found[0])), is_inert, storage).load()


def _read_old(file: BinaryIO, size: int, is_inert: Callable[[str], bool]) -> Any:
    """Read the format before torch 1.6: magic number, version, system, content, names and bytes of the storages.

    The bytes come after the tensors that use them. Tensors are therefore built on empty storages of the right size,
    which are filled afterwards.
    """
    held: dict[str, Tensor] = {}
    dtypes: dict[str, torch.dtype] = {}

    def storage(persistent_id: Any) -> Tensor:
        dtype, key = _storage_of(persistent_id)
        count = persistent_id[4]
        if not isinstance(count, int) or not 0 <= count * dtype.itemsize <= size:
            raise RefusedError("has a storage that is larger than the file")
        if key not in held:
            if sum(each.nbytes for each in held.values()) + count * dtype.itemsize > size:
                raise RefusedError("has storages that are larger than the file")
            held[key], dtypes[key] = torch.zeros(count, dtype=dtype), dtype
        return held[key]

    limited = _Limited(file)
    for _ in range(3):
        _Unpickler(limited, is_inert, storage).load()
    content = _Unpickler(limited, is_inert, storage).load()
    for key in _Unpickler(limited, is_inert, storage).load():
        count = int.from_bytes(file.read(8), "little")
        if key not in held or count != len(held[key]):
            raise ValueError(f"storage {key!r} has another length than its tensors")
        raw = file.read(held[key].nbytes)
        if len(raw) != held[key].nbytes:
            raise ValueError("it ends too early")
        if count:
            held[key].copy_(torch.frombuffer(bytearray(raw), dtype=dtypes[key]))
    return content


class _Limited:
    """A file of pickles that ends after `MAX_PICKLE` bytes."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.left = file, MAX_PICKLE

    def read(self, count: int) -> bytes:
        return self._counted(self.file.read(min(count, self.left + 1)))

    def readline(self) -> bytes:
        return self._counted(self.file.readline(self.left + 1))

    def readinto(self, buffer: Any) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def _counted(self, data: bytes) -> bytes:
        self.left -= len(data)
        if self.left < 0:
            raise RefusedError(f"has a pickle of more than {MAX_PICKLE} bytes")
        return data


def _storage_of(persistent_id: Any) -> tuple[torch.dtype, str]:
    """Return the type and the name of the storage of a persistent id."""
    if not (
        isinstance(persistent_id, tuple)
        and len(persistent_id) >= 5
        and persistent_id[5:] in ((), (None,))
        and persistent_id[0] == "storage"
        and isinstance(persistent_id[1], torch.dtype)
    ):
        raise RefusedError("asks for something else than a storage")
    if not isinstance(persistent_id[2], str) or len(persistent_id[2]) > 100:
        raise RefusedError("has a storage without a name")
    return persistent_id[1], persistent_id[2]


def _typed(raw: Tensor, dtype: torch.dtype, size: int) -> Tensor:
    return raw[: size // dtype.itemsize * dtype.itemsize].view(dtype) if size else torch.zeros(0, dtype=dtype)
