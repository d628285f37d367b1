"""Linear probe: what a linear classifier reads from frozen features."""

from __future__ import annotations

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from evaluation.inference import Inference, cluster_count, mean_interval, paired_mean_difference
from evaluation.results import Estimate

GRADIENT_TOLERANCE = 1e-3  # accuracy on the emoji corpus as at 1e-4, in less than half the steps


class LinearProbe:
    """Multinomial logistic regression on standardised features, C = 1.

    The penalty is fixed and not tuned, so that nothing is selected on the test data.

    Args:
        x: training features ``(n, d)``.
        y: class names or numbers ``(n,)``.
        seed: of the solver.

    Raises:
        ValueError: one class only.
    """

    def __init__(self, x: np.ndarray, y: np.ndarray, *, seed: int) -> None:
        solver = LogisticRegression(C=1.0, tol=GRADIENT_TOLERANCE, max_iter=5000, random_state=seed)
        with threadpool_limits(1):  # these products are too small to share out
            self.model = make_pipeline(StandardScaler(), solver).fit(np.asarray(x, dtype=np.float64), y)
        classes, counts = np.unique(y, return_counts=True)
        self.commonest = classes[np.argmax(counts)]

    def accuracy(
        self,
        x: np.ndarray,
        y: np.ndarray,
        *,
        name: str,
        clusters: np.ndarray,
        split: str,
        system: str,
        inference: Inference,
    ) -> Estimate:
        """Row ``probe/{name}_accuracy``: share of ``x`` ``(m, d)`` given its class ``y`` ``(m,)``.

        A class never trained on is always an error. The null is the accuracy of always answering the
        commonest training class; the p-value (one-sided, probe better) swaps the two answers in whole
        clusters.

        Raises:
            ValueError: fewer than two clusters.
        """
        hits = self.model.predict(np.asarray(x, dtype=np.float64)) == y
        constant = y == self.commonest
        value, low, high = mean_interval(hits, clusters, inference)
        *_, p_value = paired_mean_difference(constant, hits, clusters, inference)
        return Estimate(
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
