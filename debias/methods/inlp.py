"""INLP: fit a linear probe, project onto the null space of its weights, and again until none is left."""

from __future__ import annotations

import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from torch import Tensor

from debias.eraser import Eraser
from debias.methods.base import RowFitter
from debias.rows import DEFAULT_LIMIT, Split

NOISE = 1.645  # standard errors above chance: what 5% of probes without any signal exceed


class InlpFitter(RowFitter):
    """Needs labels; projects out the weights of one linear probe after another: linear attackers find less.

    Ravfogel et al. 2020 (arXiv 2004.07667), algorithm 1: a logistic probe with balanced groups is fitted on
    three quarters of the sample, the span of its weights (at most groups − 1 directions) is projected out,
    and so on until a probe's balanced accuracy on the last quarter is within its noise of chance, or
    ``iterations`` are done. x ↦ x − Q Qᵀ (x − μ) with Q an orthonormal basis of all the spans, so the order
    of the iterations does not matter. Each iteration costs up to groups − 1 directions where LEACE needs that
    many in all; nonlinear attackers keep what differs beyond a linear probe's reach.

    The held-out quarter is a random one: where rows resemble each other (drawings of one emoji), it says less
    about fresh rows than it seems.

    Args:
        dim: width d of the vectors.
        groups: number of groups.
        iterations: most probes to project out.
        seed: of the sample and the split.
        strength: 0, the identity, to 1, the full projection.
        limit: most rows kept, see ``LabelledRows``.
    """

    def __init__(
        self,
        dim: int,
        groups: int,
        *,
        iterations: int = 20,
        seed: int = 0,
        strength: float = 1.0,
        limit: int = DEFAULT_LIMIT,
    ) -> None:
        if iterations < 1:
            raise ValueError(f"iterations is {iterations}, expected at least 1")
        super().__init__(dim, groups, limit=limit, seed=seed)
        self.iterations, self.seed, self.strength = iterations, seed, strength

    @property
    def eraser(self) -> Eraser:
        """INLP on the rows so far.

        ``details`` holds the rows ``labelled`` per group, ``balanced_accuracy`` of the probe on held-out rows
        before each iteration and after the last, and the number of ``iterations`` done.

        Raises:
            ValueError: what ``LabelledRows.split`` refuses, or ``strength`` is not from 0 to 1.
        """
        split = self.rows.split()
        basis = torch.zeros(self.rows.moments.dim, 0, dtype=torch.float64)
        accuracies: list[float] = []
        while True:
            left = split._replace(x=_project(split.x, basis), held_x=_project(split.held_x, basis))
            weights, accuracy = _probe(left)
            accuracies.append(accuracy)
            if accuracy <= _noise_limit(split.held_z) or len(accuracies) > self.iterations:
                break
            basis = torch.cat([basis, _span(_project(weights, basis))], dim=1)
        return Eraser(
            self.rows.moments.mean,
            basis,
            basis,
            method="inlp",
            changes_images=True,
            details={
                "labelled": self.labelled,
                "iterations": len(accuracies) - 1,
                "balanced_accuracy": accuracies,
                "seed": self.seed,
            },
        ).at_strength(self.strength)


def _project(rows: Tensor, basis: Tensor) -> Tensor:
    return rows - (rows @ basis) @ basis.mT


def _probe(split: Split) -> tuple[Tensor, float]:
    """Weights ``(probes, d)`` of a balanced logistic probe and its balanced accuracy on held-out rows."""
    centre = split.x.mean(0)
    scale = (split.x - centre).square().mean().sqrt().clamp_min(torch.finfo(torch.float64).tiny)
    model = LogisticRegression(class_weight="balanced", solver="newton-cholesky", max_iter=200)
    model.fit(((split.x - centre) / scale).numpy(), split.z.numpy())
    found = model.predict(((split.held_x - centre) / scale).numpy())
    return torch.from_numpy(model.coef_), float(balanced_accuracy_score(split.held_z.numpy(), found))


def _noise_limit(z: Tensor) -> float:
    """What balanced accuracy on groups ``z`` exceeds by luck one time in twenty, if it is normal."""
    counts = z.bincount().double()
    chance = 1 / len(counts)
    error = (chance * (1 - chance) / counts).sum().sqrt() / len(counts)
    return chance + NOISE * float(error)


def _span(weights: Tensor) -> Tensor:
    """Orthonormal basis ``(d, r)`` of the rows; those of several groups sum to zero, so r is one less."""
    _, lengths, directions = torch.linalg.svd(weights, full_matrices=False)
    return directions[lengths > 1e-6 * lengths[0]].mT
