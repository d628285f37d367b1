"""Balanced accuracy and AUC of a stack of attackers, in resamples and under permuted labels.

A stack is an attacker per row. The maximum over the last axis of what is drawn here is the draw of the
maximum over attackers.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy.stats import rankdata

from evaluation.inference import Inference, permuted_labels, resampled_counts, resampled_sums


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
    return mean_recall(np.stack(hits), sizes)


def bootstrap_balanced_accuracy(
    predictions: np.ndarray, labels: np.ndarray, clusters: np.ndarray, inference: Inference
) -> np.ndarray:
    """``balanced_accuracy`` in each resample of the clusters, ``(resamples, a)``.

    A resample that lost a group averages over the groups it still holds.
    """
    present = np.eye(labels.max() + 1)[labels]
    hits = [present * (row == labels)[:, None] for row in predictions]
    sums = resampled_sums(np.hstack([present, *hits]), clusters, inference)
    sizes, *hit_sums = np.split(sums, len(predictions) + 1, axis=1)
    return np.stack([mean_recall(each, sizes) for each in hit_sums], axis=1)


def null_balanced_accuracy(
    predictions: np.ndarray, labels: np.ndarray, clusters: np.ndarray, inference: Inference
) -> np.ndarray:
    """``balanced_accuracy`` of the same predictions against ``permuted_labels``, ``(permutations, a)``."""
    draws = permuted_labels(labels, clusters, inference)
    return np.stack([balanced_accuracy(predictions, drawn) for drawn in draws])


def mean_recall(hits: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Mean over the last axis of ``hits / sizes``, leaving out groups of size zero."""
    recall = hits / np.maximum(sizes, 1)
    return recall.sum(axis=-1) / np.count_nonzero(sizes, axis=-1)


def auc(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Area under the ROC curve: the chance that a member outscores another (Hanley & McNeil 1982), ties half.

    Of two groups it is that of the second one's score. Of more it is the mean over the groups present of each
    against the rest.

    Args:
        scores: ``(a, n, groups)``, an attacker in each; of two groups one's score falls as the other's rises.
        labels: true group codes ``(n,)``, two groups at least.

    Returns:
        ``(a,)``.
    """
    ranks = _ranks(scores)
    return _auc_of_ranks(ranks, labels)


def bootstrap_auc(
    scores: np.ndarray, labels: np.ndarray, clusters: np.ndarray, inference: Inference
) -> np.ndarray:
    """``auc`` in each resample of the clusters, ``(resamples, a)``.

    NaN where a resample lost all groups but one, as it has no pair to compare.
    """
    names, cluster = np.unique(clusters, return_inverse=True)
    pairs = [
        [_Pairs(column, labels == group, cluster) for group, column in each] for each in _columns(scores)
    ]
    drawn = []
    for counts in resampled_counts(len(names), inference):
        areas = np.array([[pair.area(counts) for pair in each] for each in pairs])
        defined = ~np.isnan(areas)
        total = np.where(defined, areas, 0.0).sum(axis=1)
        known = defined.sum(axis=1)
        drawn.append(np.where(known > 0, total / np.maximum(known, 1), np.nan).T)
    return np.concatenate(drawn)


def null_auc(
    scores: np.ndarray, labels: np.ndarray, clusters: np.ndarray, inference: Inference
) -> np.ndarray:
    """``auc`` of the same scores against ``permuted_labels``, ``(permutations, a)``."""
    ranks = _ranks(scores)
    draws = permuted_labels(labels, clusters, inference)
    return np.stack([_auc_of_ranks(ranks, drawn) for drawn in draws])


class _Pairs:
    """Members and others of one group, by cluster, in the order of one attacker's score."""

    def __init__(self, column: np.ndarray, member: np.ndarray, cluster: np.ndarray) -> None:
        others = np.sort(column[~member])
        self.others = cluster[~member][np.argsort(column[~member], kind="stable")]
        self.members = cluster[member]
        self.below = np.searchsorted(others, column[member], side="left")
        self.up_to = np.searchsorted(others, column[member], side="right")

    def area(self, counts: np.ndarray) -> np.ndarray:
        """AUC ``(b,)`` with every observation weighted by the count of its cluster, ``(b, clusters)``."""
        before = np.zeros((len(counts), len(self.others) + 1))
        np.cumsum(counts[:, self.others], axis=1, out=before[:, 1:])
        weight = counts[:, self.members].astype(np.float64)
        won = np.einsum("bp,bp->b", weight, before[:, self.below])
        won += np.einsum("bp,bp->b", weight, before[:, self.up_to])
        compared = weight.sum(axis=1) * before[:, -1]
        return np.where(compared > 0, won / (2 * np.maximum(compared, 1)), np.nan)


def _columns(scores: np.ndarray) -> Iterator[list[tuple[int, np.ndarray]]]:
    """For each attacker the groups told apart with the score ``(n,)`` of each against the rest."""
    for each in scores:
        if each.shape[1] == 2:
            yield [(1, each[:, 1])]
        else:
            yield list(enumerate(each.T))


def _ranks(scores: np.ndarray) -> np.ndarray:
    """Mid-ranks ``(groups told apart, n, a)`` of the columns of every attacker."""
    return np.stack([[rankdata(column) for _, column in each] for each in _columns(scores)]).transpose(
        1, 2, 0
    )


def _auc_of_ranks(ranks: np.ndarray, labels: np.ndarray) -> np.ndarray:
    areas = []
    for group, each in zip([1] if len(ranks) == 1 else range(len(ranks)), ranks, strict=True):
        member = (labels == group).astype(np.float64)
        size = member.sum()
        if 0 < size < len(labels):
            won = member @ each - size * (size + 1) / 2
            areas.append(won / (size * (len(labels) - size)))
    return np.mean(areas, axis=0)
