"""The difference between two configurations, each measured in one run or, with other seeds, in several.

Two things make such a difference uncertain, and an interval that knows of one of them is too narrow:

- *The test items.* Runs on the same items are paired: their bootstrap draws rest on the same resamples, so
  the draws of the difference are the difference of the draws. Else variances add up.
- *The training.* Another seed gives another model. Seen only where some configuration has several seeds; its
  variance is pooled over all of them.

The interval is the wider of the two (Student's t each) and the p-value the larger, so that with several seeds
it covers its level or more; with a single seed each it does only as far as trainings differ by nothing but
chance in each item.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
from scipy.stats import t as student

LEVEL = 0.95
NORMAL_95 = 1.959963984540054


@dataclass(frozen=True, kw_only=True)
class Reading:
    """One number of one run.

    Attributes:
        value: of the run.
        low, high: its own 95% interval; ``None`` where it has none.
        draws: its bootstrap draws ``(resamples,)``; ``None`` where it has none.
        clusters: independent test items it rests on.
    """

    value: float
    low: float | None
    high: float | None
    draws: np.ndarray | None
    clusters: int

    @property
    def variance(self) -> float | None:
        """Of sampling the test items, from the draws or the interval's width; ``None`` without either."""
        if self.draws is not None:
            return _variance(self.draws)
        if self.low is None or self.high is None:
            return None
        return ((self.high - self.low) / (2 * NORMAL_95)) ** 2


@dataclass(frozen=True, kw_only=True)
class Spread:
    """How much a number differs between seeds of one configuration: pooled ``variance`` and its ``df``."""

    variance: float
    df: int


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """``after`` minus ``before``, each the mean over its seeds.

    ``low``, ``high`` and the two-sided ``p_value`` are ``None`` where nothing is known to judge by.
    ``paired`` says whether both rest on the same resamples of the same items, ``by`` what the interval is
    made of: ``items``, ``seeds`` or neither.
    """

    before: float
    after: float
    value: float
    low: float | None
    high: float | None
    p_value: float | None
    paired: bool
    by: str


def spread(groups: Sequence[Sequence[Reading]]) -> Spread | None:
    """Variance between seeds, pooled over configurations; ``None`` where each has a single one."""
    df = sum(len(group) - 1 for group in groups)
    if not df:
        return None
    values = [np.array([reading.value for reading in group], dtype=np.float64) for group in groups]
    return Spread(variance=float(sum(((each - each.mean()) ** 2).sum() for each in values)) / df, df=df)


def contrast(
    before: Sequence[Reading], after: Sequence[Reading], *, same_items: bool, between: Spread | None
) -> Contrast:
    """The difference of two configurations with its interval.

    Args:
        before, after: one reading per seed.
        same_items: whether all of them were measured on the same test items.
        between: of ``spread``, over these and any other configurations.

    Raises:
        ValueError: a configuration without a reading.
    """
    if not (before and after):
        raise ValueError("a configuration needs at least one run")
    means = [float(np.mean([reading.value for reading in group])) for group in (before, after)]
    value = means[1] - means[0]
    shared = mean_draws([reading.draws for reading in (*before, *after)])
    paired = same_items and shared is not None
    items = _paired_variance(before, after) if paired else _summed_variance(before, after)
    widths: list[tuple[float, float, str]] = []
    if items is not None:
        df = max(1, min(reading.clusters for reading in (*before, *after)) - 1)
        widths.append((*_student(value, items, df), "items"))
    if between is not None:
        seeds = between.variance * (1 / len(before) + 1 / len(after))
        widths.append((*_student(value, seeds, between.df), "seeds"))
    # where nothing varies and yet they differ, no interval could be believed
    known = [found for found in widths if found[0] or not value]
    half, _, by = max(known, key=lambda found: found[0], default=(None, None, ""))
    return Contrast(
        before=means[0],
        after=means[1],
        value=value,
        low=None if half is None else value - half,
        high=None if half is None else value + half,
        p_value=max((p_value for _, p_value, _ in known), default=None),
        paired=paired,
        by=by,
    )


def level(readings: Sequence[Reading], *, between: Spread | None) -> tuple[float, float | None, float | None]:
    """The mean over the seeds of one configuration with its interval: ``(value, low, high)``.

    A single run keeps its own interval where seeds are not known to differ.

    Raises:
        ValueError: no reading.
    """
    if not readings:
        raise ValueError("a configuration needs at least one run")
    value = float(np.mean([reading.value for reading in readings]))
    if between is None and len(readings) == 1:
        return value, readings[0].low, readings[0].high
    drawn = mean_draws([reading.draws for reading in readings])
    items = _mean_variance(readings) if drawn is None else _variance(drawn)
    halves = []
    if items is not None:
        df = max(1, min(reading.clusters for reading in readings) - 1)
        halves.append(_student(value, items, df)[0])
    if between is not None:
        halves.append(_student(value, between.variance / len(readings), between.df)[0])
    if not halves:
        return value, None, None
    return value, value - max(halves), value + max(halves)


def _student(value: float, variance: float, df: int) -> tuple[float, float]:
    """Half the width of an interval, and the two-sided p-value of no difference."""
    error = sqrt(variance)
    if not error:
        return 0.0, 0.0 if value else 1.0
    return float(error * student.ppf((1 + LEVEL) / 2, df)), float(2 * student.sf(abs(value) / error, df))


def mean_draws(draws: Sequence[np.ndarray | None]) -> np.ndarray | None:
    """Their mean ``(resamples,)``; ``None`` where one is missing or of another length."""
    given = [each for each in draws if each is not None]
    if len(given) < len(draws) or len({len(each) for each in given}) != 1:
        return None
    return np.asarray(np.mean(given, axis=0))


def _paired_variance(before: Sequence[Reading], after: Sequence[Reading]) -> float:
    drawn = [mean_draws([reading.draws for reading in group]) for group in (before, after)]
    return 0.0 if drawn[0] is None or drawn[1] is None else _variance(drawn[1] - drawn[0])


def _summed_variance(before: Sequence[Reading], after: Sequence[Reading]) -> float | None:
    """Of different items."""
    one, other = _mean_variance(before), _mean_variance(after)
    return None if one is None or other is None else one + other


def _mean_variance(readings: Sequence[Reading]) -> float | None:
    """Seeds of one configuration share their items, so that more seeds take nothing off."""
    variances = [reading.variance for reading in readings]
    known = [variance for variance in variances if variance is not None]
    return float(np.mean(known)) if len(known) == len(variances) else None


def _variance(draws: np.ndarray) -> float:
    """Of the draws that are defined."""
    defined = np.asarray(draws, dtype=np.float64)[~np.isnan(draws)]
    return float(defined.var(ddof=1)) if len(defined) > 1 else 0.0
