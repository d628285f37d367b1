"""Nearest-neighbour probe: what the geometry of frozen features says without any training."""

from __future__ import annotations

import numpy as np

from evaluation.inference.bootstrap import BLOCK_CELLS
from evaluation.utility.probe import Probe
from evaluation.vectors import unit_rows

NEIGHBOURS = 20
TEMPERATURE = 0.07


class KNNProbe(Probe):
    """Vote of the nearest training features by cosine, each with weight exp(cosine / 0.07) (Wu et al. 2018).

    Twenty neighbours, fewer where there are fewer training features. Classes that tie go to the first.

    Args:
        x: training features ``(n, d)``.
        y: class names or numbers ``(n,)``.

    Raises:
        ValueError: features that are not finite.
    """

    measure = "knn_accuracy"

    def __init__(self, x: np.ndarray, y: np.ndarray) -> None:
        super().__init__(y)
        self.features = unit_rows(x)

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Class ``(m,)`` of features ``(m, d)``; similarities are held for a block at a time.

        Raises:
            ValueError: features that are not finite.
        """
        queries, count = unit_rows(x), len(self.features)
        k = min(NEIGHBOURS, count)
        step = max(1, BLOCK_CELLS // max(count, len(self.classes)))
        answers = []
        for low in range(0, len(queries), step):
            cosine = queries[low : low + step] @ self.features.T
            near = np.argpartition(cosine, count - k, axis=1)[:, count - k :]
            weight = np.exp(np.take_along_axis(cosine, near, axis=1) / TEMPERATURE)
            row = np.arange(len(cosine))[:, None] * len(self.classes)
            cells = (row + self.codes[near]).ravel()
            votes = np.bincount(cells, weight.ravel(), minlength=len(cosine) * len(self.classes))
            answers.append(votes.reshape(len(cosine), -1).argmax(axis=1))
        return np.asarray(self.classes[np.concatenate(answers)])
