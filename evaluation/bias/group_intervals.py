"""Intervals of the largest difference between groups, for groups of any size.

The trap: a largest absolute difference is above 0 under no bias, its bootstrap is above it again, and so a
percentile interval of it lies too high and never holds 0. What is done instead:

- The largest difference is the maximum of signed contrasts (rate of one group minus that of another, per
  class). Each rate gets a Wilson interval (1927) whose effective number of observations comes from the
  variance of its clustered bootstrap draws, so that a rate of exactly 0 or 1 has a width too. Each contrast
  combines two of them, with the correlation of the two draws ("square and add": Newcombe 1998; Zou & Donner
  2008; for ratios Donner & Zou 2012).
- A maximum is at least each of its parts: its lower limit is the largest of lower limits that hold at once
  (Bonferroni over the contrasts that can still be the maximum, as in Chernozhukov, Lee & Rosen 2013), and
  its upper limit is the largest upper limit. With several contrasts near the maximum, or none above 0, it
  covers more than its level says.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.stats import t

from evaluation.bias.group_rates import Rates
from evaluation.inference.bootstrap import BLOCK_CELLS

Limits = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Contrasts:
    """What a maximum is taken over.

    Attributes:
        value: ``(m,)``.
        limits: lower and upper limits ``(m,)`` that each miss with the given probability.
        draws: in resamples, ``(resamples, k)`` for ``k`` positions among the ``m``.
    """

    value: np.ndarray
    limits: Callable[[float], Limits]
    draws: Callable[[np.ndarray], np.ndarray]

    def near(self, tail: float) -> np.ndarray:
        """Positions of the contrasts that can be the largest: upper limit at or above all lower limits."""
        low, high = self.limits(tail)
        return np.flatnonzero(high >= low.max())


def rate_limits(rates: Rates, tail: float) -> Limits:
    """Wilson limits of each rate ``(groups, classes)`` with an effective number of observations.

    Student's t stands for the normal quantile, with the clusters of the group less one as degrees of freedom.
    """
    clusters = rates.clusters[:, None]
    spread = np.nan_to_num(_centred(rates.draws)).var(axis=0) * clusters / (clusters - 1)
    p = rates.value
    worth = np.divide(p * (1 - p), spread, out=rates.size / rates.fused[:, None], where=spread > 0)
    worth = np.clip(worth, 1.0, rates.size)
    z2 = t.ppf(1 - tail, clusters - 1) ** 2
    middle = (p + z2 / (2 * worth)) / (1 + z2 / worth)
    half = np.sqrt(z2 * (p * (1 - p) / worth + z2 / (4 * worth**2))) / (1 + z2 / worth)
    # at 0 and 1 the limit is the rate itself, which rounding would otherwise put past it
    return np.minimum(np.maximum(middle - half, 0), p), np.maximum(np.minimum(middle + half, 1), p)


def differences(rates: Rates) -> Contrasts:
    """Every group's rate minus every other's, in every class."""
    first, second, column = _ordered_pairs(rates.value.shape)
    p, q = rates.value[first, column], rates.value[second, column]
    together = _correlation(rates)[first, second, column]

    def limits(tail: float) -> Limits:
        low, high = rate_limits(rates, tail)
        one, other = (first, column), (second, column)
        return square_and_add(p, (low[one], high[one]), q, (low[other], high[other]), together)

    def draws(index: np.ndarray) -> np.ndarray:
        one, other, held = first[index], second[index], column[index]
        return rates.draws[:, one, held] - rates.draws[:, other, held]

    return Contrasts(p - q, limits, draws)


def negative_rates(rates: Rates) -> Contrasts:
    """Every rate with its sign turned: the maximum is minus the smallest rate."""

    def limits(tail: float) -> Limits:
        low, high = rate_limits(rates, tail)
        return -high.ravel(), -low.ravel()

    def draws(index: np.ndarray) -> np.ndarray:
        return -rates.draws.reshape(len(rates.draws), -1)[:, index]

    return Contrasts(-rates.value.ravel(), limits, draws)


def ratio_limits(rates: Rates, level: float) -> tuple[float, float]:
    """Interval of the least ratio of two groups' rates over classes; rates of 0 in both say nothing.

    Raises:
        ValueError: no rate is above 0.
    """
    first, second, column = _ordered_pairs(rates.value.shape)
    told = rates.value[second, column] > 0
    if not told.any():
        raise ValueError("no rate is above 0, so no ratio is defined")
    one, other = (first[told], column[told]), (second[told], column[told])
    p, q = rates.value[one], rates.value[other]
    together = _correlation(rates)[first[told], second[told], column[told]]

    def limits(tail: float) -> Limits:
        low, high = rate_limits(rates, tail)
        found = _ratio(p, (low[one], high[one]), q, (low[other], high[other]), together)
        return -found[1], -found[0]

    low, high = limits_of_maximum(Contrasts(-p / q, limits, lambda index: np.empty((0, len(index)))), level)
    return max(-high, 0.0), min(-low, 1.0)


def limits_of_maximum(contrasts: Contrasts, level: float) -> tuple[float, float]:
    """Interval of the largest contrast."""
    tail = (1 - level) / 2
    strict = contrasts.limits(tail / len(contrasts.near(tail)))[0]
    return float(strict.max()), float(contrasts.limits(tail)[1].max())


def limits_of_change(after: Contrasts, before: Contrasts, level: float) -> tuple[float, float]:
    """Interval of the largest contrast ``after`` minus the largest ``before``, on shared resamples.

    With j and k the two contrasts of the maxima, the change is at least ``after_i - before_k`` and at most
    ``after_j - before_i`` for every i. So limits that hold at once for all i give, at their best, limits of
    the change; as k and j are not known, the worst of those that can be is taken.
    """
    tail = (1 - level) / 2
    new, old = after.near(tail), before.near(tail)
    both = np.union1d(new, old)
    one, other = after.limits(tail / len(both)), before.limits(tail / len(both))
    one_unit, other_unit = _unit_columns(after.draws(both)), _unit_columns(before.draws(both))

    def difference(i: np.ndarray, k: np.ndarray) -> Limits:
        first, second = both[i, None], both[k]
        return square_and_add(
            after.value[first],
            (one[0][first], one[1][first]),
            before.value[second],
            (other[0][second], other[1][second]),
            one_unit[:, i].T @ other_unit[:, k],
        )

    every, low, high = np.arange(len(both)), np.inf, -np.inf
    step = max(1, BLOCK_CELLS // len(both))
    for start in range(0, len(both), step):
        block = every[start : start + step]
        k, j = block[np.isin(both[block], old)], block[np.isin(both[block], new)]
        low = min(low, difference(every, k)[0].max(axis=0).min(initial=np.inf))
        high = max(high, difference(j, every)[1].min(axis=1).max(initial=-np.inf))
    return float(low), float(high)


def square_and_add(p: np.ndarray, p_limits: Limits, q: np.ndarray, q_limits: Limits, r: np.ndarray) -> Limits:
    """Limits of ``p - q`` from the limits of both and the correlation ``r`` of their estimates."""
    p_down, p_up = p - p_limits[0], p_limits[1] - p
    q_down, q_up = q - q_limits[0], q_limits[1] - q
    down = p_down**2 + q_up**2 - 2 * r * p_down * q_up
    up = p_up**2 + q_down**2 - 2 * r * p_up * q_down
    return p - q - np.sqrt(np.maximum(down, 0)), p - q + np.sqrt(np.maximum(up, 0))


def _ratio(p: np.ndarray, p_limits: Limits, q: np.ndarray, q_limits: Limits, r: np.ndarray) -> Limits:
    """Limits of ``p / q``: where the limit of ``p - ratio * q`` is 0, solved for the ratio."""
    (p_low, p_high), (q_low, q_high) = p_limits, q_limits
    cross = p * q - r * (p - p_low) * (q_high - q)
    end = p_low * (2 * p - p_low)
    root = np.sqrt(np.maximum(cross**2 - end * q_high * (2 * q - q_high), 0))
    low = np.divide(end, cross + root, out=np.zeros_like(p), where=(end > 0) & (cross + root > 0))
    cross = p * q - r * (p_high - p) * (q - q_low)
    below = q_low * (2 * q - q_low)
    root = np.sqrt(np.maximum(cross**2 - p_high * (2 * p - p_high) * below, 0))
    return np.minimum(low, p / q), np.maximum((cross + root) / below, p / q)


def _ordered_pairs(shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    groups, classes = shape
    first, second, column = np.indices((groups, groups, classes)).reshape(3, -1)
    apart = first != second
    return first[apart], second[apart], column[apart]


def _centred(draws: np.ndarray) -> np.ndarray:
    known = ~np.isnan(draws)
    return draws - np.nansum(draws, axis=0) / np.maximum(known.sum(axis=0), 1)


def _unit_columns(draws: np.ndarray) -> np.ndarray:
    centred = np.nan_to_num(_centred(draws))
    length = np.sqrt(np.sum(centred**2, axis=0))
    return np.divide(centred, length, out=np.zeros_like(centred), where=length > 0)


def _correlation(rates: Rates) -> np.ndarray:
    """Of the draws of two groups in a class, ``(groups, groups, classes)``; 0 where one never varies."""
    unit = _unit_columns(rates.draws)
    return np.einsum("bgc,bhc->ghc", unit, unit)
