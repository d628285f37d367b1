"""The control of every removal: project out random directions, as many as the method under test removes."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from debias.eraser import Eraser


def random_direction(dim: int, *, rank: int, mean: Tensor | None = None, seed: int) -> Eraser:
    """Orthogonal projection x ↦ x − Q Qᵀ (x − mean) with ``rank`` uniformly random orthonormal columns Q.

    Args:
        dim: width d of the vectors.
        rank: number of directions.
        mean: ``(d,)``, kept in place; the origin by default.
        seed: of the directions.

    Raises:
        ValueError: ``rank`` is not between 1 and ``dim``, or ``mean`` is not ``(dim,)``.
    """
    if not 1 <= rank <= dim:
        raise ValueError(f"rank is {rank}, expected 1 to dim, which is {dim}")
    normal = np.random.default_rng(seed).standard_normal((dim, rank))
    directions = torch.from_numpy(np.linalg.qr(normal).Q)
    return Eraser(
        torch.zeros(dim) if mean is None else mean,
        directions,
        directions,
        method="random_direction",
        changes_images=True,
        details={"seed": seed},
    )
