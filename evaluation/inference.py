"""Uncertainty that respects clusters: bootstrap intervals, label permutations and paired swaps.

A cluster (a role drawn in six skin tones, an image with five captions) is the independent unit. The
bootstrap draws whole clusters with replacement (Davison & Hinkley 1997, §3.8), a permutation moves labels
only where clusters are exchangeable, and a paired test swaps two systems cluster by cluster. The same seed
and the same clusters give the same draws, so two systems measured on the same data are paired.

An interval needs many clusters: with about 40 a 95% percentile interval covers about 94%, and a sample
without any variation (no hit at all) has an interval of width zero.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypedDict

import numpy as np
from scipy.sparse import csr_array

BLOCK_CELLS = 2**22
ROUNDING = 1e-12


@dataclass(frozen=True, kw_only=True)
class Inference:
    """How often to draw and how wide intervals are.

    Attributes:
        resamples: bootstrap resamples of the clusters.
        permutations: draws of a null distribution; the smallest p-value is ``1 / (1 + permutations)``.
        seed: of every draw.
        level: coverage that intervals aim at.

    Raises:
        ValueError: no draws, or a level outside (0, 1).
    """

    resamples: int = 1000
    permutations: int = 1000
    seed: int = 0
    level: float = 0.95

    def __post_init__(self) -> None:
        """Refuse settings that define no interval."""
        if min(self.resamples, self.permutations) < 1:
            raise ValueError("resamples and permutations must be at least 1")
        if not 0 < self.level < 1:
            raise ValueError(f"level is {self.level}, expected a number between 0 and 1")

    def interval(self, draws: np.ndarray) -> tuple[float, float]:
        """Central ``level`` of the draws (percentile interval)."""
        tail = (1 - self.level) / 2
        low, high = np.quantile(draws, [tail, 1 - tail])
        return float(low), float(high)

    def rng(self, purpose: int) -> np.random.Generator:
        """A generator of its own for each purpose, so that no two kinds of draws are correlated."""
        return np.random.default_rng([self.seed, purpose])


class NullFields(TypedDict):
    """The fields of an ``Estimate`` that speak of its null distribution."""

    null: float
    null_low: float
    null_high: float
    p_value: float


def permutation_p(observed: float, null: np.ndarray) -> float:
    """One-sided p-value ``(1 + #{null >= observed}) / (1 + B)`` (Phipson & Smyth 2010)."""
    return float((1 + np.count_nonzero(null >= observed - ROUNDING)) / (1 + len(null)))


def null_fields(observed: float, null: np.ndarray, inference: Inference) -> NullFields:
    """Mean and central ``level`` of null draws ``(B,)`` with the p-value of ``observed`` being large."""
    low, high = inference.interval(null)
    p_value = permutation_p(observed, null)
    return {"null": float(np.mean(null)), "null_low": low, "null_high": high, "p_value": p_value}


def cluster_count(clusters: np.ndarray) -> int:
    """How many distinct clusters there are."""
    return len(np.unique(clusters))


def resampled_sums(values: np.ndarray, clusters: np.ndarray, inference: Inference) -> np.ndarray:
    """Column sums of ``values`` ``(n, k)`` in each bootstrap resample of the clusters, ``(resamples, k)``.

    Every resample is a row of counts over clusters (multinomial), so the sums are one matrix product.

    Raises:
        ValueError: fewer than two clusters, or not one cluster per row.
    """
    names, codes = np.unique(clusters, return_inverse=True)
    if len(codes) != len(values):
        raise ValueError(f"{len(values)} observations but {len(codes)} cluster names")
    if len(names) < 2:
        raise ValueError(f"an interval needs at least two clusters, got {len(names)}")
    members = csr_array((np.ones(len(codes)), (codes, np.arange(len(codes)))))
    per_cluster = members @ np.asarray(values, dtype=np.float64)
    rng, count = inference.rng(0), len(names)
    block = max(1, BLOCK_CELLS // count)
    sums = []
    for start in range(0, inference.resamples, block):
        rows = min(block, inference.resamples - start)
        drawn = rng.integers(count, size=(rows, count)) + count * np.arange(rows)[:, None]
        times = np.bincount(drawn.ravel(), minlength=rows * count).reshape(rows, count)
        sums.append(times.astype(np.float64) @ per_cluster)
    return np.concatenate(sums)


def mean_interval(
    values: np.ndarray, clusters: np.ndarray, inference: Inference
) -> tuple[float, float, float]:
    """Mean of ``values`` ``(n,)`` with its interval: ``(value, low, high)``.

    Raises:
        ValueError: fewer than two clusters, or not one cluster per value.
    """
    sums = resampled_sums(np.column_stack([values, np.ones(len(values))]), clusters, inference)
    low, high = inference.interval(sums[:, 0] / sums[:, 1])
    return float(np.mean(values, dtype=np.float64)), low, high


def paired_mean_difference(
    after: np.ndarray, before: np.ndarray, clusters: np.ndarray, inference: Inference
) -> tuple[float, float, float, float]:
    """Mean of ``after - before`` ``(n,)`` on the same observations: ``(value, low, high, p)``.

    ``p`` is one-sided for a *fall*; its null swaps the two systems in whole clusters.

    Raises:
        ValueError: different shapes, fewer than two clusters, or not one cluster per value.
    """
    if np.shape(after) != np.shape(before):
        raise ValueError(f"pairs need equal shapes, got {np.shape(after)} and {np.shape(before)}")
    change = np.asarray(after, dtype=np.float64) - np.asarray(before, dtype=np.float64)
    value, low, high = mean_interval(change, clusters, inference)
    null = [np.mean(np.where(swap, -change, change)) for swap in paired_swaps(clusters, inference)]
    return value, low, high, permutation_p(-value, -np.array(null))


def paired_swaps(clusters: np.ndarray, inference: Inference) -> Iterator[np.ndarray]:
    """Masks ``(n,)`` that say where two systems change places: each cluster as a whole, with p = 1/2."""
    names, codes = np.unique(clusters, return_inverse=True)
    rng = inference.rng(1)
    for _ in range(inference.permutations):
        yield rng.integers(2, size=len(names), dtype=bool)[codes]


def permuted_labels(labels: np.ndarray, clusters: np.ndarray, inference: Inference) -> Iterator[np.ndarray]:
    """Labels ``(n,)`` under the null that they say nothing, with the dependence inside clusters kept.

    In a cluster that holds several groups the groups trade names at random (two groups: the whole cluster
    is swapped with p = 1/2). Clusters that hold one group trade their label with one another.
    """
    _, cluster = np.unique(clusters, return_inverse=True)
    groups, label = np.unique(labels, return_inverse=True)
    cells, cell_of = np.unique(cluster * len(groups) + label, return_inverse=True)
    owner, cell_label = np.divmod(cells, len(groups))
    block = np.where(np.bincount(owner)[owner] == 1, -1, owner)
    in_order = np.argsort(block, kind="stable")
    rng = inference.rng(2)
    permuted = np.empty_like(cell_label)
    for _ in range(inference.permutations):
        permuted[in_order] = cell_label[np.lexsort((rng.random(len(cells)), block))]
        yield groups[permuted[cell_of]]


def balanced_accuracy(predictions: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Mean recall over the groups present, for each of a stack of predictions.

    Args:
        predictions: group codes (integers from 0) ``(a, n)``, one row per attacker.
        labels: true group codes ``(n,)``.

    Returns:
        ``(a,)``.
    """
    sizes = np.bincount(labels)
    hits = [np.bincount(labels[row == labels], minlength=len(sizes)) for row in predictions]
    return _mean_recall(np.stack(hits), sizes)


def bootstrap_balanced_accuracy(
    predictions: np.ndarray, labels: np.ndarray, clusters: np.ndarray, inference: Inference
) -> np.ndarray:
    """``balanced_accuracy`` in each resample of the clusters, ``(resamples, a)``.

    A resample that lost a group averages over the groups it still holds. The maximum over the last axis
    is the resampled maximum over attackers.
    """
    present = np.eye(labels.max() + 1)[labels]
    hits = [present * (row == labels)[:, None] for row in predictions]
    sums = resampled_sums(np.hstack([present, *hits]), clusters, inference)
    sizes, *hit_sums = np.split(sums, len(predictions) + 1, axis=1)
    return np.stack([_mean_recall(each, sizes) for each in hit_sums], axis=1)


def null_balanced_accuracy(
    predictions: np.ndarray, labels: np.ndarray, clusters: np.ndarray, inference: Inference
) -> np.ndarray:
    """``balanced_accuracy`` of the same predictions against ``permuted_labels``, ``(permutations, a)``."""
    draws = permuted_labels(labels, clusters, inference)
    return np.stack([balanced_accuracy(predictions, drawn) for drawn in draws])


def _mean_recall(hits: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    recall = hits / np.maximum(sizes, 1)
    return recall.sum(axis=-1) / np.count_nonzero(sizes, axis=-1)
