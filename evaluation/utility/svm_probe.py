"""Linear SVMs on frozen features, one per class, as published VOC07 figures are made (Goyal et al. 2019)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from sklearn.svm import LinearSVC
from threadpoolctl import threadpool_limits

from evaluation.utility.average_precision import average_precision
from evaluation.vectors import unit_rows

COSTS = (0.01, 0.1, 1.0, 10.0)
FOLDS = 3
CLASS_WEIGHT = {1: 2.0, -1: 1.0}
PURPOSE = 41


class SVMProbe:
    """One linear SVM per class: squared hinge, features at unit length, the class at twice the weight.

    The cost of each class is the one of 0.01, 0.1, 1, 10 with the best average precision over three folds of
    the training clusters (of costs that tie the lowest); every fold holds some of the class.
    "Difficult" observations are negatives in training; leave them out of a test with
    ``mean_average_precision``.

    Args:
        x: training features ``(n, d)``.
        targets: ``(n, c)``: 1 for the class, -1 for not, 0 for difficult.
        clusters: ``(n,)`` names.
        seed: of the folds.

    Raises:
        ValueError: targets of another shape or other numbers, features that are not finite, or a class with
            fewer than three clusters that hold it or three that do not.
    """

    def __init__(self, x: np.ndarray, targets: np.ndarray, clusters: np.ndarray, *, seed: int) -> None:
        targets = np.asarray(targets)
        if targets.ndim != 2 or len(targets) != len(x) or not np.isin(targets, (-1, 0, 1)).all():
            raise ValueError(f"targets are {targets.shape}, expected ({len(x)}, classes) of 1, -1, 0")
        features, own = unit_rows(x), np.where(targets == 1, 1, -1)
        rng = np.random.default_rng([seed, PURPOSE])
        with threadpool_limits(1):
            columns = [(column, _folds(column, clusters, rng)) for column in own.T]
            self.costs = [_best_cost(features, column, folds) for column, folds in columns]
            self.models = [
                _svm(cost).fit(features, column) for cost, column in zip(self.costs, own.T, strict=True)
            ]

    def scores(self, x: np.ndarray) -> np.ndarray:
        """Distance from every class's boundary, ``(m, c)``, of features ``(m, d)``.

        Raises:
            ValueError: features that are not finite.
        """
        features = unit_rows(x)
        return np.column_stack([model.decision_function(features) for model in self.models])


def _svm(cost: float) -> LinearSVC:
    # the primal problem: its solver draws no random numbers
    return LinearSVC(C=cost, loss="squared_hinge", dual=False, class_weight=CLASS_WEIGHT, max_iter=5000)


def _best_cost(features: np.ndarray, own: np.ndarray, folds: np.ndarray) -> float:
    def held_out(cost: float) -> Iterator[float]:
        for fold in range(FOLDS):
            test = folds == fold
            scores = _svm(cost).fit(features[~test], own[~test]).decision_function(features[test])
            yield float(average_precision(scores[:, None], own[test, None])[0, 0])

    return max(COSTS, key=lambda cost: sum(held_out(cost)))


def _folds(own: np.ndarray, clusters: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Fold ``(n,)`` of each observation: clusters with the class, and those without, are dealt out evenly."""
    names, cluster = np.unique(clusters, return_inverse=True)
    holds = np.bincount(cluster, own == 1, minlength=len(names)) > 0
    if min(holds.sum(), (~holds).sum()) < FOLDS:
        raise ValueError(
            f"a class is in {holds.sum()} of {len(names)} clusters, "
            f"an SVM probe needs at least {FOLDS} with it and {FOLDS} without"
        )
    fold = np.empty(len(names), dtype=np.intp)
    for group in (holds, ~holds):
        fold[rng.permutation(np.flatnonzero(group))] = np.arange(group.sum()) % FOLDS
    return fold[cluster]
