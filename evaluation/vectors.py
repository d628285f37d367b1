"""Embeddings as unit vectors."""

from __future__ import annotations

import numpy as np


def unit_rows(x: np.ndarray) -> np.ndarray:
    """Rows of ``x`` ``(..., d)`` at length one, in float64; a zero row stays zero.

    Raises:
        ValueError: a number that is not finite.
    """
    x = np.asarray(x, dtype=np.float64)
    if not np.isfinite(x).all():
        raise ValueError("embeddings hold numbers that are not finite")
    length = np.linalg.norm(x, axis=-1, keepdims=True)
    return np.divide(x, length, out=np.zeros_like(x), where=length > 0)
