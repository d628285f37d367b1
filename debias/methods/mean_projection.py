"""Mean projection: project out the span of the differences between group means."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from debias.eraser import Eraser
from debias.methods.base import MomentFitter
from debias.moments import StreamingMoments

# Relative to the root mean square distance of a row from the mean: rounding is about 1e-16, so this cuts
# nothing else, at any prevalence of any group.
GAP_FLOOR = 1e-8


class MeanProjectionFitter(MomentFitter):
    """Needs labels; projects off the gaps of group means: on fitted rows linear attackers are at chance.

    x ↦ x − U Uᵀ (x − μ), where U spans the differences of the group means. On the fitted rows all group means
    are equal afterwards and the best linear probe is a constant, as with LEACE, but x moves further: LEACE
    is the optimum (Belrose et al. 2023, arXiv 2306.03819). In exchange the edit is symmetric and needs no
    inverse of the covariance. Fresh rows keep a part, nonlinear attackers whatever differs beyond the means.

    Args:
        dim: width d of the vectors.
        groups: number of groups.
        strength: 0, the identity, to 1, the full projection.
    """

    def __init__(self, dim: int, groups: int, *, strength: float = 1.0) -> None:
        super().__init__(dim, groups)
        self.strength = strength

    @property
    def eraser(self) -> Eraser:
        """The projection on the rows so far.

        Raises:
            ValueError: fewer than two groups have rows, or ``strength`` is not from 0 to 1.
        """
        directions = mean_directions(self.moments).directions
        return Eraser(
            self.moments.mean,
            directions,
            directions,
            method="mean_projection",
            changes_images=True,
            details={"labelled": self.labelled},
        ).at_strength(self.strength)


class MeanDirections(NamedTuple):
    """Orthonormal directions ``(d, r)`` and the variance between groups ``(r,)`` along each."""

    directions: Tensor
    between: Tensor


def mean_directions(moments: StreamingMoments) -> MeanDirections:
    """Principal axes of the group means, weighted by share; r is at most the number of groups less one.

    Raises:
        ValueError: fewer than two groups have rows.
    """
    present = moments.counts > 0
    if int(present.sum()) < 2:
        counts = [int(count) for count in moments.counts]
        raise ValueError(f"group means need rows of at least two groups, got {counts} rows per group")
    shares = moments.counts[present] / moments.n
    gaps = moments.cross_covariance[:, present] / shares.sqrt()
    directions, deviations, _ = torch.linalg.svd(gaps, full_matrices=False)
    kept = deviations > GAP_FLOOR * moments.covariance.trace().sqrt()
    return MeanDirections(directions[:, kept], deviations[kept] ** 2)
