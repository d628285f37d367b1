"""Quadratic erasure: equal means and covariances by optimal transport; it needs the group of every row."""

from __future__ import annotations

from typing import Self

import numpy as np
import torch
from torch import Tensor

from debias.groupwise import GroupwiseEraser
from debias.moments import StreamingMoments, group_index

MOST_STEPS = 100
CONVERGED = 1e-12  # relative change of the barycentre's covariance


class QuadraticFitter:
    """Needs labels, also at test; equalises means and covariances: a reference for what is of second order.

    Every group is transported to the Wasserstein barycentre of the groups' Gaussians: group g goes by the
    optimal map x ↦ A (x − mean_g) + mean to the mean of all rows and to the covariance S of the barycentre, A
    = Σ_g^{-1/2} (Σ_g^{1/2} S Σ_g^{1/2})^{1/2} Σ_g^{-1/2}; groups weigh by their shares. S is the fixed point
    of Álvarez-Esteban et al. 2016 (arXiv 1511.05355). On the fitted rows means and covariances are then
    equal, so no probe of first or second order (linear, quadratic) can use the group; what higher moments
    tell stays. The eraser must be given the group of every row, also of new ones.

    Args:
        dim: width d of the vectors.
        groups: number of groups; O(groups · d²) memory.
    """

    needs_group = True

    def __init__(self, dim: int, groups: int) -> None:
        self.moments = [StreamingMoments(dim, 1) for _ in range(groups)]

    def update(self, x: Tensor | np.ndarray, z: Tensor | np.ndarray) -> Self:
        """Add rows ``(n, d)`` with group indices ``(n,)``; see ``StreamingMoments.update``."""
        dim, groups = self.moments[0].dim, len(self.moments)
        index = group_index(z, rows=len(x), groups=groups)
        seen = [
            StreamingMoments(dim, 1).update(x, torch.where(index == group, 0, -1)) for group in range(groups)
        ]
        return self._join(seen)

    def merge(self, other: QuadraticFitter) -> Self:
        """Add the rows that another fitter has seen.

        Raises:
            ValueError: ``other`` has another width or number of groups.
        """
        if len(other.moments) != len(self.moments):
            raise ValueError(f"cannot merge {len(other.moments)} groups into {len(self.moments)}")
        return self._join(other.moments)

    def _join(self, others: list[StreamingMoments]) -> Self:
        for own, other in zip(self.moments, others, strict=True):
            own.merge(other)
        return self

    @property
    def eraser(self) -> GroupwiseEraser:
        """The transport fitted on the rows so far; to be called with ``(x, z)``.

        Raises:
            ValueError: a group without rows, or with too few for the directions in which the others vary.
        """
        counts = [int(own.n) for own in self.moments]
        if not all(counts):
            raise ValueError(f"quadratic needs rows of every group, got {counts} rows per group")
        means = torch.stack([own.mean for own in self.moments])
        covariances = torch.stack([own.covariance for own in self.moments])
        shares = torch.tensor([own.n for own in self.moments], dtype=torch.float64)
        shares = shares / shares.sum()
        basis = _support(torch.einsum("g,gij->ij", shares, covariances))
        small = basis.mT @ covariances @ basis
        for group, covariance in enumerate(small):
            if (rank := _support(covariance).shape[1]) < len(covariance):
                raise ValueError(
                    f"group {group} varies in {rank} directions on its {counts[group]} rows and the groups "
                    f"together in {len(covariance)}: quadratic needs more rows of it"
                )
        maps = _transports(small, _barycentre(small, shares))
        eye = torch.eye(basis.shape[1], dtype=torch.float64)
        return GroupwiseEraser(
            means,
            basis @ (eye - maps) @ basis.mT,
            shares @ means - means,
            method="quadratic",
            changes_images=True,
            details={"labelled": counts},
        )


def _barycentre(covariances: Tensor, shares: Tensor) -> Tensor:
    """S = S^{-1/2} (Σ share_g (S^{1/2} Σ_g S^{1/2})^{1/2})² S^{-1/2}, iterated from the shares' average."""
    barycentre = torch.einsum("g,gij->ij", shares, covariances)
    for _ in range(MOST_STEPS):
        step = torch.einsum("g,gij->ij", shares, _transports(barycentre[None], covariances))
        moved = step @ barycentre @ step
        change = (moved - barycentre).norm() / barycentre.norm()
        barycentre = moved
        if change < CONVERGED:
            break
    return barycentre


def _transports(sources: Tensor, targets: Tensor) -> Tensor:
    """Symmetric A with A source A = target, for stacks ``(…, d, d)`` of positive definite matrices."""
    root, inverse = _power(sources, 0.5), _power(sources, -0.5)
    return inverse @ _power(root @ targets @ root, 0.5) @ inverse


def _power(matrices: Tensor, exponent: float) -> Tensor:
    values, vectors = torch.linalg.eigh((matrices + matrices.mT) / 2)
    floor = values[..., -1:] * torch.finfo(values.dtype).eps
    return (vectors * values.clamp(min=floor)[..., None, :] ** exponent) @ vectors.mT


def _support(covariance: Tensor) -> Tensor:
    """Orthonormal basis ``(d, rank)`` of the directions in which rows vary."""
    values, vectors = torch.linalg.eigh(covariance)
    return vectors[:, values > values[-1] * len(values) * torch.finfo(values.dtype).eps]
