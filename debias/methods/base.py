"""What fitters of one kind share: they gather moments, or a sample of rows."""

from __future__ import annotations

from typing import Self

import numpy as np
from torch import Tensor

from debias.moments import StreamingMoments
from debias.rows import LabelledRows


class MomentFitter:
    """Gathers ``moments`` of labelled rows, in chunks and from shards.

    Args:
        dim: width d of the vectors.
        groups: number of groups.
    """

    def __init__(self, dim: int, groups: int) -> None:
        self.moments = StreamingMoments(dim, groups)

    def update(self, x: Tensor | np.ndarray, z: Tensor | np.ndarray) -> Self:
        """Add rows ``(n, d)`` with group indices ``(n,)``; see ``StreamingMoments.update``."""
        self.moments.update(x, z)
        return self

    def merge(self, other: MomentFitter) -> Self:
        """Add the rows that another fitter has seen; see ``StreamingMoments.merge``."""
        self.moments.merge(other.moments)
        return self

    @property
    def labelled(self) -> list[int]:
        """Rows per group so far, for ``details``."""
        return [int(count) for count in self.moments.counts]


class RowFitter:
    """Gathers a bounded sample of labelled ``rows``, in chunks and from shards.

    Args:
        dim: width d of the vectors.
        groups: number of groups.
        limit, seed: see ``LabelledRows``.
    """

    def __init__(self, dim: int, groups: int, *, limit: int, seed: int) -> None:
        self.rows = LabelledRows(dim, groups, limit=limit, seed=seed)

    def update(self, x: Tensor | np.ndarray, z: Tensor | np.ndarray) -> Self:
        """Add rows ``(n, d)`` with group indices ``(n,)``; see ``LabelledRows.update``."""
        self.rows.update(x, z)
        return self

    def merge(self, other: RowFitter) -> Self:
        """Add the rows that another fitter has seen; see ``LabelledRows.merge``."""
        self.rows.merge(other.rows)
        return self

    @property
    def labelled(self) -> list[int]:
        """Rows per group so far, kept or not, for ``details``."""
        return [int(count) for count in self.rows.moments.counts]
