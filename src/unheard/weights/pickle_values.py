"""The functions that names in a checkpoint's pickle stand for: they build tensors and plain values and check
arguments.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

STORAGES = {
    f"{kind}Storage": dtype
    for kind, dtype in {
        "Float": torch.float32,
        "Double": torch.float64,
        "Half": torch.float16,
        "BFloat16": torch.bfloat16,
        "Long": torch.int64,
        "Int": torch.int32,
        "Short": torch.int16,
        "Char": torch.int8,
        "Byte": torch.uint8,
        "Bool": torch.bool,
    }.items()
}
SCALARS = {code: np.dtype(code) for code in "?bBhHiIlLqQefd"} | {
    np.dtype(code).str[1:]: np.dtype(code) for code in "?bBhHiIlLqQefd"
}


class RefusedError(Exception):
    """A checkpoint requires something outside the allow-list; ``name`` is the required name, if there is one."""

    def __init__(self, reason: str, name: str | None = None) -> None:
        super().__init__(reason)
        self.name = name


class InertConfig(dict[str, Any]):
    """Replacement of a configuration object: accepts all values of the file, does nothing."""

    def __init__(self, *args: Any, **values: Any) -> None:
        super().__init__(values)
        self["arguments"] = args


def _tensor(storage: Any, offset: Any, shape: Any, stride: Any, *_: Any) -> Tensor:
    """Return a tensor on a storage, which must have all of its elements."""
    numbers = (offset, *shape, *stride)
    if (
        not isinstance(storage, Tensor)
        or not all(type(number) is int and 0 <= number < 2**48 for number in numbers)
        or len(shape) > 16
    ):
        raise RefusedError("has a tensor of no valid shape")
    count, last = 1, offset
    for length, step in zip(shape, stride, strict=True):
        count, last = count * length, last + (length - 1) * step
    if count > len(storage) or (count and last >= len(storage)):
        raise RefusedError("has a tensor that is larger than its storage")
    return (
        torch.as_strided(storage, tuple(shape), tuple(stride), offset)
        if count
        else torch.zeros(tuple(shape), dtype=storage.dtype)
    )


def _parameter(data: Any, *_: Any) -> Tensor:
    if not isinstance(data, Tensor):
        raise RefusedError("has a parameter without a tensor")
    return data


def _numpy_dtype(code: Any, *_: Any) -> np.dtype[Any]:
    if not isinstance(code, str) or code not in SCALARS:
        raise RefusedError(f"has a NumPy value of type {str(code)[:20]!r}")
    return SCALARS[code]


def _numpy_scalar(dtype: Any, content: Any = b"") -> Any:
    if not isinstance(dtype, np.dtype) or not isinstance(content, bytes) or len(content) != dtype.itemsize:
        raise RefusedError("has a NumPy value of no valid size")
    return np.frombuffer(content, dtype)[0]


def _encode(text: Any, codec: Any = "latin1") -> bytes:
    """Encode text; pickles of version 2 store bytes in this way."""
    if not isinstance(text, str) or codec not in ("latin1", "latin-1"):
        raise RefusedError("encodes text in another way than latin1")
    return text.encode("latin1")


def _ordered(items: Any = ()) -> OrderedDict[str, Any]:
    if not isinstance(items, list | tuple) or not all(
        isinstance(pair, list | tuple) and len(pair) == 2 and isinstance(pair[0], str) for pair in items
    ):
        raise RefusedError("has an ordered dictionary of no valid form")
    return OrderedDict(items)


def _size(numbers: Any = ()) -> tuple[Any, ...]:
    return tuple(numbers) if isinstance(numbers, list | tuple) else ()


def _names() -> Iterator[tuple[str, Callable[..., Any]]]:
    named: dict[str, Callable[..., Any]] = {
        "collections.OrderedDict": _ordered,
        "torch._utils._rebuild_tensor_v2": _tensor,
        "torch._utils._rebuild_parameter": _parameter,
        "torch._utils._rebuild_parameter_with_state": _parameter,
        "torch.nn.parameter.Parameter": _parameter,
        "torch.Size": _size,
        "torch.device": InertConfig,
        "_codecs.encode": _encode,
        "numpy.dtype": _numpy_dtype,
        "numpy.core.multiarray.scalar": _numpy_scalar,
        "numpy._core.multiarray.scalar": _numpy_scalar,
    }
    yield from named.items()
    for code in "?bBhHiIlLqQefd":  # dtype classes of newer NumPy, and the dtypes of torch
        yield f"numpy.dtypes.{type(np.dtype(code)).__name__}", lambda code=code: SCALARS[code]


NAMES: dict[str, Callable[..., Any]] = dict(_names())
"""Names that a checkpoint may use, and the functions they stand for."""
