"""How often to draw and how wide intervals are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Inference:
    """How often to draw and how wide intervals are.

    Attributes:
        resamples: bootstrap resamples of the clusters.
        permutations: draws of a null distribution; the smallest p-value is ``1 / (1 + permutations)``.
        seed: of every draw but the bootstrap's, which are the same in all audits.
        level: coverage that intervals aim at.
        interval_kind: of metrics that are smooth functions of sums: "bca" (bias-corrected and accelerated,
            Efron 1987) or "percentile", which covers as little as 88% for rates near 0 or 1 in 200 clustered
            observations. A maximum over attackers or groups is not smooth, and keeps its own interval.

    Raises:
        ValueError: no draws, a level outside (0, 1) or an unknown kind.
    """

    resamples: int = 1000
    permutations: int = 1000
    seed: int = 0
    level: float = 0.95
    interval_kind: Literal["percentile", "bca"] = "bca"

    def __post_init__(self) -> None:
        """Refuse settings that define no interval."""
        if min(self.resamples, self.permutations) < 1:
            raise ValueError("resamples and permutations must be at least 1")
        if not 0 < self.level < 1:
            raise ValueError(f"level is {self.level}, expected a number between 0 and 1")
        if self.interval_kind not in ("percentile", "bca"):
            raise ValueError(f"interval_kind is {self.interval_kind!r}, expected percentile or bca")

    def interval(self, draws: np.ndarray) -> tuple[float, float]:
        """Central ``level`` of the draws (percentile interval).

        The Weibull rule cuts a tail of its exact expected size off a few hundred draws; numpy's own rule
        cuts a sixth more off 200.
        """
        tail = (1 - self.level) / 2
        low, high = np.quantile(draws, [tail, 1 - tail], method="weibull")
        return float(low), float(high)

    def rng(self, purpose: int) -> np.random.Generator:
        """A generator of its own for each purpose, so that no two kinds of draws are correlated."""
        return np.random.default_rng([self.seed, purpose])
