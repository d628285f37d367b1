"""Linear probe: what a linear classifier reads from frozen features."""

from __future__ import annotations

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from evaluation.inference import Inference, cluster_count, mean_interval, paired_mean_difference
from evaluation.results import Estimate


def linear_probe(
    train_x: np.ndarray,
    train_y: np.ndarray,
    test_x: np.ndarray,
    test_y: np.ndarray,
    *,
    name: str,
    clusters: np.ndarray,
    split: str,
    system: str,
    inference: Inference,
    seed: int,
) -> list[Estimate]:
    """Row ``probe/{name}_accuracy`` of multinomial logistic regression on standardised features.

    The penalty is fixed at C = 1 and not tuned, so that nothing is selected on the test data. The null is
    the accuracy of always answering the commonest training class; the p-value (one-sided, probe better)
    swaps the two answers in whole clusters.

    Args:
        train_x, test_x: features ``(n, d)`` and ``(m, d)``.
        train_y, test_y: class names or numbers ``(n,)`` and ``(m,)``; a test class never trained on is
            always an error.
        name: of the task.
        clusters: ``(m,)`` names for the test data.
        split, system: for the row.
        inference: draws and level.
        seed: of the solver.

    Raises:
        ValueError: one training class only, or fewer than two test clusters.
    """
    solver = LogisticRegression(C=1.0, max_iter=5000, random_state=seed)
    probe = make_pipeline(StandardScaler(), solver).fit(np.asarray(train_x, dtype=np.float64), train_y)
    hits = probe.predict(np.asarray(test_x, dtype=np.float64)) == test_y
    classes, counts = np.unique(train_y, return_counts=True)
    constant = classes[np.argmax(counts)] == test_y
    value, low, high = mean_interval(hits, clusters, inference)
    *_, p_value = paired_mean_difference(constant, hits, clusters, inference)
    return [
        Estimate(
            name=f"probe/{name}_accuracy",
            value=value,
            low=low,
            high=high,
            null=float(np.mean(constant)),
            p_value=p_value,
            n=len(hits),
            n_clusters=cluster_count(clusters),
            split=split,
            system=system,
            higher_is_better=True,
        )
    ]
