"""Where a metric is measured: what all rows of one call share."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from evaluation.inference import Inference, bootstrap_mean, cluster_count, paired_mean_difference
from evaluation.results import Estimate


@dataclass(frozen=True, kw_only=True)
class Setting:
    """The observations' clusters, the split and system they belong to, and how uncertainty is drawn.

    Attributes:
        clusters: ``(n,)`` names; an observation each.
        split, system: of the rows.
        inference: draws and level.
    """

    clusters: np.ndarray
    split: str
    system: str
    inference: Inference

    def __len__(self) -> int:
        return len(self.clusters)

    def where(self, keep: np.ndarray) -> Setting:
        """The same for the observations at the given positions or under a mask."""
        return replace(self, clusters=self.clusters[keep])

    def row(self, name: str, value: float, *, higher_is_better: bool, **fields: Any) -> Estimate:
        """A row about all observations; ``fields`` are those of an ``Estimate``."""
        shared = {"n": len(self), "n_clusters": cluster_count(self.clusters)}
        return Estimate(
            name=name,
            value=value,
            split=self.split,
            system=self.system,
            higher_is_better=higher_is_better,
            **(shared | fields),
        )

    def mean(self, name: str, values: np.ndarray, *, higher_is_better: bool, **fields: Any) -> Estimate:
        """Row of the mean of ``values`` ``(n,)`` with its clustered interval.

        Raises:
            ValueError: fewer than two clusters, or not one cluster per value.
        """
        found = bootstrap_mean(values, self.clusters, self.inference)
        low, high = found.interval(self.inference)
        return self.row(
            name,
            found.value,
            higher_is_better=higher_is_better,
            low=low,
            high=high,
            draws=found.draws,
            **fields,
        )

    def change(
        self,
        name: str,
        after: np.ndarray,
        before: np.ndarray,
        *,
        higher_is_better: bool,
        **fields: Any,
    ) -> Estimate:
        """Row ``{name}_change``: mean of ``after - before`` ``(n,)``, paired. Its null is no change.

        The p-value is one-sided: small where the mean *fell*.

        Raises:
            ValueError: different shapes, fewer than two clusters, or not one cluster per value.
        """
        value, low, high, p_value = paired_mean_difference(after, before, self.clusters, self.inference)
        return self.row(
            f"{name}_change",
            value,
            higher_is_better=higher_is_better,
            low=low,
            high=high,
            null=0.0,
            p_value=p_value,
            **fields,
        )
