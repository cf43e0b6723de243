"""Packed spectrograms that are kept in the memory of a GPU, so that a step copies numbers of rows instead of frames."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from unheard.addresses import named
from unheard.data.shard_layout import dequantise
from unheard.data.store import Device, SpecStore, Store
from unheard.data.windows.crops import WindowSegments
from unheard.devices import to_device
from unheard.errors import ConfigError
from unheard.remote.shards import RemoteShards

LARGEST_SHARE = 0.25
"""Part of the free memory of the GPU that a corpus takes without being asked for (our choice)."""


class DeviceStore(SpecStore):
    """Packed spectrograms whose shards are copied to a device once; its windows are cut there.

    The windows are those of `SpecStore`, bit by bit.

    Parameters
    ----------
    store : SpecStore
    device : torch.device
    """

    def __init__(self, store: SpecStore, device: torch.device) -> None:
        assert not isinstance(store.shards, RemoteShards), "shards at an address are downloaded when they are used"
        super().__init__(store.header, store.index, store.shards, store.folder)
        counts = [len(shard) for shard in store.shards]
        self._first = np.cumsum([0, *counts])
        shape, kind = (sum(counts) + 1, store.frontend.n_mels), torch.from_numpy(np.empty(0, store.header.dtype)).dtype
        self._rows = torch.zeros(shape, dtype=kind, device=device)  # the last row is that of frames without a segment
        for first, shard in zip(self._first.tolist(), store.shards, strict=False):
            self._rows[first : first + len(shard)] = torch.from_numpy(np.ascontiguousarray(shard))

    @property
    def nbytes(self) -> int:
        """Return the bytes on the device."""
        return self._rows.nbytes

    def windows(
        self,
        pieces: WindowSegments,
        batch: int,
        width: int,
        device: Device = "cpu",
        jitter_noise: Float[Tensor, "B 2"] | None = None,
    ) -> Float[Tensor, "B F T"]:
        """Return the stored frames, as `SpecStore.windows`."""
        if torch.device(device).type != self._rows.device.type:
            return super().windows(pieces, batch, width, device)
        values = self._rows[self._row_numbers(pieces, batch, width)]
        return dequantise(values, self.header.value_range).transpose(1, 2)

    def _row_numbers(self, pieces: WindowSegments, batch: int, width: int) -> Int64[Tensor, "B T"]:
        """Return the row of every frame of the windows; no step waits for the device."""
        first = self._first[self.index.shard[pieces.ids]] + self.index.offset[pieces.ids] + pieces.starts
        begins = np.cumsum(pieces.lengths) - pieces.lengths
        # of every segment: its first row, its first frame in the batch, less the frames of the segments before it
        ends = np.stack([first - begins, pieces.windows * width + pieces.offsets - begins, pieces.lengths])
        rows, places, lengths = to_device(ends.astype(np.int64), self._rows.device)
        total = int(pieces.lengths.sum())
        frames = torch.arange(total, device=self._rows.device)
        segment = torch.repeat_interleave(lengths, output_size=total)
        found = torch.full((batch * width,), len(self._rows) - 1, device=self._rows.device)
        found[places[segment] + frames] = rows[segment] + frames
        return found.reshape(batch, width)


def on_device(store: Store, device: torch.device, wanted: bool | None = None) -> Store:
    """Return the store whose windows are cut on the device, or the store as it is.

    Parameters
    ----------
    wanted : bool, optional
        None: on a GPU, where packed spectrograms take at most `LARGEST_SHARE` of its free memory.

    Raises
    ------
    ConfigError
        When ``wanted`` is true and there is no GPU, the corpus is larger than its free memory, holds waves, or is at an
        address.
    """
    reason = _obstacle(store, device)
    if wanted and reason:
        raise ConfigError(f"data.on_device=true {reason}; set data.on_device=null")
    if wanted is False or reason:
        return store
    assert isinstance(store, SpecStore)
    size, free = _bytes_of(store), torch.cuda.mem_get_info(device)[0]
    if wanted and size > free:
        raise ConfigError(
            f"data.on_device=true: the corpus {named(store.folder or '')} takes {size / 1e9:.2f} GB, and"
            f" {free / 1e9:.2f} GB of the GPU are free; set data.on_device=null"
        )
    return DeviceStore(store, device) if wanted or size <= LARGEST_SHARE * free else store


def _obstacle(store: Store, device: torch.device) -> str:
    """Return why a store cannot be kept on the device; empty if it can."""
    if device.type != "cuda":
        return "needs a GPU"
    if not isinstance(store, SpecStore):
        return f"needs packed spectrograms, and the corpus {named(store.folder or '')} holds waves"
    if isinstance(store.shards, RemoteShards):
        return f"needs a corpus on this machine, and {named(store.folder or '')} is at an address"
    return ""


def _bytes_of(store: SpecStore) -> int:
    return int(store.frames.sum()) * store.frontend.n_mels * np.dtype(store.header.dtype).itemsize
