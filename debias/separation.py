"""How far apart the groups are on held-out rows before and after an edit, with a cluster bootstrap."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_array
from sklearn.covariance import ledoit_wolf

from debias.calibration import Calibration
from debias.eraser import Eraser
from debias.groupwise import GroupwiseEraser

BLOCK = 100  # resamples at a time
SUPPORT = 1e-10  # variance relative to the largest below which a direction is empty; rounding is about 1e-15


class Change(NamedTuple):
    """Separation before and after, the interval of the change, and the share that is kept.

    ``kept`` is (value, low, high) of after ÷ before; None where the interval before reaches zero.
    """

    before: float
    after: float
    low: float
    high: float
    kept: tuple[float, float, float] | None


def edited(eraser: Eraser, rows: Calibration) -> np.ndarray:
    """The rows after the edit ``(n, d)``, float64; a group-wise eraser is told the groups."""
    x = rows.x.astype(np.float64)
    return np.asarray(eraser(x, rows.z) if isinstance(eraser, GroupwiseEraser) else eraser(x))


def attacker_views(eraser: Eraser, rows: Calibration, fresh: Calibration) -> tuple[np.ndarray, np.ndarray]:
    """Fresh rows before and after, so that distance is what a linear attacker who trains anew separates by.

    Mahalanobis distance with the covariance within groups of ``rows``, shrunk (Ledoit & Wolf 2004) so that
    it exists for fewer rows than dimensions, and carried through the edit: what can be undone changes
    nothing, and a direction that was emptied counts for nothing.
    """
    covariance, _ = ledoit_wolf(within_groups(rows.x, rows.z), assume_centered=True)
    if isinstance(eraser, GroupwiseEraser):
        carried, _ = ledoit_wolf(within_groups(edited(eraser, rows), rows.z), assume_centered=True)
    else:
        linear = np.eye(eraser.dim) - (eraser.left @ eraser.right.mT).cpu().numpy()
        carried = linear @ covariance @ linear.T
    return fresh.x @ whitening(covariance), edited(eraser, fresh) @ whitening(carried)


def cosine_views(eraser: Eraser, rows: Calibration, fresh: Calibration) -> tuple[np.ndarray, np.ndarray]:
    """Fresh rows of unit length over their spread within groups: how much of what cosines see is the group.

    Ranking by cosine reads directions as they lie, so an edit that takes away other variance makes the
    groups stand out more, although an attacker who trains anew gains nothing.
    """
    views = []
    for fitted_on, x in ((rows.x, fresh.x), (edited(eraser, rows), edited(eraser, fresh))):
        spread = within_groups(_unit(fitted_on), rows.z).var(0).sum()
        views.append(_unit(x) / np.sqrt(spread if spread > 0 else 1.0))
    return views[0], views[1]


def whitening(covariance: np.ndarray) -> np.ndarray:
    """Inverse square root ``(d, r)`` on the support."""
    values, vectors = np.linalg.eigh(covariance)
    support = values > values[-1] * SUPPORT
    return vectors[:, support] / np.sqrt(values[support])


def within_groups(x: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Rows minus their group's mean, float64."""
    centred = x.astype(np.float64)
    for group in np.unique(z):
        centred[z == group] -= centred[z == group].mean(0)
    return centred


def separation_change(
    before: np.ndarray,
    after: np.ndarray,
    z: np.ndarray,
    clusters: np.ndarray,
    *,
    resamples: int,
    level: float,
    seed: int,
) -> Change | None:
    """Variance between group means in two views of the same rows, without its sampling noise.

    The separation is Σ share · ‖group mean − mean‖², for two groups p₀p₁ times the squared distance. Means of
    few rows lie apart by chance: the cluster-robust variance of the means is subtracted, and twice from the
    bootstrap's draws, which carry it twice. Both views are resampled with the same clusters (percentile
    interval).

    Args:
        before, after: ``(n, r)``, ``(n, s)``.
        z: group index ``(n,)``, none negative.
        clusters: names ``(n,)``.
        resamples: bootstrap draws.
        level: coverage that intervals aim at.
        seed: of the draws.

    Returns:
        None where there are fewer than two groups, or one is in fewer than two clusters: nothing can be said.
    """
    names, cluster = np.unique(clusters, return_inverse=True)
    present, group = np.unique(z, return_inverse=True)
    if len(present) < 2:
        return None
    tables = [_ClusterSums.of(view, group, cluster) for view in (before, after)]
    if ((tables[0].counts > 0).sum(0) < 2).any():
        return None
    rng = np.random.default_rng(seed)
    blocks = []
    for start in range(0, resamples, BLOCK):
        size = (min(BLOCK, resamples - start), len(names))
        weights = rng.multinomial(size[1], np.full(size[1], 1 / size[1]), size=size[0]).astype(float)
        blocks.append([table.between(weights) - 2 * table.noise for table in tables])
    draws = np.concatenate(blocks, axis=1)
    draws = draws[:, np.isfinite(draws).all(0)]
    old, new = (float(table.between(np.ones((1, len(names))))[0]) - table.noise for table in tables)
    tails = [(1 - level) / 2, (1 + level) / 2]
    low, high = np.quantile(draws[1] - draws[0], tails)
    kept = None
    if np.quantile(draws[0], tails[0]) > 0:
        ends = np.quantile(draws[1] / np.maximum(draws[0], 1e-300), tails)
        kept = (max(0.0, new / old), max(0.0, float(ends[0])), max(0.0, float(ends[1])))
    return Change(old, new, float(low), float(high), kept)


class _ClusterSums(NamedTuple):
    """Per cluster and group: sums of rows ``(clusters, groups · r)``, row counts ``(clusters, groups)``."""

    sums: np.ndarray
    counts: np.ndarray
    shares: np.ndarray
    noise: float

    @classmethod
    def of(cls, x: np.ndarray, group: np.ndarray, cluster: np.ndarray) -> _ClusterSums:
        clusters, groups = int(cluster.max()) + 1, int(group.max()) + 1
        cells = cluster * groups + group
        members = csr_array((np.ones(len(x)), (cells, np.arange(len(x)))), (clusters * groups, len(x)))
        counts = np.bincount(cells, minlength=clusters * groups).reshape(clusters, groups)
        sums = np.asarray(members @ x).reshape(clusters, groups, -1)
        total, shares = counts.sum(0), counts.sum(0) / len(x)
        influence = (sums - counts[..., None] * (sums.sum(0) / total[:, None])) / total[:, None]
        influence -= np.einsum("g,cgr->cr", shares, influence)[:, None]
        noise = (
            float(np.einsum("g,cgr,cgr->", shares, influence, influence)) * clusters / max(1, clusters - 1)
        )
        return cls(sums.reshape(clusters, -1), counts, shares, noise)

    def between(self, weights: np.ndarray) -> np.ndarray:
        """Variance between group means ``(b,)`` for weights ``(b, clusters)``; NaN where a group has none."""
        counts = weights @ self.counts
        with np.errstate(invalid="ignore", divide="ignore"):
            means = (weights @ self.sums).reshape(*counts.shape, -1) / counts[..., None]
        means -= np.einsum("g,bgr->br", self.shares, means)[:, None]
        return np.einsum("g,bgr,bgr->b", self.shares, means, means)


def _unit(x: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(x, axis=1, keepdims=True)
    return x / np.maximum(lengths, np.finfo(float).tiny)
