"""p-values of many tests at once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Sequence

import numpy as np
from scipy.stats import false_discovery_control


def holm(p_values: np.ndarray) -> np.ndarray:
    """Adjusted p-values ``(m,)`` that bound the chance of any false finding (Holm 1979).

    Raises:
        ValueError: a p-value outside [0, 1].
    """
    p = _checked(p_values)
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted


def holm_by_family(p_values: Sequence[float | None], families: Sequence[Hashable]) -> list[float | None]:
    """``holm`` within each family; ``None``, which is no test, stays ``None``.

    Raises:
        ValueError: a p-value outside [0, 1], or not one family for each.
    """
    members: dict[Hashable, list[int]] = defaultdict(list)
    for place, (p_value, family) in enumerate(zip(p_values, families, strict=True)):
        if p_value is not None:
            members[family].append(place)
    adjusted: list[float | None] = [None] * len(p_values)
    for places in members.values():
        found = holm(np.array([p_values[place] for place in places], dtype=np.float64))
        for place, p_value in zip(places, found, strict=True):
            adjusted[place] = float(p_value)
    return adjusted


def benjamini_hochberg(p_values: np.ndarray) -> np.ndarray:
    """Adjusted p-values ``(m,)`` that bound the expected share of false findings (1995).

    Raises:
        ValueError: a p-value outside [0, 1].
    """
    p = _checked(p_values)
    return np.asarray(false_discovery_control(p, method="bh")) if len(p) else p


def _checked(p_values: np.ndarray) -> np.ndarray:
    p = np.asarray(p_values, dtype=np.float64)
    if not ((p >= 0) & (p <= 1)).all():
        raise ValueError("p-values lie between 0 and 1")
    return p
