"""SPLINCE: the smallest linear edit that removes the attribute's covariance and keeps the task's."""

from __future__ import annotations

from typing import Self

import numpy as np
import torch
from torch import Tensor

from debias.eraser import Eraser
from debias.methods.leace import leace
from debias.moments import StreamingMoments, group_index

# Squared sine of the smallest angle between the two whitened spans; rounding leaves about 1e-12 of nothing.
ANGLE_FLOOR = 1e-8


class SplinceFitter:
    """Needs labels and task labels; LEACE that keeps Cov(x, task): fitted rows give linear attackers chance.

    Holstege, Ravfogel & Wouters 2025 (arXiv 2506.10703): x ↦ μ + P (x − μ) with P = W⁺ V (UᵀV)⁻¹ Uᵀ W,
    W = (Σxx^{1/2})⁺. On the fitted rows Cov(x, z) becomes 0 and Cov(x, y) stays what it was; of all linear
    maps that do both, this one moves x least in mean square. It moves x more than LEACE, which keeps no
    Cov(x, y), and more the closer the task's covariance comes to the attribute's: see ``details["overlap"]``.
    What of y goes with z stays in the vectors by design, so predictions of y still differ between groups.

    Rows enter if both labels are known; a row without one of them enters nothing.

    Args:
        dim: width d of the vectors.
        groups: number of groups.
        tasks: number of task classes.
        strength: 0, the identity, to 1, the full edit.
    """

    needs_task = True

    def __init__(self, dim: int, groups: int, *, tasks: int, strength: float = 1.0) -> None:
        self.moments = StreamingMoments(dim, groups)
        self.task_moments = StreamingMoments(dim, tasks)
        self.strength = strength

    def update(self, x: Tensor | np.ndarray, z: Tensor | np.ndarray, y: Tensor | np.ndarray) -> Self:
        """Add rows ``(n, d)`` with group indices and task indices ``(n,)``, both −1 where unknown.

        Raises:
            ValueError: what ``StreamingMoments.update`` refuses, for either kind of label.
        """
        groups = group_index(z, rows=len(x), groups=self.moments.groups)
        try:
            tasks = group_index(y, rows=len(x), groups=self.task_moments.groups)
        except ValueError as error:
            raise ValueError(f"y, which is checked like z: {error}") from error
        unknown = (groups < 0) | (tasks < 0)
        by_group, by_task = (StreamingMoments(m.dim, m.groups) for m in (self.moments, self.task_moments))
        by_group.update(x, groups.masked_fill(unknown, -1))
        by_task.update(x, tasks.masked_fill(unknown, -1))
        self.moments.merge(by_group)
        self.task_moments.merge(by_task)
        return self

    def merge(self, other: SplinceFitter) -> Self:
        """Add the rows that another fitter has seen.

        Raises:
            ValueError: ``other`` has another width, number of groups or number of tasks.
        """
        if self._sizes != other._sizes:
            raise ValueError(f"cannot merge (dim, groups, tasks) {other._sizes} into {self._sizes}")
        self.moments.merge(other.moments)
        self.task_moments.merge(other.task_moments)
        return self

    @property
    def _sizes(self) -> tuple[int, int, int]:
        return self.moments.dim, self.moments.groups, self.task_moments.groups

    @property
    def eraser(self) -> Eraser:
        """SPLINCE on the rows so far.

        Raises:
            ValueError: fewer than two groups or two tasks have rows, the task's covariance shares a direction
                with the attribute's, or ``strength`` is not from 0 to 1.
        """
        for name, moments in (("groups", self.moments), ("tasks", self.task_moments)):
            if int((moments.counts > 0).sum()) < 2:
                raise ValueError(
                    f"splince needs rows of at least two {name}, got {_integers(moments.counts)}"
                )
        left, right, overlap = _oblique(leace(self.moments), leace(self.task_moments))
        return Eraser(
            self.moments.mean,
            left,
            right,
            method="splince",
            changes_images=True,
            details={
                "labelled": _integers(self.moments.counts),
                "tasks": _integers(self.task_moments.counts),
                "overlap": overlap,
            },
        ).at_strength(self.strength)


def _oblique(attribute: Eraser, task: Eraser) -> tuple[Tensor, Tensor, float]:
    """I − P = left rightᵀ from the two LEACE edits, and the cosine of the smallest angle of their spans.

    With A and B orthonormal bases of the whitened spans W Σxz and W Σxy, LEACE is left = W⁺A and
    right = W A. P̃ = W P W⁺ is fixed on both spans, P̃A = 0 and P̃B = B, and least squares leaves it the
    identity on what is orthogonal to both. So I − P̃ = A (AᵀRA)⁻¹ AᵀR with R = I − BBᵀ.
    """
    cosines = task.right.mT @ attribute.left
    overlap = max(torch.linalg.svdvals(cosines).tolist(), default=0.0)
    if overlap**2 > 1 - ANGLE_FLOOR:
        raise ValueError(
            "the task's covariance with x lies in the attribute's: it cannot be kept without the attribute; "
            "take leace, or another task"
        )
    gram = torch.eye(attribute.rank, dtype=torch.float64) - cosines.mT @ cosines
    right = torch.linalg.solve(gram, (attribute.right - task.right @ cosines).mT).mT
    return attribute.left, right, overlap


def _integers(counts: Tensor) -> list[int]:
    return [int(count) for count in counts]
