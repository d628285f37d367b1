"""``StreamingMoments``: first and second moments of vectors and of their groups, in one pass and float64."""

from __future__ import annotations

from typing import Self

import numpy as np
import torch
from torch import Tensor


class StreamingMoments:
    """Means and covariances of labelled vectors, in chunks of any size, mergeable across shards and ranks.

    Rows with a negative group index are unlabelled and enter nothing, not even the overall mean: the
    population is the labelled rows. Kept are the total weight and mean of each group and the scatter within
    groups, O(d²) memory; chunks join by the pairwise update of Chan, Golub & LeVeque (1979), which never
    subtracts large raw sums of squares. All of it is float64 on the CPU, whatever dtype and device come in.

    Raises:
        ValueError: ``dim`` or ``groups`` below 1.
    """

    def __init__(self, dim: int, groups: int) -> None:
        if dim < 1 or groups < 1:
            raise ValueError(f"dim and groups must be at least 1, got {dim} and {groups}")
        self._counts = torch.zeros(groups, dtype=torch.float64)
        self._means = torch.zeros(groups, dim, dtype=torch.float64)
        self._within = torch.zeros(dim, dim, dtype=torch.float64)

    def update(
        self, x: Tensor | np.ndarray, z: Tensor | np.ndarray, *, weights: Tensor | np.ndarray | None = None
    ) -> Self:
        """Add rows ``x`` ``(n, d)`` of groups ``z`` ``(n,)`` (integers, negative for unlabelled).

        ``weights`` ``(n,)``, 1 by default, count a row as that many.

        Raises:
            ValueError: wrong shapes, a group index too large, numbers that are not finite, negative weights.
        """
        rows = _float64(x)
        index = torch.as_tensor(np.array(z) if isinstance(z, np.ndarray) else z).detach().cpu()
        weight = torch.ones(rows.shape[:1], dtype=torch.float64) if weights is None else _float64(weights)
        self._check(rows, index, weight)
        labelled = index >= 0
        rows, index, weight = rows[labelled], index[labelled].long(), weight[labelled]

        chunk = StreamingMoments(self.dim, self.groups)
        membership = torch.nn.functional.one_hot(index, self.groups).double() * weight[:, None]
        chunk._counts = membership.sum(0)
        chunk._means = _ratio(membership.mT @ rows, chunk._counts[:, None])
        centred = (rows - chunk._means[index]) * weight.sqrt()[:, None]
        chunk._within = centred.mT @ centred
        return self.merge(chunk)

    def merge(self, other: StreamingMoments) -> Self:
        """Add what another instance has seen; ``other`` stays as it is.

        Raises:
            ValueError: ``other`` has another ``dim`` or number of groups.
        """
        if (self.dim, self.groups) != (other.dim, other.groups):
            raise ValueError(
                f"cannot merge moments of dim {other.dim} and {other.groups} groups "
                f"into dim {self.dim} and {self.groups} groups"
            )
        counts = self._counts + other._counts
        delta = other._means - self._means
        shared = _ratio(self._counts * other._counts, counts)[:, None]
        self._within = self._within + other._within + delta.mT @ (shared * delta)
        self._means = self._means + delta * _ratio(other._counts, counts)[:, None]
        self._counts = counts
        return self

    @property
    def dim(self) -> int:
        """Width d of the vectors."""
        return self._means.shape[1]

    @property
    def groups(self) -> int:
        """Number of groups, seen or not."""
        return self._means.shape[0]

    @property
    def n(self) -> float:
        """Total weight of the labelled rows: their number, where no weights are given."""
        return float(self._counts.sum())

    @property
    def counts(self) -> Tensor:
        """Total weight per group ``(groups,)``."""
        return self._counts.clone()

    @property
    def group_means(self) -> Tensor:
        """Mean per group ``(groups, d)``; zero for a group without rows."""
        return self._means.clone()

    @property
    def mean(self) -> Tensor:
        """Mean ``(d,)`` of the labelled rows.

        Raises:
            ValueError: no labelled row yet.
        """
        return self._shares() @ self._means

    @property
    def covariance(self) -> Tensor:
        """Σxx ``(d, d)``, divided by n; within-group plus between-group scatter.

        Raises:
            ValueError: no labelled row yet.
        """
        offsets = self._means - self.mean
        return self._within / self.n + offsets.mT @ (self._shares()[:, None] * offsets)

    @property
    def cross_covariance(self) -> Tensor:
        """Σxz ``(d, groups)`` with the one-hot group, divided by n: column j is share_j · (mean_j − mean).

        Raises:
            ValueError: no labelled row yet.
        """
        return ((self._means - self.mean) * self._shares()[:, None]).mT

    def _shares(self) -> Tensor:
        if not self.n > 0:
            raise ValueError("no labelled row yet: moments are undefined")
        return self._counts / self.n

    def _check(self, rows: Tensor, index: Tensor, weight: Tensor) -> None:
        if rows.ndim != 2 or rows.shape[1] != self.dim:
            raise ValueError(f"x has shape {tuple(rows.shape)}, expected (n, {self.dim})")
        for name, column in (("z", index), ("weights", weight)):
            if column.shape != rows.shape[:1]:
                raise ValueError(f"{name} has shape {tuple(column.shape)}, expected ({len(rows)},)")
        if index.is_floating_point() or index.is_complex() or index.dtype == torch.bool:
            raise ValueError(f"z has dtype {index.dtype}, expected integers")
        if len(index) and index.max() >= self.groups:
            raise ValueError(f"z has group {int(index.max())}, expected below {self.groups}")
        if not (rows.isfinite().all() and weight.isfinite().all()):
            raise ValueError("x and weights must be finite")
        if (weight < 0).any():
            raise ValueError("weights must not be negative")


def _float64(values: Tensor | np.ndarray) -> Tensor:
    """Float64 on the CPU; moved before it is cast, because some accelerators have no float64."""
    if isinstance(values, Tensor):
        return values.detach().cpu().double()
    return torch.from_numpy(np.array(values, dtype=np.float64))


def _ratio(part: Tensor, whole: Tensor) -> Tensor:
    """``part / whole``; 0 where ``whole`` is 0, as for a group without rows."""
    return torch.where(whole > 0, part / whole, 0)
