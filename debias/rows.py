"""``LabelledRows``: a bounded sample of labelled vectors, for methods that moments are not enough for."""

from __future__ import annotations

from typing import NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

from debias.moments import StreamingMoments

DEFAULT_LIMIT = 20_000
HELD_OUT = 4  # every fourth row of a group
FEWEST = 8  # rows of a group: two held out


class Split(NamedTuple):
    """Fitted and held-out rows ``(n, d)``, float64, and groups ``(n,)``, numbered among those with rows."""

    x: Tensor
    z: Tensor
    held_x: Tensor
    held_z: Tensor


class LabelledRows:
    """The moments of all labelled rows, and a random sample, of each group at most ``limit // groups`` rows.

    A row's place in the random order is a hash of its float32 numbers, its group and the seed, and each group
    keeps its lowest. So the sample depends on which rows were seen and not on their order, chunks or shards;
    equal rows stay or go together as far as ``limit`` allows. Rows with a negative group index are dropped.

    Args:
        dim: width d of the vectors.
        groups: number of groups.
        limit: most rows kept, O(limit · d) memory; a rare group's rows are all kept up to its share of it.
        seed: of the sample.

    Raises:
        ValueError: ``dim`` or ``groups`` below 1, or ``limit`` below ``groups``.
    """

    def __init__(self, dim: int, groups: int, *, limit: int = DEFAULT_LIMIT, seed: int = 0) -> None:
        self.moments = StreamingMoments(dim, groups)
        if limit < groups:
            raise ValueError(f"limit is {limit}, expected at least one row for each of {groups} groups")
        self.limit, self.seed = limit, seed
        self._factors = np.random.default_rng(seed).integers(2**63, size=dim + 2, dtype=np.uint64) * 2 + 1
        self._x = np.empty((0, dim), np.float32)
        self._z = np.empty(0, np.int64)
        self._keys = np.empty(0, np.uint64)

    def update(self, x: Tensor | np.ndarray, z: Tensor | np.ndarray) -> Self:
        """Add rows ``x`` ``(n, d)`` of groups ``z`` ``(n,)`` (integers, negative for unlabelled).

        Raises:
            ValueError: what ``StreamingMoments.update`` refuses, or numbers too large for float32.
        """
        rows, index = _float32(x), torch.as_tensor(z).detach().cpu().numpy()
        if not np.isfinite(rows).all() and bool(torch.as_tensor(x).isfinite().all()):
            raise ValueError("x holds numbers too large for float32")
        self.moments.update(x, z)
        labelled = index >= 0
        rows, index = rows[labelled], index[labelled].astype(np.int64)
        self._keep(rows, index, self._hash(rows, index))
        return self

    def merge(self, other: LabelledRows) -> Self:
        """Add what another instance has seen; ``other`` stays as it is.

        Raises:
            ValueError: ``other`` has another ``dim``, number of groups, ``limit`` or ``seed``.
        """
        if (self.limit, self.seed) != (other.limit, other.seed):
            raise ValueError(
                f"cannot merge rows of limit {other.limit} and seed {other.seed} "
                f"into limit {self.limit} and seed {self.seed}"
            )
        self.moments.merge(other.moments)
        self._keep(other._x, other._z, other._keys)
        return self

    @property
    def x(self) -> Tensor:
        """Sampled rows ``(m, d)``, float64, in the random order."""
        return torch.from_numpy(self._x.astype(np.float64))

    @property
    def z(self) -> Tensor:
        """Groups ``(m,)`` int64 of the sampled rows."""
        return torch.from_numpy(self._z.copy())

    def split(self) -> Split:
        """A random quarter of each group's sampled rows held out, the rest to fit on.

        Raises:
            ValueError: fewer than two groups have rows, or a group with rows has fewer than eight.
        """
        sampled = torch.bincount(self.z, minlength=self.moments.groups)
        present = sampled > 0
        if int(present.sum()) < 2 or int(sampled[present].min()) < FEWEST:
            raise ValueError(
                f"needs at least {FEWEST} rows of each of at least two groups, but keeps {sampled.tolist()} "
                f"rows per group (at most {self.limit} in all)"
            )
        z = (present.cumsum(0) - 1)[self.z]
        place = torch.nn.functional.one_hot(z).cumsum(0).gather(1, z[:, None])[:, 0]
        held = place % HELD_OUT == 0
        return Split(self.x[~held], z[~held], self.x[held], z[held])

    def _keep(self, rows: np.ndarray, index: np.ndarray, keys: np.ndarray) -> None:
        keys = np.concatenate([self._keys, keys])
        index = np.concatenate([self._z, index])
        order = np.argsort(keys, kind="stable")
        share = self.limit // self.moments.groups
        firsts = [order[index[order] == group][:share] for group in range(self.moments.groups)]
        kept = np.concatenate(firsts)
        kept = kept[np.argsort(keys[kept], kind="stable")]
        self._x, self._z, self._keys = np.concatenate([self._x, rows])[kept], index[kept], keys[kept]

    def _hash(self, rows: np.ndarray, index: np.ndarray) -> np.ndarray:
        """Multilinear hash of the bits with random odd factors, then the finaliser of SplitMix64."""
        bits = np.concatenate([(rows + 0.0).view(np.uint32), index[:, None].astype(np.uint32)], axis=1)
        keys = bits.astype(np.uint64) @ self._factors[1:] + self._factors[0]
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            keys = (keys ^ (keys >> np.uint64(shift))) * np.uint64(factor)
        return keys ^ (keys >> np.uint64(31))


def _float32(values: Tensor | np.ndarray) -> np.ndarray:
    tensor = values.detach().cpu() if isinstance(values, Tensor) else torch.from_numpy(np.array(values))
    return tensor.float().contiguous().numpy()
