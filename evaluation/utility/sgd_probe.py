"""Linear probe trained by stochastic gradient descent, as published ImageNet figures are."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from evaluation.utility.probe import Probe

RATES = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
BATCH = 256
MOMENTUM = 0.9
MILESTONES = (0.6, 0.8)
HELD_OUT = 5  # one cluster in so many
PURPOSE = 40


class SGDProbe(Probe):
    """Softmax regression: momentum 0.9, no weight decay, the rate cut to a tenth at 60% and 80% of epochs.

    Features are centred and brought by one number to a mean squared length of one: the classifier is then the
    same as on the features as they are, and learning rates of different systems compare. The rate is the best
    on one training cluster in five, held out (of rates that tie the lowest), and the probe is then trained
    anew on all of them. All rates are swept at once, as one batched product.

    Args:
        x: training features ``(n, d)``.
        y: class names or numbers ``(n,)``.
        clusters: ``(n,)`` names.
        seed: of the held-out part and of the order of the batches.
        epochs: passes over the data; the cost is in proportion.

    Raises:
        ValueError: one class only, fewer than two clusters, no epoch, or features that are not finite.
    """

    measure = "sgd_accuracy"

    def __init__(
        self, x: np.ndarray, y: np.ndarray, clusters: np.ndarray, *, seed: int, epochs: int = 100
    ) -> None:
        super().__init__(y)
        names, cluster = np.unique(clusters, return_inverse=True)
        if min(len(self.classes), len(names)) < 2 or epochs < 1:
            raise ValueError(
                f"{len(self.classes)} classes, {len(names)} clusters, {epochs} epochs: "
                "an SGD probe needs at least two, two and one"
            )
        rng = np.random.default_rng([seed, PURPOSE])
        held = np.zeros(len(names), dtype=bool)
        held[rng.permutation(len(names))[: max(1, len(names) // HELD_OUT)]] = True
        held_out = torch.from_numpy(held[cluster])
        self.centre, self.length = _centre_and_length(x)
        features, codes = self._features(x), torch.from_numpy(self.codes)
        rates = torch.tensor(RATES)
        swept = self._train(features[~held_out], codes[~held_out], rates, epochs, rng)
        right = (_scores(features[held_out], swept).argmax(2) == codes[held_out]).float().mean(dim=1)
        self.learning_rate = RATES[int(right.argmax())]
        best = torch.tensor([self.learning_rate])
        self.weight = self._train(features, codes, best, epochs, rng)

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Class ``(m,)`` of features ``(m, d)``."""
        return np.asarray(self.classes[_scores(self._features(x), self.weight)[0].argmax(1).numpy()])

    def _features(self, x: np.ndarray) -> Tensor:
        """Float32 with a column of ones for the intercept."""
        scaled = (np.asarray(x, dtype=np.float64) - self.centre) / self.length
        return F.pad(torch.from_numpy(scaled).float(), (0, 1), value=1.0)

    def _train(
        self, features: Tensor, codes: Tensor, rates: Tensor, epochs: int, rng: np.random.Generator
    ) -> Tensor:
        """Weights ``(rates, d + 1, classes)`` from zero, one probe for each rate, on the same batches."""
        weight = torch.zeros(len(rates), features.shape[1], len(self.classes))
        speed = torch.zeros_like(weight)
        for epoch in range(epochs):
            cuts = sum(epoch >= at * epochs for at in MILESTONES)
            step = rates[:, None, None] * 0.1**cuts
            for batch in torch.from_numpy(rng.permutation(len(features))).split(BATCH):
                inputs = features[batch]
                slope = _scores(inputs, weight).softmax(2)
                slope[:, torch.arange(len(batch)), codes[batch]] -= 1
                speed.mul_(MOMENTUM).add_(inputs.T @ slope, alpha=1 / len(batch))
                weight.sub_(step * speed)
        return weight


def _centre_and_length(x: np.ndarray) -> tuple[np.ndarray, float]:
    x = np.asarray(x, dtype=np.float64)
    if not np.isfinite(x).all():
        raise ValueError("features hold numbers that are not finite")
    centre = x.mean(axis=0)
    return centre, float(np.sqrt(((x - centre) ** 2).sum(axis=1).mean())) or 1.0


def _scores(inputs: Tensor, weight: Tensor) -> Tensor:
    """``(rates, n, classes)``."""
    return inputs @ weight
