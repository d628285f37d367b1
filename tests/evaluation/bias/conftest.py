"""Observations in clusters, with groups that share clusters or have clusters of their own."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

Layout = Callable[..., tuple[np.ndarray, np.ndarray, np.ndarray]]


@pytest.fixture
def layout() -> Layout:
    """``layout(rng, mixed=…, count=…, size=…)``: clusters, labels of two groups, and cells ``(n,)``.

    A cell is what answers alike: a group inside a cluster where clusters are mixed, else a whole cluster.
    """

    def made(
        rng: np.random.Generator, *, mixed: bool, count: int, size: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        clusters = np.repeat(np.arange(count), size)
        inside = np.tile(np.repeat([0, 1], size // 2), count)
        labels = inside if mixed else rng.permutation(np.arange(count) % 2)[clusters]
        return clusters, labels, clusters * 2 + inside if mixed else clusters

    return made
