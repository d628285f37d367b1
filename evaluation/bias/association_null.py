"""Statistics of an association as functions of sums, and their null distributions."""

from __future__ import annotations

from itertools import combinations, product

import numpy as np
from scipy.special import comb

from evaluation.inference import Inference, cluster_sums, paired_swaps, permutation_p, permuted_labels

EXACT_SPLITS = 10_000


def association_sums(score: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Columns whose sums tell both statistics: s and count of each target, s squared."""
    return np.column_stack([score * first, first, score * ~first, ~first, score**2]).astype(np.float64)


def _difference(sums: np.ndarray) -> np.ndarray:
    """Not a number where a resample lacks a target."""
    counts = sums[..., [1, 3]]
    means = np.divide(sums[..., [0, 2]], counts, out=np.full(counts.shape, np.nan), where=counts > 0)
    return means[..., 0] - means[..., 1]


def _effect(sums: np.ndarray) -> np.ndarray:
    count = sums[..., 1] + sums[..., 3]
    total = sums[..., 0] + sums[..., 2]
    squares = sums[..., 4] - total**2 / np.maximum(count, 1)
    spread = np.sqrt(np.maximum(squares, 0) / np.maximum(count - 1, 1))
    difference = _difference(sums)
    return np.divide(difference, spread, out=np.full(np.shape(spread), np.nan), where=spread > 0)


STATISTICS = {"effect_size": _effect, "difference": _difference}


def label_null(
    score: np.ndarray, first: np.ndarray, clusters: np.ndarray, inference: Inference
) -> tuple[np.ndarray, bool]:
    """Differences under permuted labels, and whether they are all there are."""
    centred = score - score.mean()
    sums: np.ndarray = np.asarray(cluster_sums(association_sums(centred, first), clusters))
    mixed = (sums[:, 1] > 0) & (sums[:, 3] > 0)
    pure = np.flatnonzero(~mixed)
    chosen = int((sums[pure, 1] > 0).sum())
    if comb(len(pure), chosen) * 2.0 ** min(int(mixed.sum()), 64) <= EXACT_SPLITS:
        return _every_split(sums, pure, chosen), True
    drawn = []
    for labels in permuted_labels(first, clusters, inference):
        inside = centred[labels].sum()
        drawn.append(inside / labels.sum() - (centred.sum() - inside) / (~labels).sum())
    return np.array(drawn), False


def _every_split(sums: np.ndarray, pure: np.ndarray, chosen: int) -> np.ndarray:
    """Differences of all splits: ``chosen`` of the pure clusters first, every mixed one either way."""
    mixed = np.setdiff1d(np.arange(len(sums)), pure)
    whole = sums[pure, 0:2] + sums[pure, 2:4]
    picks = np.array(list(combinations(range(len(pure)), chosen)), dtype=np.intp)
    turns = np.array(list(product((0, 1), repeat=len(mixed))), dtype=np.intp)
    sides = np.stack([sums[mixed, 0:2], sums[mixed, 2:4]])
    inside = whole[picks].sum(axis=1)[:, None] + sides[turns, np.arange(len(mixed))].sum(axis=1)[None]
    outside = sums[:, 0:2].sum(axis=0) + sums[:, 2:4].sum(axis=0) - inside
    return (inside[..., 0] / inside[..., 1] - outside[..., 0] / outside[..., 1]).ravel()


def swap_null(
    old: np.ndarray,
    new: np.ndarray,
    first: np.ndarray,
    kind: str,
    clusters: np.ndarray,
    inference: Inference,
) -> np.ndarray:
    """Changes ``(permutations,)`` when two systems exchange the scores of whole clusters."""
    before, after = association_sums(old, first), association_sums(new, first)
    moved = np.stack(
        [swap.astype(np.float64) @ (after - before) for swap in paired_swaps(clusters, inference)]
    )
    statistic = STATISTICS[kind]
    return statistic(after.sum(axis=0) - moved) - statistic(before.sum(axis=0) + moved)


def two_sided(value: float, null: np.ndarray, *, exact: bool) -> float:
    """The share of all splits as far from zero; of random ones with the observed among them."""
    if exact:
        return float(np.mean(np.abs(null) >= abs(value) - 1e-12))
    return permutation_p(abs(value), np.abs(null))
