"""LEACE: the smallest affine edit after which no linear probe can use the group."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from debias.eraser import Eraser
from debias.methods.base import MomentFitter
from debias.moments import StreamingMoments

# Canonical correlations are dimensionless: sampling noise of n rows is about sqrt(d / n) and rounding about
# 1e-10, so this cuts rounding alone, at any prevalence of any group.
CORRELATION_FLOOR = 1e-8


def leace(
    moments: StreamingMoments,
    *,
    design: Tensor | None = None,
    method: str = "leace",
    details: Mapping[str, Any] | None = None,
) -> Eraser:
    """Closed form of Belrose et al. 2023 (arXiv 2306.03819), the affine eraser: x ↦ x − W⁺ P W (x − μ).

    W = (Σxx^{1/2})⁺ and P is the orthogonal projection onto the column space of W Σxz. Afterwards
    Cov(x, z) = 0 on the rows behind ``moments``, so all group means are equal there and the best linear probe
    is a constant. Among affine maps that do this it moves x least in mean square. The rank is at most the
    number of groups with rows, minus one.

    Eigenvalues of Σxx count as zero relative to the largest. The column space is taken with each column
    divided by the square root of its group's share, which makes the singular values canonical correlations:
    a group is not skipped for being rare.

    Args:
        moments: of the labelled rows.
        design: ``(groups, columns)``, what z is for a row of each group; the one-hot group by default. See
            ``debias.cells`` for several attributes at once; a column may be any number, e.g. an age.
        method: recorded in the eraser, with ``details``.

    Raises:
        ValueError: fewer than two groups have rows, or ``design`` does not fit or tells none of them apart.
    """
    basis, scale, directions, _ = _canonical(moments, design)
    return Eraser(
        moments.mean,
        basis @ (scale[:, None] * directions),
        basis @ (directions / scale[:, None]),
        method=method,
        changes_images=True,
        details=details,
    )


def expected_residual(moments: StreamingMoments) -> float | None:
    """Share of the squared Mahalanobis distance between two group means that fresh rows keep after ``leace``.

    The fitted direction carries the noise of N rows in d dimensions, so the true one survives in part: about
    d / (d + κ), where κ = (N₀N₁/N) Δ² and Δ is the Mahalanobis distance within groups. With d the
    rank of Σxx and ρ the canonical correlation, κ is estimated without bias by (N − d − 3) ρ² / (1 − ρ²) − d.
    The result, at most 1, is the reciprocal of Hotelling's F but for two degrees of freedom.

    Holds for independent rows of weight 1, Gaussian with one covariance in both groups. Rows that resemble
    each other (drawings of one emoji in several tones) count for fewer than N: the true share is then larger.

    Returns:
        A number in [0, 1]; None where it cannot be estimated: not exactly two groups with rows, or N ≤ d + 3.

    Raises:
        ValueError: fewer than two groups have rows.
    """
    basis, _, _, correlations = _canonical(moments)
    d, spare = basis.shape[1], moments.n - basis.shape[1] - 3
    if int((moments.counts > 0).sum()) != 2 or spare <= 0:
        return None
    explained = float((correlations**2).sum())
    noise = d * max(0.0, 1 - explained)
    return noise / max(noise, spare * explained)


class LeaceFitter(MomentFitter):
    """Needs labels; least edit without covariance: on fitted rows linear attackers are at chance.

    Fresh rows and nonlinear attackers keep more.

    Args:
        dim: width d of the vectors.
        groups: number of groups.
        design: see ``leace``.
        strength: 0, the identity, to 1, the full edit.
    """

    def __init__(self, dim: int, groups: int, *, design: Tensor | None = None, strength: float = 1.0) -> None:
        super().__init__(dim, groups)
        self.design, self.strength = design, strength

    @property
    def eraser(self) -> Eraser:
        """LEACE on the rows so far.

        Raises:
            ValueError: see ``leace``, or ``strength`` is not from 0 to 1.
        """
        details: dict[str, Any] = {"labelled": self.labelled}
        if self.design is not None:
            details["design"] = self.design.tolist()
        return leace(self.moments, design=self.design, details=details).at_strength(self.strength)


class _Canonical(NamedTuple):
    """Σxx = basis · diag(scale²) · basisᵀ on its support; whitened directions and canonical correlations."""

    basis: Tensor
    scale: Tensor
    directions: Tensor
    correlations: Tensor


def _canonical(moments: StreamingMoments, design: Tensor | None = None) -> _Canonical:
    present = moments.counts > 0
    if int(present.sum()) < 2:
        counts = [int(count) for count in moments.counts]
        raise ValueError(f"LEACE needs rows of at least two groups, got {counts} rows per group")
    values, vectors = torch.linalg.eigh(moments.covariance)
    support = values > values[-1] * moments.dim * torch.finfo(values.dtype).eps
    basis, scale = vectors[:, support], values[support].sqrt()
    shares = moments.counts[present] / moments.n
    whitened = basis.mT @ (moments.cross_covariance[:, present] / shares.sqrt()) / scale[:, None]
    if design is not None:
        whitened = whitened @ _contrasts(design, present, shares)
    directions, correlations, _ = torch.linalg.svd(whitened, full_matrices=False)
    kept = correlations > CORRELATION_FLOOR
    return _Canonical(basis, scale, directions[:, kept], correlations[kept])


def _contrasts(design: Tensor, present: Tensor, shares: Tensor) -> Tensor:
    """Orthonormal contrasts ``(groups with rows, rank)`` between the groups that a design tells apart.

    They span diag(√share) (design − its mean); each column counts at unit variance, so no column is skipped
    for being rare or small.
    """
    if design.ndim != 2 or len(design) != len(present) or not design.isfinite().all():
        raise ValueError(f"design has shape {tuple(design.shape)}, expected finite ({len(present)}, columns)")
    columns = design.detach().cpu().double()[present]
    spread = shares.sqrt()[:, None] * (columns - shares @ columns)
    length, size = spread.norm(dim=0), columns.abs().amax(0)
    varies = length > size * torch.finfo(size.dtype).eps * len(shares)
    if not varies.any():
        raise ValueError("design has no column that differs between groups with rows")
    contrasts, s, _ = torch.linalg.svd(spread[:, varies] / length[varies], full_matrices=False)
    return contrasts[:, s > CORRELATION_FLOOR * s[0]]
