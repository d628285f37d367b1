"""Linear probe: what a linear classifier reads from frozen features."""

from __future__ import annotations

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from evaluation.utility.probe import Probe

GRADIENT_TOLERANCE = 1e-3  # accuracy on the emoji corpus as at 1e-4, in less than half the steps


class LinearProbe(Probe):
    """Multinomial logistic regression on standardised features, C = 1.

    The penalty is fixed and not tuned, so that nothing is selected on the test data.

    Args:
        x: training features ``(n, d)``.
        y: class names or numbers ``(n,)``.
        seed: of the solver.

    Raises:
        ValueError: one class only.
    """

    measure = "accuracy"

    def __init__(self, x: np.ndarray, y: np.ndarray, *, seed: int) -> None:
        super().__init__(y)
        solver = LogisticRegression(C=1.0, tol=GRADIENT_TOLERANCE, max_iter=5000, random_state=seed)
        with threadpool_limits(1):  # these products are too small to share out
            self.model = make_pipeline(StandardScaler(), solver).fit(np.asarray(x, dtype=np.float64), y)

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Class ``(m,)`` of features ``(m, d)``."""
        return np.asarray(self.model.predict(np.asarray(x, dtype=np.float64)))
