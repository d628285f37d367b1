"""What probes share: each answers with a class, and its hits become rows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from evaluation.inference import paired_mean_difference
from evaluation.results import Estimate
from evaluation.setting import Setting


@dataclass(frozen=True)
class Hits:
    """Which observations a probe gave their class, and which one constant answer would have.

    Attributes:
        measure: the end of the rows' names, e.g. ``accuracy``.
        hits, constant: ``(n,)`` bool; ``constant`` of always answering the commonest training class.
    """

    measure: str
    hits: np.ndarray
    constant: np.ndarray

    def row(self, name: str, *, at: Setting) -> Estimate:
        """Row ``probe/{name}_{measure}``: share of hits.

        The null is the accuracy of the constant answer; the p-value (one-sided, probe better) swaps the two
        answers in whole clusters.

        Raises:
            ValueError: not one cluster per observation, or fewer than two.
        """
        *_, p_value = paired_mean_difference(self.constant, self.hits, at.clusters, at.inference)
        return at.mean(
            f"probe/{name}_{self.measure}",
            self.hits,
            higher_is_better=True,
            null=float(np.mean(self.constant)),
            p_value=p_value,
        )

    def change(self, before: Hits, name: str, *, at: Setting) -> Estimate:
        """Row ``probe/{name}_{measure}_change``: share of hits minus that of another system's probe, paired.

        The null is no change; a small p-value says that accuracy *fell*.

        Raises:
            ValueError: hits of different probes or observations, not one cluster per observation, or fewer
                than two.
        """
        if before.measure != self.measure:
            raise ValueError(f"a change of {self.measure} cannot start from {before.measure}")
        return at.change(f"probe/{name}_{self.measure}", self.hits, before.hits, higher_is_better=True)


class Probe(ABC):
    """A classifier fitted once on frozen features.

    Args:
        y: training class names or numbers ``(n,)``.
    """

    measure: ClassVar[str]

    def __init__(self, y: np.ndarray) -> None:
        self.classes, self.codes, counts = np.unique(y, return_inverse=True, return_counts=True)
        self.commonest = self.classes[np.argmax(counts)]

    @abstractmethod
    def predict(self, x: np.ndarray) -> np.ndarray:
        """Class ``(m,)`` of features ``(m, d)``."""

    def hits(self, x: np.ndarray, y: np.ndarray) -> Hits:
        """Where ``x`` ``(m, d)`` is given its class ``y`` ``(m,)``; a class never trained on never is."""
        return Hits(self.measure, self.predict(x) == y, y == self.commonest)
