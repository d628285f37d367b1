"""Which pairs make up which batch: a function of seed, epoch and batch number alone.

So a training can stop after any batch and go on from there without having saved the state of a random number
generator, and every process can work out its own share without asking the others.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple, Protocol

import numpy as np

WINDOW = 16  # shards whose pairs are mixed with one another


class Turn(NamedTuple):
    """One batch of one process.

    ``rows`` ``(b,)`` of the table; ``rng`` for everything random about the batch; it draws for ``total``
    pairs, of which this process uses those under ``part``.
    """

    rows: np.ndarray
    rng: np.random.Generator
    total: int
    part: slice


class Order(Protocol):
    """``per_epoch`` batches in each epoch; ``turns`` gives them from batch ``start`` on."""

    @property
    def per_epoch(self) -> int:
        """Whole global batches."""

    def turns(self, epoch: int, start: int = 0) -> Iterator[Turn]:
        """The batches of this process."""


@dataclass(frozen=True, kw_only=True)
class _Shared:
    """A batch that processes share equally; ``batch_size`` counts the pairs of all of them."""

    batch_size: int
    seed: int
    rank: int = 0
    world_size: int = 1

    @property
    def own(self) -> int:
        """Pairs of this process in a batch."""
        return self.batch_size // self.world_size


@dataclass(frozen=True, kw_only=True)
class GlobalOrder(_Shared):
    """A permutation of all pairs; each process takes its rows of every global batch.

    What a pair looks like in an epoch does not depend on the number of processes.
    """

    pairs: int

    @property
    def per_epoch(self) -> int:
        """Whole global batches."""
        return self.pairs // self.batch_size

    def turns(self, epoch: int, start: int = 0) -> Iterator[Turn]:
        """The batches of this process from ``start`` on."""
        order = np.random.default_rng((self.seed, epoch)).permutation(self.pairs)
        part = slice(self.rank * self.own, (self.rank + 1) * self.own)
        for number in range(start, self.per_epoch):
            rows = order[number * self.batch_size : (number + 1) * self.batch_size][part]
            rng = np.random.default_rng((self.seed, epoch, number))
            yield Turn(rows, rng, self.batch_size, part)


@dataclass(frozen=True, kw_only=True)
class ShardOrder(_Shared):
    """Shards are dealt out to the processes anew in each epoch; pairs mix within a window of shards.

    A process reads its own shards only, and nearly in sequence. One that is dealt fewer pairs begins its
    shards again, so that all make the same number of steps.

    Args:
        counts: pairs in each shard, ``(s,)``; the table's rows are the shards' pairs in order.
    """

    counts: np.ndarray

    @property
    def per_epoch(self) -> int:
        """Global batches as many as the pairs of all shards fill."""
        return int(self.counts.sum()) // self.batch_size

    def turns(self, epoch: int, start: int = 0) -> Iterator[Turn]:
        """The batches of this process from ``start`` on."""
        rows = islice(self._rows(epoch), start * self.own, None)
        for number in range(start, self.per_epoch):
            rng = np.random.default_rng((self.seed, epoch, number, self.rank))
            yield Turn(np.fromiter(islice(rows, self.own), dtype=np.int64), rng, self.own, slice(None))

    def _rows(self, epoch: int) -> Iterator[int]:
        begins = np.cumsum(self.counts) - self.counts
        dealt = np.random.default_rng((self.seed, epoch)).permutation(np.flatnonzero(self.counts))
        shards = dealt[self.rank :: self.world_size]
        rng = np.random.default_rng((self.seed, epoch, self.rank))
        while True:
            for first in range(0, len(shards), WINDOW):
                window = [np.arange(self.counts[s]) + begins[s] for s in shards[first : first + WINDOW]]
                yield from rng.permutation(np.concatenate(window)).tolist()
