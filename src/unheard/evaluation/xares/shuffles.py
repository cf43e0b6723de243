"""The order of training rows in X-ARES: shuffled shards, then two streaming shuffles."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

Item = TypeVar("Item")

INNER, OUTER = (2000, 500), (512, 100)
"""Size of each buffer of rows, and the number of rows in it before the first is emitted."""

SHARDS = (1000, 100)
"""The same of the buffer of shards."""

SHARD_ROWS = 2000
"""Rows of one shard of embeddings."""


def streaming_shuffle(items: Iterable[Item], size: int, initial: int, generator: random.Random) -> Iterator[Item]:
    """Yield items in random order from a buffer.

    Each step takes an item, and a second one while the buffer is below its size. A random item is emitted once the
    buffer holds ``initial`` of them; the last one takes its place.
    """
    buffer: list[Item] = []
    rest = iter(items)
    for item in rest:
        buffer.append(item)
        if len(buffer) < size:
            buffer.extend(each for _, each in zip(range(1), rest, strict=False))
        if len(buffer) >= initial:
            yield _pick(buffer, generator)
    while buffer:
        yield _pick(buffer, generator)


def epoch_order(
    shards: Sequence[Sequence[int]], epoch: int, inner: random.Random, outer: random.Random, rows: int = 1
) -> list[int]:
    """Return the rows of an epoch in the order of training.

    Parameters
    ----------
    shards : sequence of sequence of int
        Samples of each shard of embeddings.
    epoch : int
        Counted from 0; it is the seed of the order of the shards.
    inner, outer : Random
        Generators of the two buffers. The reference seeds them with process and time.
    rows : int
        Rows of one sample, which enter the second buffer one after the other.
    """
    order = streaming_shuffle(shards, *SHARDS, random.Random(epoch))
    samples = streaming_shuffle((sample for shard in order for sample in shard), *INNER, inner)
    stream = (sample * rows + row for sample in samples for row in range(rows))
    return list(streaming_shuffle(stream, *OUTER, outer))


def generators(seed: int, fit: int, epoch: int) -> tuple[random.Random, random.Random]:
    """Return the generators of the two buffers for an epoch of a fit (our choice)."""
    return random.Random(f"{seed} {fit} {epoch} inner"), random.Random(f"{seed} {fit} {epoch} outer")


def shards_of(sizes: Iterable[int]) -> list[list[int]]:
    """Return the rows of each shard of embeddings, for splits of these sizes one after the other."""
    found, first = [], 0
    for size in sizes:
        found += [list(range(first + at, first + min(at + SHARD_ROWS, size))) for at in range(0, size, SHARD_ROWS)]
        first += size
    return found


def _pick(buffer: list[Item], generator: random.Random) -> Item:
    at = generator.randint(0, len(buffer) - 1)
    chosen, buffer[at] = buffer[at], buffer[-1]
    buffer.pop()
    return chosen
