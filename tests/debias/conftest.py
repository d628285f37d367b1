"""Planted data and the linear probes that must find the group before an edit."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from torch import Tensor

from debias import Eraser, StreamingMoments

Planted = Callable[..., tuple[Tensor, Tensor]]
Probe = Callable[..., float]


@pytest.fixture
def planted() -> Planted:
    """Rows ``(n, d)`` whose group shifts the mean, under correlated noise with an offset; float64."""

    def make(
        shares: tuple[float, ...] = (0.5, 0.5), *, n: int = 600, d: int = 12, shift: float = 2.0
    ) -> tuple[Tensor, Tensor]:
        rng = np.random.default_rng(0)
        z = rng.permutation(np.repeat(np.arange(len(shares)), [round(share * n) for share in shares]))
        directions = np.linalg.qr(rng.standard_normal((d, len(shares)))).Q
        mixing = rng.standard_normal((d, d)) / d**0.5 + np.eye(d)
        x = 3.0 + (rng.standard_normal((len(z), d)) + shift * directions.T[z]) @ mixing
        return torch.from_numpy(x), torch.from_numpy(z)

    return make


@pytest.fixture
def least_squares() -> Probe:
    """Largest absolute coefficient of the unpenalised regression of the one-hot group on the rows."""

    def probe(x: Tensor, z: Tensor) -> float:
        one_hot = np.eye(int(z.max()) + 1)[z.numpy()]
        centred = x.numpy() - x.numpy().mean(0)
        return float(np.abs(np.linalg.lstsq(centred, one_hot - one_hot.mean(0), rcond=1e-9)[0]).max())

    return probe


@pytest.fixture
def logistic() -> Probe:
    """Balanced accuracy of a logistic probe on the rows it was fitted on, or on fresh rows."""

    def probe(x: Tensor, z: Tensor, *fresh: Tensor) -> float:
        model = LogisticRegression(class_weight="balanced", max_iter=5000).fit(x.numpy(), z.numpy())
        rows, groups = fresh or (x, z)
        return float(balanced_accuracy_score(groups.numpy(), model.predict(rows.numpy())))

    return probe


def any_eraser(seed: int, *, rank: int = 2, oblique: bool = False, changes_images: bool = True) -> Eraser:
    """Any affine edit of a rank in 6 dimensions, or an oblique projection about a point."""
    rng = np.random.default_rng(seed)
    shapes = [(6,), (6, rank), (6, rank), (6,)]
    mean, left, right, offset = (torch.from_numpy(rng.standard_normal(shape)) for shape in shapes)
    if oblique:
        right, offset = right @ torch.linalg.inv(left.T @ right), torch.zeros(6)
    return Eraser(
        mean, left, right, offset=offset, method="planted", changes_images=changes_images,
        details={"labelled": (3, 4)},
    )  # fmt: skip


def moments_of(x: Tensor, z: Tensor) -> StreamingMoments:
    return StreamingMoments(x.shape[1], int(z.max()) + 1).update(x, z)


def largest_gap(x: Tensor, z: Tensor) -> float:
    means = moments_of(x, z).group_means
    return float((means[:, None] - means[None]).abs().max())


def one_hot(z: Tensor) -> Tensor:
    """Groups ``(n,)`` as columns of 0 and 1, float64."""
    return torch.nn.functional.one_hot(z).double()
