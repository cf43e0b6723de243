"""Packed spectrograms that are kept in the memory of a GPU, so that a step copies numbers of rows instead of frames."""

from __future__ import annotations

from pathlib import Path

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

MAX_FRACTION = 0.25
"""Largest fraction of the free memory of the GPU that a corpus takes with data.on_device=null (our choice)."""
MAX_FRACTION_ASKED = 0.8
"""The same with data.on_device=true: the rest is for weights and activations (our choice)."""
ROWS = 2**18
"""Rows that are copied at once."""


class DeviceStore(SpecStore):
    """Packed spectrograms whose shards are copied to a device once; its windows are cut there.

    The windows are those of `SpecStore`, bit by bit.

    Parameters
    ----------
    store : SpecStore
        Its shards are on this machine.
    device : torch.device
        Where the rows are kept. Windows for another device are cut from the shards.
    """

    def __init__(self, store: SpecStore, device: torch.device) -> None:
        assert not isinstance(store.shards, RemoteShards), "shards at an address are downloaded when they are used"
        super().__init__(store.header, store.index, store.shards, store.folder)
        counts = [len(shard) for shard in store.shards]
        self._first = np.cumsum([0, *counts])
        kind = torch.from_numpy(np.empty(0, store.header.dtype)).dtype
        # the last row is that of frames without a segment
        self._rows = torch.zeros((sum(counts) + 1, store.frontend.n_mels), dtype=kind, device=device)
        for first, shard in zip(self._first.tolist(), store.shards, strict=False):
            for begin in range(0, len(shard), ROWS):
                part = np.array(shard[begin : begin + ROWS])  # a copy, because mapped files cannot be written
                self._rows[first + begin : first + begin + len(part)] = torch.from_numpy(part)

    @property
    def files(self) -> list[Path]:
        """Return nothing: windows are cut from the memory of the device."""
        return []

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
        before = np.cumsum(pieces.lengths) - pieces.lengths
        # of every segment: its first row, and its first frame in the batch, less the frames of the segments before it
        columns = np.stack([first - before, pieces.windows * width + pieces.offsets - before, pieces.lengths])
        rows, places, lengths = to_device(columns.astype(np.int64), self._rows.device)
        total = int(pieces.lengths.sum())
        frames = torch.arange(total, device=self._rows.device)
        segment = torch.repeat_interleave(lengths, output_size=total)
        found = torch.full((batch * width,), len(self._rows) - 1, device=self._rows.device)
        found[places[segment] + frames] = rows[segment] + frames
        return found.reshape(batch, width)


def keep_on_device(store: Store, device: torch.device, wanted: bool | None = None) -> Store:
    """Return a store whose windows are cut on the device, or the given one.

    Parameters
    ----------
    store : Store
        The corpus.
    device : torch.device
        The device that trains.
    wanted : bool, optional
        None: packed spectrograms on a CUDA GPU that take at most `MAX_FRACTION` of its free memory.

    Raises
    ------
    ConfigError
        When ``wanted`` is true and there is no CUDA GPU. When the corpus takes more than `MAX_FRACTION_ASKED` of its
        free memory, holds waves, or is at an address.
    """
    if wanted is False or (wanted is None and not _possible(store, device)):
        return store
    if not _possible(store, device):
        raise ConfigError(
            "data.on_device=true needs a CUDA GPU, and spectrograms that are packed on this machine;"
            f" the device is {device.type}, and {_described(store)}; set data.on_device=null"
        )
    assert isinstance(store, SpecStore)
    size, free = _bytes_of(store), torch.cuda.mem_get_info(device)[0]
    if wanted and size > MAX_FRACTION_ASKED * free:
        raise ConfigError(
            f"data.on_device=true keeps {size / 1e9:.2f} GB on the GPU, of which {free / 1e9:.2f} GB are free; at most"
            f" {MAX_FRACTION_ASKED:.0%} of them may be used; set data.on_device=null"
        )
    return DeviceStore(store, device) if wanted or size <= MAX_FRACTION * free else store


def _possible(store: Store, device: torch.device) -> bool:
    return device.type == "cuda" and isinstance(store, SpecStore) and not isinstance(store.shards, RemoteShards)


def _described(store: Store) -> str:
    """Return what a corpus holds, and where it is."""
    kind = "spectrograms" if isinstance(store, SpecStore) else "waves"
    place = "" if store.folder is None else f" in {named(store.folder)}"
    return f"the corpus holds {kind}{place}"


def _bytes_of(store: SpecStore) -> int:
    return int(store.frames.sum()) * store.frontend.n_mels * np.dtype(store.header.dtype).itemsize
