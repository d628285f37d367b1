"""How much of what separates the groups an estimated eraser leaves on fresh data, and what rows count for."""

from __future__ import annotations

from itertools import combinations
from typing import NamedTuple

import numpy as np
from scipy.optimize import brentq
from scipy.sparse import csr_array
from scipy.stats import ncf
from sklearn.covariance import ledoit_wolf

from debias.calibration import Calibration
from debias.moments import StreamingMoments
from debias.separation import whitening, within_groups

# Share of a whitened variance that lies within groups; below, float32 vectors cannot tell groups overlap.
WITHIN_FLOOR = 1e-6
# Beyond, scipy's distribution gives up; a residual of d / 1e9 needs no interval.
HUGE = 1e9
# Degrees of freedom of the covariance beyond d: clusters that just span the space seem to leave about 2.
SPARE = 5
# What is left of a direction that one cluster alone spans is rounding.
LEVERAGE_FLOOR = 1e-9


class Residual(NamedTuple):
    """Expected share of a pair's squared Mahalanobis distance that fresh rows keep, with its interval.

    ``enough``: rows of the same groups and clustering for an expected share of ``goal``; None where the rows
    show no difference that could be extrapolated.
    """

    pair: tuple[int, int]
    value: float
    low: float
    high: float
    enough: int | None


def effective_size(rows: Calibration, *, seed: int = 0) -> float:
    """Number of independent rows that would place the group means as exactly as these clustered rows do.

    n / deff (Kish 1965), where deff is the cluster-robust over the independent-rows variance of the
    differences between group means, summed over all pairs and over all whitened directions: the noise that
    survives an edit lies in every direction, not along the fitted one, so the sum is what counts, and no
    direction has to be fitted. Rows are whitened by the other half of the clusters; by themselves, clusters
    that stretch the covariance would look smaller than they are.

    At most n: pairs within clusters (the same role as man and woman) may do better, which is not used. May
    fall below the number of clusters where one of them holds most rows.

    Args:
        rows: labelled, at least two groups.
        seed: of the halves.
    """
    names, cluster = np.unique(rows.clusters, return_inverse=True)
    if len(names) == len(rows):
        return float(len(rows))
    present, group = np.unique(rows.z, return_inverse=True)
    counts = np.bincount(group)
    centred = within_groups(rows.x, group)
    half = np.random.default_rng(seed).permutation(len(names)) % 2
    clustered = independent = 0.0
    for side in range(2):
        here = half[cluster] == side
        if here.all():
            return 1.0
        shrunk, _ = ledoit_wolf(centred[~here], assume_centered=True)
        influence = centred[here] @ whitening(shrunk) / counts[group[here], None]
        for a, b in combinations(range(len(present)), 2):
            sign = (group[here] == a).astype(float) - (group[here] == b)
            members = csr_array((sign, (cluster[here], np.arange(len(sign)))), (len(names), len(sign)))
            clustered += float(((members @ influence) ** 2).sum())
        independent += float((influence**2).sum()) * (len(present) - 1)
    if independent == 0:
        return float(len(names))
    correction = len(names) / (len(names) - 1)  # the means were fitted to the same clusters
    return len(rows) / max(1.0, correction * clustered / independent)


def expected_residuals(
    rows: Calibration, n_eff: float, *, goal: float, level: float
) -> tuple[int, list[Residual]]:
    """For every pair of groups d / (d + κ), κ = (N₀N₁ / (N₀ + N₁)) Δ²; see ``expected_residual`` of LEACE.

    An edit that equalises group means on the rows it was fitted on leaves their noise on fresh ones. With d
    the rank of Σxx, T² = n_eff · R the squared distance in units of the means' noise and n_cov rows behind
    the covariance of G groups, T² · ν / (d · n_cov), ν = n_cov − G − d + 1, follows a noncentral F with
    noncentrality κ; the interval inverts it. Independent rows have n_eff = n_cov = n, clustered ones blur
    means more than covariances. The interval is one for κ, hence for the expectation over calibration sets,
    and a single set scatters around it. With more than two groups the other pairs' directions are removed
    too, so a pair's value is an upper bound.

    Returns:
        d, and the residuals; none where the rows are too few for the width, so that they cannot be estimated.
    """
    present, group = np.unique(rows.z, return_inverse=True)
    moments = StreamingMoments(rows.x.shape[1], len(present)).update(rows.x, group)
    whiten = _whitening_within(moments)
    d, fitted = whiten.shape[1], len(present) + 1 + whiten.shape[1]
    n_cov = _covariance_size(within_groups(rows.x, group) @ whiten, rows.clusters, fitted=fitted)
    if n_cov < fitted + SPARE:
        return d, []
    means, counts = moments.group_means.numpy() @ whiten, moments.counts.numpy()
    found = []
    for a, b in combinations(range(len(present)), 2):
        harmonic = counts[a] * counts[b] / (counts[a] + counts[b])
        ratio = n_eff / n_cov * float(((means[a] - means[b]) ** 2).sum()) * harmonic / len(rows)
        kappa = max(0.0, (n_cov - fitted) * ratio - d)
        spare = n_cov - fitted + 2
        low, high = _noncentrality(ratio * spare / d, d, spare, level=level)
        needed = len(rows) * max(d * (1 / goal - 1) / kappa, (fitted + 1) / n_cov) if low > 0 else None
        found.append(
            Residual(
                (int(present[a]), int(present[b])),
                d / (d + kappa),
                d / (d + high),
                d / (d + low),
                None if needed is None else int(np.ceil(needed)),
            )
        )
    return d, found


def _whitening_within(moments: StreamingMoments) -> np.ndarray:
    """Map ``(dim, d)`` onto the support of Σxx, of rank d, that makes the covariance within groups I."""
    outer = whitening(moments.covariance.numpy())
    means = (moments.group_means - moments.mean).numpy() @ outer
    shares = (moments.counts / moments.n).numpy()
    within, axes = np.linalg.eigh(np.eye(outer.shape[1]) - means.T @ (shares[:, None] * means))
    return outer @ axes / np.sqrt(within.clip(min=WITHIN_FLOOR))


def _covariance_size(white: np.ndarray, clusters: np.ndarray, *, fitted: int) -> float:
    """Number of independent rows whose covariance would be as far off as that of these clustered rows.

    The inverse of a covariance of n rows stretches fresh rows by θ = n / (n − d − G − 1). Here θ is measured
    on every cluster with the covariance of the others: with H = YYᵀ the cluster's block of the hat matrix of
    the whitened rows, that is tr H (I − H)⁻¹, so its eigenvalues suffice and nothing is fitted again.

    Args:
        white: ``(n, d)``, centred by group, with covariance I.
        clusters: names ``(n,)``.
        fitted: d + G + 1.
    """
    order = np.argsort(clusters, kind="stable")
    starts = np.unique(clusters[order], return_index=True)[1][1:]
    stretched = 0.0
    for block in np.split(white[order] / np.sqrt(len(white)), starts):
        leverage = np.linalg.svd(block, compute_uv=False) ** 2
        stretched += float((leverage / (1 - leverage).clip(min=LEVERAGE_FLOOR)).sum())
    theta = stretched / white.shape[1]
    return min(float(len(white)), fitted * theta / (theta - 1)) if theta > 1 else float(len(white))


def _noncentrality(f: float, d: int, spare: float, *, level: float) -> tuple[float, float]:
    """Central interval for the noncentrality of an F with ``d`` and ``spare`` degrees of freedom."""
    if f * d > HUGE:
        return f * d, f * d
    tail = (1 - level) / 2
    bounds = []
    for probability in (1 - tail, tail):

        def excess(kappa: float, probability: float = probability) -> float:
            return float(ncf.cdf(f, d, spare, kappa)) - probability

        if excess(0.0) <= 0:
            bounds.append(0.0)
            continue
        ceiling = max(1.0, f * d)
        while excess(ceiling) > 0:
            ceiling *= 2
        bounds.append(float(brentq(excess, 0.0, ceiling, xtol=1e-6, rtol=1e-6)))
    return bounds[0], bounds[1]
