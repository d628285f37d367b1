"""Pareto shrink: shrink the vectors along the differences of the group means instead of removing these."""

from __future__ import annotations

import numpy as np

from debias.eraser import Eraser
from debias.methods.base import MomentFitter
from debias.methods.mean_projection import mean_directions

STATEMENT = (
    "The edit shrinks directions and removes none, so it can be undone: an attacker retrained on the edited "
    "vectors finds all that was there before, and only what was trained before sees less."
)


class ParetoShrinkFitter(MomentFitter):
    """Needs labels; shrinks the gaps of group means; retrained linear attackers lose nothing.

    x ↦ x − U S Uᵀ (x − μ), where U holds the principal axes of the group means and S is diagonal. Of all such
    S it minimises the distortion E‖r(x) − x‖² plus λ times the variance between groups that is left, so
    neither can be smaller unless the other grows. For an axis with variance σ², β of it between groups,
    this is s²σ² + λ(1 − s)²β, smallest where 1 − s = 1 / (1 + λβ/σ²). That is what stays of the axis: above 0
    for every λ, so the edit is invertible, and λ → ∞ gives ``mean_projection``.

    Lian et al. 2026 (arXiv 2603.12998) likewise shrink the attribute's component of a vector to a point that
    is Pareto-optimal, each vector by a factor of its own; one factor per axis keeps the edit affine.

    Args:
        dim: width d of the vectors.
        groups: number of groups.
        trade_off: λ, what a unit of variance between groups costs in units of distortion; above 0.

    Raises:
        ValueError: ``trade_off`` is not a finite number above 0.
    """

    def __init__(self, dim: int, groups: int, *, trade_off: float = 10.0) -> None:
        if not 0 < trade_off < np.inf:
            raise ValueError(f"trade_off is {trade_off}, expected a finite number above 0")
        super().__init__(dim, groups)
        self.trade_off = trade_off

    @property
    def eraser(self) -> Eraser:
        """The shrinkage on the rows so far; ``details["kept"]`` is what stays of each axis.

        Raises:
            ValueError: fewer than two groups have rows.
        """
        directions, between = mean_directions(self.moments)
        total = ((self.moments.covariance @ directions) * directions).sum(0)
        kept = total / (total + self.trade_off * between)
        return Eraser(
            self.moments.mean,
            directions * (1 - kept),
            directions,
            method="pareto_shrink",
            changes_images=True,
            details={
                "labelled": self.labelled,
                "trade_off": self.trade_off,
                "kept": kept.tolist(),
                "statement": STATEMENT,
            },
        )
