"""MaxSkew, MinSkew and NDKL of group counts, and an interval for a mean of maxima (Geyik et al. 2019)."""

from __future__ import annotations

import numpy as np

from evaluation.inference import Inference


def log_ratios(top: np.ndarray, places: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Natural log of a group's share of the first places over the share it should have, ``(b, p, g)``.

    A count below one half is read as one half, or as the expected count where that is smaller: a group nobody
    would expect among ten images is not missing from them. A group of no share at all has ratio 0.

    Args:
        top: weight of each group in the first places, ``(b, p, g)``.
        places: ``(b, p)``.
        share: ``(b, g)``.
    """
    expected = places[..., None] * share[:, None, :]
    counted = np.maximum(top, np.minimum(0.5, expected))
    return np.log(np.divide(counted, expected, out=np.ones_like(counted), where=expected > 0))


def ndkl(top: np.ndarray, places: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Mean over prefixes ``i = 1..p`` of KL(prefix, share) in nats, weight ``1 / log2(i + 1)``: ``(b,)``.

    Arguments as in ``log_ratios``; the places are those of the prefixes in turn.
    """
    found = top / places[..., None]
    ratio = np.divide(found, share[:, None, :], out=np.ones_like(found), where=found > 0)
    discount = 1.0 / np.log2(np.arange(2, places.shape[1] + 2))
    return (found * np.log(ratio)).sum(axis=2) @ (discount / discount.sum())


def room(values: np.ndarray, draws: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """How far the mean of ``max`` over groups may lie from its estimate: least and most, each ``(b,)``.

    The maximum is not smooth where groups tie and a naive bootstrap of it is biased upwards. Here the groups
    that may hold the maximum are kept (within ``sqrt(2 log log count)`` standard errors of the largest:
    Andrews & Soares 2010), and the least and the largest of *their* deviations are averaged over queries
    (Fang & Santos 2019). With one group clearly ahead both are the plain bootstrap deviation; with ties they
    are wider.

    Args:
        values: ``(q, g)``.
        draws: bootstrap draws of them, ``(q, b, g)``.
        count: of clusters.
    """
    lead = values.argmax(axis=1)
    behind = np.take_along_axis(values, lead[:, None], 1) - values
    leading = np.take_along_axis(draws, lead[:, None, None], 2)
    spread = (leading - draws).std(axis=1)
    candidate = behind <= np.sqrt(2 * np.log(np.log(max(count, 16)))) * spread
    moved = draws - values[:, None, :]
    least = np.where(candidate[:, None, :], moved, np.inf).min(axis=2)
    most = np.where(candidate[:, None, :], moved, -np.inf).max(axis=2)
    return least.mean(axis=0), most.mean(axis=0)


def tails(value: float, least: np.ndarray, most: np.ndarray, inference: Inference) -> tuple[float, float]:
    """Interval from the lower tail of ``value + least`` and the upper tail of ``value + most``."""
    return value + inference.interval(least)[0], value + inference.interval(most)[1]
