"""``StreamingMoments``: first and second moments of vectors and of their groups, in one pass and float64."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

BLOCK = 2**22  # numbers that are float64 at a time
SAMPLE = 64  # rows, at least, that the reference point is the mean of


class StreamingMoments:
    """Means and covariances of labelled vectors, in chunks of any size, mergeable across shards and ranks.

    Rows with a negative group index are unlabelled and enter nothing, not even the overall mean: the
    population is the labelled rows. Kept are the total weight and mean of each group and the scatter about
    the overall mean, O(d²) memory. A chunk is summed up about a point in its midst and joins the rest by the
    pairwise update of Chan, Golub & LeVeque (1979): large raw sums of squares are never subtracted. All of it
    is float64 on the CPU, whatever dtype and device come in.

    Raises:
        ValueError: ``dim`` or ``groups`` below 1.
    """

    def __init__(self, dim: int, groups: int) -> None:
        if dim < 1 or groups < 1:
            raise ValueError(f"dim and groups must be at least 1, got {dim} and {groups}")
        self._counts = torch.zeros(groups, dtype=torch.float64)
        self._means = torch.zeros(groups, dim, dtype=torch.float64)
        self._scatter = torch.zeros(dim, dim, dtype=torch.float64)
        self._scratch = torch.empty(0, dim, dtype=torch.float64)  # kept: fresh memory costs as much as a cast

    def update(
        self, x: Tensor | np.ndarray, z: Tensor | np.ndarray, *, weights: Tensor | np.ndarray | None = None
    ) -> Self:
        """Add rows ``x`` ``(n, d)`` of groups ``z`` ``(n,)`` (integers, negative for unlabelled).

        ``weights`` ``(n,)``, 1 by default, count a row as that many.

        Raises:
            ValueError: wrong shapes, a group index too large, numbers that are not finite, negative weights.
        """
        rows = _tensor(x)
        if rows.ndim != 2 or rows.shape[1] != self.dim:
            raise ValueError(f"x has shape {tuple(rows.shape)}, expected (n, {self.dim})")
        index = group_index(z, rows=len(rows), groups=self.groups)
        weight = None if weights is None else _checked_weights(weights, rows=len(rows))
        labelled = index >= 0
        if not labelled.all():
            _refuse_unless(bool(rows[~labelled].isfinite().all()))
            rows, index = rows[labelled], index[labelled]
            weight = None if weight is None else weight[labelled]
        return self.merge(self._of(rows, index, weight)) if len(rows) else self

    def _of(self, rows: Tensor, index: Tensor, weight: Tensor | None) -> StreamingMoments:
        """Moments of one chunk, from sums about a point in its midst."""
        chunk = StreamingMoments(self.dim, self.groups)
        reference = _float64(rows[:: max(1, len(rows) // SAMPLE)]).mean(0)
        sums, scatter = chunk._means, chunk._scatter
        block = max(1, BLOCK // self.dim)
        if len(self._scratch) < min(len(rows), block):
            self._scratch = torch.empty(min(len(rows), block), self.dim, dtype=torch.float64)
        for start in range(0, len(rows), block):
            part = slice(start, start + block)
            centred = self._scratch[: len(index[part])].copy_(rows[part].cpu()).sub_(reference)
            if weight is None:
                sums.index_add_(0, index[part], centred)
            else:
                sums.index_add_(0, index[part], centred * weight[part, None])
                centred.mul_(weight[part, None].sqrt())
            scatter.addmm_(centred.mT, centred)
        _refuse_unless(bool(sums.isfinite().all() and scatter.diagonal().isfinite().all()))
        chunk._counts = torch.bincount(index, weight, minlength=self.groups).double()
        total = sums.sum(0)
        chunk._scatter = scatter.addr_(total, _ratio(total, chunk._counts.sum()), alpha=-1)
        means = reference + _ratio(sums, chunk._counts[:, None])
        chunk._means = torch.where(chunk._counts[:, None] > 0, means, 0)
        return chunk

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
        mine, theirs = self._counts.sum(), other._counts.sum()
        counts, n = self._counts + other._counts, mine + theirs
        delta = _ratio(other._counts, theirs) @ other._means - _ratio(self._counts, mine) @ self._means
        self._scatter.add_(other._scatter).addr_(delta, delta * _ratio(mine * theirs, n))
        self._means = self._means + (other._means - self._means) * _ratio(other._counts, counts)[:, None]
        self._counts = counts
        return self

    def all_reduce(self, *, device: torch.device | str = "cpu") -> Self:
        """Merge what all processes of ``torch.distributed`` have seen, in rank order; all end up the same.

        Every process must call it, once. One process alone keeps what it has.

        Args:
            device: where the process group communicates, e.g. this process's CUDA device for NCCL.
        """
        if not (dist.is_available() and dist.is_initialized()):
            return self
        state = self.state_dict()
        own = torch.cat([tensor.flatten() for tensor in state.values()]).to(device)
        gathered = [torch.empty_like(own) for _ in range(dist.get_world_size())]
        dist.all_gather(gathered, own)
        total = StreamingMoments(self.dim, self.groups)
        for flat in gathered:
            parts = flat.cpu().split([tensor.numel() for tensor in state.values()])
            theirs = {
                name: part.view_as(tensor) for (name, tensor), part in zip(state.items(), parts, strict=True)
            }
            total.merge(StreamingMoments.from_state(theirs))
        self._counts, self._means, self._scatter = total._counts, total._means, total._scatter
        return self

    def state_dict(self) -> dict[str, Tensor]:
        """All that has been seen: ``counts (groups,)``, ``means (groups, d)``, ``scatter (d, d)``; copies."""
        return {"counts": self.counts, "means": self.group_means, "scatter": self._scatter.clone()}

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor]) -> Self:
        """Go on from what ``state_dict`` gave.

        Raises:
            ValueError: a tensor is missing, or shapes do not fit each other.
        """
        found = {name: tuple(tensor.shape) for name, tensor in state.items()}
        groups, dim = found["means"] if len(found.get("means", ())) == 2 else (0, 0)
        expected = {"counts": (groups,), "means": (groups, dim), "scatter": (dim, dim)}
        if found != expected or not groups:
            raise ValueError(f"state holds {found}, expected counts (g,), means (g, d), scatter (d, d)")
        moments = cls(dim, groups)
        moments._counts, moments._means, moments._scatter = (
            _float64(state[name]).clone() for name in expected
        )
        return moments

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
        """Σxx ``(d, d)``, divided by n.

        Raises:
            ValueError: no labelled row yet.
        """
        self._shares()
        return self._scatter / self.n

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


def group_index(z: Tensor | np.ndarray, *, rows: int, groups: int) -> Tensor:
    """Group indices ``(rows,)`` int64 on the CPU.

    Raises:
        ValueError: another shape, not integers, or an index of ``groups`` or more.
    """
    index = _tensor(z).cpu()
    if index.shape != (rows,):
        raise ValueError(f"z has shape {tuple(index.shape)}, expected ({rows},)")
    if index.is_floating_point() or index.is_complex() or index.dtype == torch.bool:
        raise ValueError(f"z has dtype {index.dtype}, expected integers")
    if len(index) and index.max() >= groups:
        raise ValueError(f"z has group {int(index.max())}, expected below {groups}")
    return index.long()


def _checked_weights(weights: Tensor | np.ndarray, *, rows: int) -> Tensor:
    weight = _float64(_tensor(weights))
    if weight.shape != (rows,):
        raise ValueError(f"weights has shape {tuple(weight.shape)}, expected ({rows},)")
    _refuse_unless(bool(weight.isfinite().all()))
    if (weight < 0).any():
        raise ValueError("weights must not be negative")
    return weight


def _refuse_unless(finite: bool) -> None:
    if not finite:
        raise ValueError("x and weights must be finite, and so must the squares of x")


def _tensor(values: Tensor | np.ndarray) -> Tensor:
    """Without a copy where torch allows it."""
    if isinstance(values, Tensor):
        return values.detach()
    return torch.from_numpy(np.require(values, requirements=("C", "W")))


def _float64(values: Tensor) -> Tensor:
    """Float64 on the CPU; moved before it is cast, because some accelerators have no float64."""
    return values.detach().cpu().double()


def _ratio(part: Tensor, whole: Tensor) -> Tensor:
    """``part / whole``; 0 where ``whole`` is 0, as for a group without rows."""
    return torch.where(whole > 0, part / whole, 0)
