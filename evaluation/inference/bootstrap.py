"""The clustered bootstrap: whole clusters are drawn with replacement (Davison & Hinkley 1997, §3.8).

As many clusters give the same draws, whatever the seed, so two systems measured on the same data are paired,
in one audit and in two.

An interval needs many clusters: with about 40 it covers a point or two less than its level, and a sample
without any variation (no hit at all) has an interval of width zero.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from scipy.sparse import csr_array, issparse
from scipy.stats import norm

from evaluation.inference.permutation import paired_swaps, permutation_p
from evaluation.inference.settings import Inference

BLOCK_CELLS = 2**22
RESAMPLING = (0, 0)

Statistic = Callable[[np.ndarray], np.ndarray]


def cluster_count(clusters: np.ndarray) -> int:
    """How many distinct clusters there are."""
    return len(np.unique(clusters))


def resampled_counts(count: int, inference: Inference) -> Iterator[np.ndarray]:
    """How often each of ``count`` clusters is drawn, ``(b, count)`` int64, in blocks of resamples.

    Every audit draws the same ones (common random numbers), so its draws can be subtracted from another's.

    Raises:
        ValueError: fewer than two clusters.
    """
    if count < 2:
        raise ValueError(f"an interval needs at least two clusters, got {count}")
    rng = np.random.default_rng(RESAMPLING)
    block = max(1, BLOCK_CELLS // count)
    for start in range(0, inference.resamples, block):
        rows = min(block, inference.resamples - start)
        drawn = rng.integers(count, size=(rows, count)) + count * np.arange(rows)[:, None]
        yield np.bincount(drawn.ravel(), minlength=rows * count).reshape(rows, count)


def cluster_sums(values: np.ndarray | csr_array, clusters: np.ndarray) -> np.ndarray | csr_array:
    """Column sums of ``values`` ``(n, k)`` in every cluster, ``(clusters, k)``, by order of their names.

    Sparse values give sparse sums.

    Raises:
        ValueError: not one cluster per row.
    """
    names, codes = np.unique(clusters, return_inverse=True)
    if len(codes) != np.shape(values)[0]:
        raise ValueError(f"{np.shape(values)[0]} observations but {len(codes)} cluster names")
    members = csr_array((np.ones(len(codes)), (codes, np.arange(len(codes)))), shape=(len(names), len(codes)))
    return members @ (values if issparse(values) else np.asarray(values, dtype=np.float64))


def resampled_sums(values: np.ndarray | csr_array, clusters: np.ndarray, inference: Inference) -> np.ndarray:
    """Column sums of ``values`` ``(n, k)`` in each bootstrap resample of the clusters, ``(resamples, k)``.

    Every resample is a row of counts over clusters (multinomial), so the sums are one matrix product. Values
    may be sparse: the cost then grows with what they hold and not with their width.

    Raises:
        ValueError: fewer than two clusters, or not one cluster per row.
    """
    per_cluster = cluster_sums(values, clusters)
    counts = resampled_counts(per_cluster.shape[0], inference)
    return np.concatenate([times.astype(np.float64) @ per_cluster for times in counts])


@dataclass(frozen=True)
class Bootstrap:
    """A statistic's ``value``, its ``draws`` ``(resamples,)`` and ``left_out`` ``(clusters,)``: the
    statistic without each cluster in turn.
    """

    value: float
    draws: np.ndarray
    left_out: np.ndarray

    def interval(self, inference: Inference) -> tuple[float, float]:
        """The interval of ``inference.interval_kind``."""
        if inference.interval_kind == "percentile":
            return inference.interval(self.draws)
        return bca_interval(self.value, self.draws, self.left_out, inference)


def bootstrap(
    values: np.ndarray, clusters: np.ndarray, statistic: Statistic, inference: Inference
) -> Bootstrap:
    """Bootstrap a statistic of column sums.

    Args:
        values: ``(n, k)``.
        clusters: ``(n,)`` names.
        statistic: of sums ``(..., k)``, giving ``(...)``; e.g. ``lambda sums: sums[..., 0] / sums[..., 1]``.
        inference: draws, seed, level.

    Raises:
        ValueError: fewer than two clusters, or not one cluster per row.
    """
    per_cluster = cluster_sums(values, clusters)
    total = per_cluster.sum(axis=0)
    return Bootstrap(
        float(statistic(total)),
        statistic(resampled_sums(values, clusters, inference)),
        statistic(total - per_cluster),
    )


def bca_interval(
    value: float, draws: np.ndarray, left_out: np.ndarray, inference: Inference
) -> tuple[float, float]:
    """Bias-corrected and accelerated interval (Efron 1987; Davison & Hinkley 1997, §5.3.2).

    Args:
        value: of the statistic.
        draws: ``(resamples,)``.
        left_out: the statistic without each cluster in turn, ``(clusters,)``.
        inference: level.
    """
    below = (np.count_nonzero(draws < value) + np.count_nonzero(draws <= value)) / (2 * len(draws))
    if not 0 < below < 1:
        return inference.interval(draws)
    bias = norm.ppf(below)
    pull = left_out.mean() - left_out
    spread = np.sum(pull**2)
    acceleration = np.sum(pull**3) / (6 * spread**1.5) if spread > 0 else 0.0
    tail = (1 - inference.level) / 2
    z = bias + norm.ppf([tail, 1 - tail])
    low, high = np.quantile(draws, norm.cdf(bias + z / (1 - acceleration * z)), method="weibull")
    return float(low), float(high)


def centred(value: float, draws: np.ndarray, inference: Inference) -> tuple[float, float]:
    """Central interval of draws moved so that their mean is ``value``.

    For a statistic whose value on a sample is biased and meant to be read as such, next to a null that is
    biased alike: the interval is about its expectation over samples of this size.
    """
    low, high = inference.interval(draws - draws.mean() + value)
    return low, high


def bootstrap_mean(values: np.ndarray, clusters: np.ndarray, inference: Inference) -> Bootstrap:
    """Bootstrap the mean of ``values`` ``(n,)``.

    Raises:
        ValueError: fewer than two clusters, not one cluster per value, or values that are not finite.
    """
    if np.ndim(values) != 1 or not np.isfinite(values).all():
        raise ValueError(f"values have shape {np.shape(values)}, expected (n,) of finite numbers")
    counted = np.column_stack([values, np.ones(len(values))])
    found = bootstrap(counted, clusters, lambda sums: sums[..., 0] / sums[..., 1], inference)
    return replace(found, value=float(np.mean(values, dtype=np.float64)))


def mean_interval(
    values: np.ndarray, clusters: np.ndarray, inference: Inference
) -> tuple[float, float, float]:
    """Mean of ``values`` ``(n,)`` with its interval: ``(value, low, high)``.

    Raises:
        ValueError: as in ``bootstrap_mean``.
    """
    found = bootstrap_mean(values, clusters, inference)
    return found.value, *found.interval(inference)


def paired_mean_difference(
    after: np.ndarray, before: np.ndarray, clusters: np.ndarray, inference: Inference
) -> tuple[float, float, float, float]:
    """Mean of ``after - before`` ``(n,)`` on the same observations: ``(value, low, high, p)``.

    The interval is the percentile one whatever ``inference`` asks for: where two systems differ in three
    observations of 300, BCa holds the truth in 91% of samples and percentile in 97%.

    ``p`` is one-sided for a *fall*; its null swaps the two systems in whole clusters.

    Raises:
        ValueError: different shapes, fewer than two clusters, or not one cluster per value.
    """
    if np.shape(after) != np.shape(before):
        raise ValueError(f"pairs need equal shapes, got {np.shape(after)} and {np.shape(before)}")
    change = np.asarray(after, dtype=np.float64) - np.asarray(before, dtype=np.float64)
    plain = replace(inference, interval_kind="percentile")
    value, low, high = mean_interval(change, clusters, plain)
    null = [np.mean(np.where(swap, -change, change)) for swap in paired_swaps(clusters, inference)]
    return value, low, high, permutation_p(-value, -np.array(null))
