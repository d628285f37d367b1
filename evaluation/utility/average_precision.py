"""Average precision of scores of many labels, by area and by the eleven points of VOC07, with uncertainty.

An observation of equal score is taken or left with all the others of that score, as in scikit-learn.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from evaluation.inference import centred, null_fields, permuted_labels, resampled_counts
from evaluation.inference.bootstrap import BLOCK_CELLS
from evaluation.results import Estimate
from evaluation.setting import Setting

POINTS = 10


def average_precision(scores: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Average precision of every class, ``(2, c)``: by area, and by the eleven-point rule of VOC07.

    By area: precision at each score, weighted by the recall gained there. Eleven points: the mean over
    recall 0, 0.1 … 1 of the best precision at that recall or more (Everingham et al. 2010, §4.2).

    Args:
        scores: ``(n, c)``, higher for the class.
        targets: ``(n, c)``: 1 for the class, -1 for not, 0 for left out ("difficult").

    Raises:
        ValueError: shapes that differ, other targets, scores that are not finite, or a class without any
            observation of its own.
    """
    scores, targets = _checked(scores, targets)
    return _each(_rankings(scores), targets, np.ones((1, len(targets)), dtype=np.int64))[0]


def mean_average_precision(
    scores: np.ndarray, targets: np.ndarray, classes: Sequence[str], *, name: str, at: Setting
) -> list[Estimate]:
    """Rows ``probe/{name}_map``, ``probe/{name}_map_11point`` and ``probe_ap/{name}/{class}`` (by area).

    The interval resamples clusters; a class none of whose observations is drawn is left out of the mean
    of that resample. The null gives whole rows of targets to other clusters (``permuted_labels``).

    Args:
        scores, targets: as in ``average_precision``.
        classes: their names.
        name: of the task.
        at: where it is measured.

    Raises:
        ValueError: as in ``average_precision``, not one name per class or one cluster per observation, or
            fewer than two clusters.
    """
    scores, targets = _checked(scores, targets)
    if len(classes) != targets.shape[1]:
        raise ValueError(f"{targets.shape[1]} classes but {len(classes)} names")
    value = average_precision(scores, targets)
    drawn, null = _draws(scores, targets, at), _null(scores, targets, at)
    rows = [
        _row(
            f"probe/{name}_{kind}", value[rule].mean(), _mean(drawn[:, rule]), null[:, rule].mean(axis=1), at
        )
        for rule, kind in enumerate(("map", "map_11point"))
    ]
    for index, label in enumerate(classes):
        kept = at.where(targets[:, index] != 0)
        given = value[0, index], drawn[:, 0, index], null[:, 0, index]
        rows.append(_row(f"probe_ap/{name}/{label}", *given, kept))
    return rows


def map_change(
    before: np.ndarray, after: np.ndarray, targets: np.ndarray, *, name: str, at: Setting
) -> list[Estimate]:
    """Rows ``probe/{name}_map_change`` and ``probe/{name}_map_11point_change``: after minus before, paired.

    The null is no change. Scores of different probes share no scale and cannot be swapped, so there is no
    p-value: read the interval.

    Args:
        before, after: scores ``(n, c)`` of two systems for the same observations.
        targets: as in ``average_precision``.
        name: of the task.
        at: where it is measured.

    Raises:
        ValueError: as in ``mean_average_precision``.
    """
    value = average_precision(after, targets) - average_precision(before, targets)
    drawn = [_draws(*_checked(scores, targets), at) for scores in (before, after)]
    rows = []
    for rule, kind in enumerate(("map", "map_11point")):
        change = float(value[rule].mean())
        bounds = _interval(change, _mean(drawn[1][:, rule]) - _mean(drawn[0][:, rule]), at)
        rows.append(at.row(f"probe/{name}_{kind}_change", change, higher_is_better=True, null=0.0, **bounds))
    return rows


class _Ranking:
    """The order that one class's scores ``(n,)`` give, and the runs of equal scores in it."""

    def __init__(self, scores: np.ndarray) -> None:
        self.order = np.argsort(-scores, kind="stable")
        self.last = np.flatnonzero(np.diff(scores[self.order], append=-np.inf))
        self.run = np.searchsorted(self.last, np.arange(len(scores)))

    def precision(self, targets: np.ndarray, weight: np.ndarray) -> np.ndarray:
        """Average precision by area and by eleven points, ``(2, b)``; NaN where none of the class has weight.

        Args:
            targets: ``(n,)`` of 1, -1, 0.
            weight: ``(b, n)`` whole numbers: how often each observation counts.
        """
        targets, weight = targets[self.order], weight[:, self.order]
        weight[:, targets == 0] = 0
        own = np.flatnonzero(targets == 1)
        # precision and recall peak where a run ends that holds the class: nothing else is looked at
        ends = np.flatnonzero(np.diff(self.run[own], append=-1))
        found = np.cumsum(weight[:, own], axis=1)[:, ends]
        taken = np.cumsum(weight, axis=1)[:, self.last[self.run[own[ends]]]]
        total = found[:, -1]
        precision = found / np.maximum(taken, 1)
        best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        every = np.arange(len(found))
        reached = [(POINTS * found >= point * total[:, None]).argmax(axis=1) for point in range(POINTS + 1)]
        eleven = np.mean([best[every, first] for first in reached], axis=0)
        area = (np.diff(found, axis=1, prepend=0) * precision).sum(axis=1) / np.maximum(total, 1)
        return np.where(total > 0, [area, eleven], np.nan)


def _checked(scores: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    scores, targets = np.asarray(scores, dtype=np.float64), np.asarray(targets)
    if scores.shape != targets.shape or scores.ndim != 2:
        raise ValueError(f"scores are {scores.shape}, targets {targets.shape}, expected the same (n, c)")
    if not np.isfinite(scores).all():
        raise ValueError("scores hold numbers that are not finite")
    if not np.isin(targets, (-1, 0, 1)).all():
        raise ValueError("targets are 1 (of the class), -1 (not) or 0 (left out)")
    for kind, words in ((1, "of its own"), (-1, "of another class (-1; 0 stands for left out)")):
        lone = np.flatnonzero(~(targets == kind).any(axis=0))
        if len(lone):
            raise ValueError(f"class {lone[0]} has no observation {words} ({len(lone)} such)")
    return scores, targets


def _rankings(scores: np.ndarray) -> list[_Ranking]:
    return [_Ranking(column) for column in scores.T]


def _each(rankings: list[_Ranking], targets: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Both rules for every class and every row of weights, ``(b, 2, c)``."""
    return np.stack(
        [ranking.precision(own, weight).T for ranking, own in zip(rankings, targets.T, strict=True)], axis=2
    )


def _draws(scores: np.ndarray, targets: np.ndarray, at: Setting) -> np.ndarray:
    """Both rules for every class in resamples of the clusters, ``(resamples, 2, c)``."""
    names, cluster = np.unique(at.clusters, return_inverse=True)
    rankings = _rankings(scores)
    step = max(1, BLOCK_CELLS // len(scores))
    return np.concatenate(
        [
            _each(rankings, targets, counts[low : low + step, cluster])
            for counts in resampled_counts(len(names), at.inference)
            for low in range(0, len(counts), step)
        ]
    )


def _null(scores: np.ndarray, targets: np.ndarray, at: Setting) -> np.ndarray:
    """Both rules for every class where rows of targets change places, ``(permutations, 2, c)``."""
    rankings = _rankings(scores)
    patterns, pattern = np.unique(targets, axis=0, return_inverse=True)
    once = np.ones((1, len(targets)), dtype=np.int64)
    drawn = permuted_labels(pattern.ravel(), at.clusters, at.inference)
    return np.concatenate([_each(rankings, patterns[labels], once) for labels in drawn])


def _mean(draws: np.ndarray) -> np.ndarray:
    """Mean ``(b,)`` over the classes of ``(b, c)`` that are defined; NaN where none is."""
    defined = (~np.isnan(draws)).sum(axis=1)
    return np.where(defined, np.nansum(draws, axis=1) / np.maximum(defined, 1), np.nan)


def _interval(value: float, draws: np.ndarray, at: Setting) -> dict[str, float]:
    """A resample repeats observations, which raises average precision: it is moved back."""
    low, high = centred(value, draws[~np.isnan(draws)], at.inference)
    return {"low": low, "high": high}


def _row(name: str, value: float, drawn: np.ndarray, null: np.ndarray, at: Setting) -> Estimate:
    fields = null_fields(float(value), null, at.inference)
    bounds = _interval(float(value), drawn, at)
    return at.row(name, float(value), higher_is_better=True, draws=drawn, **bounds, **fields)
