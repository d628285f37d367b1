"""Group fairness of predictions: parity, odds, opportunity, and the accuracy of the group served worst.

Point values are fairlearn's (``MetricFrame``); resamples and permutations are sums of ours, equal to it.

Traps, and what is done about them:

- A largest difference is above 0 under no bias, the more so the smaller the groups: compare with ``null``,
  the same maximum under permuted group labels. The intervals are not percentiles of the bootstrap, which
  never hold 0 (``group_intervals``). Under no difference, or where several differences are near the
  largest, they cover more than their level: they can be too wide, not too narrow.
- The null says that the group tells nothing of prediction *and* target. Groups whose targets differ in
  frequency can miss parity with every prediction right: read it beside the odds and the opportunity.
- A class that hardly occurs in a group has a rate of noise: classes with fewer than ``least`` targets, or
  fewer than ``least`` other observations, in any group are not compared, and counted in a row. Nor are those
  whose targets lie in fewer than five clusters of a group: a class that is one cluster has no variation
  that could be resampled.
- Two small differences can hide a large one in an intersection: pass it as a group of its own,
  ``woman & dark``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from evaluation.bias.group_fairlearn import fairlearn_values
from evaluation.bias.group_intervals import (
    Contrasts,
    differences,
    limits_of_change,
    limits_of_maximum,
    negative_rates,
    rate_limits,
    ratio_limits,
)
from evaluation.bias.group_rates import Answers, Kind, Rates, gap, least_ratio, rates_of, worst
from evaluation.inference import null_fields, paired_swaps, permutation_p
from evaluation.results import Estimate
from evaluation.setting import Setting

LEAST = 10


@dataclass(frozen=True)
class _Metric:
    """``statistic`` of rates; ``sign`` times it is the maximum of ``contrasts`` (None: of ratios)."""

    kind: Kind
    statistic: Callable[[np.ndarray], np.ndarray]
    contrasts: Callable[[Rates], Contrasts] | None
    sign: int = 1

    @property
    def higher_is_better(self) -> bool:
        return self.sign < 0

    def of(self, tables: np.ndarray) -> float:
        return float(self.statistic(rates_of(tables, self.kind)[0]))

    def limits(self, rates: Rates, level: float) -> tuple[float, float]:
        if self.contrasts is None:
            return ratio_limits(rates, level)
        low, high = limits_of_maximum(self.contrasts(rates), level)
        return (max(low, 0.0), high) if self.sign > 0 else (-high, -low)


METRICS = {
    "worst_group_accuracy": _Metric("accuracy", worst, negative_rates, sign=-1),
    "accuracy_gap": _Metric("accuracy", gap, differences),
    "demographic_parity_difference": _Metric("selection", gap, differences),
    "demographic_parity_ratio": _Metric("selection", least_ratio, None, sign=-1),
    "equalized_odds_difference": _Metric("odds", gap, differences),
    "equal_opportunity_difference": _Metric("opportunity", gap, differences),
}


def group_rows(
    predictions: np.ndarray,
    target: np.ndarray,
    groups: np.ndarray,
    *,
    name: str,
    at: Setting,
    positive: object = None,
    least: int = LEAST,
) -> list[Estimate]:
    """Rows ``groups/{name}/accuracy`` per group, and over groups those of ``METRICS``.

    Each class is compared with all others, and a difference is the largest over pairs of groups and classes;
    the ratio is the smallest. With ``positive`` that class alone is compared. The row
    ``groups/{name}/classes_left_out`` counts the classes that are too rare to compare; without any class
    left, the rows of accuracy remain.
    The ratio has no row when no compared class is ever predicted.

    Intervals are those of ``group_intervals`` on clustered resamples. Nulls and p-values (small: a
    difference is large, a ratio or the worst accuracy is small) permute group labels with clusters respected.

    Args:
        predictions, target: class labels ``(n,)``.
        groups: perceived or text-derived group names ``(n,)``.
        name: of the attribute.
        at: clusters ``(n,)``, split, system and inference.
        positive: the class that counts as positive; ``None`` compares all.
        least: targets, and other observations, that every group must hold of a compared class.

    Raises:
        ValueError: lengths that differ, fewer than two groups, a group in fewer than two clusters, a positive
            class that occurs nowhere, or ``least`` below 1.
    """
    answers = _answers(predictions, target, groups, at, positive, least)
    drawn = answers.resampled(at.inference)
    values = fairlearn_values(answers)
    chosen = {row: METRICS[row] for row in values}
    null = np.array([[m.of(each) for m in chosen.values()] for each in answers.permuted(at.inference)])
    rows = _accuracy_rows(answers, drawn, name, at)
    for index, (row, metric) in enumerate(chosen.items()):
        rates = answers.rates(metric.kind, drawn)
        low, high = metric.limits(rates, at.inference.level)
        fields = null_fields(values[row], null[:, index], at.inference)
        fields["p_value"] = permutation_p(metric.sign * values[row], metric.sign * null[:, index])
        rows.append(
            at.row(
                f"groups/{name}/{row}",
                values[row],
                higher_is_better=metric.higher_is_better,
                low=low,
                high=high,
                draws=metric.statistic(rates.draws),
                n_by_group=_sizes(answers),
                **fields,
            )
        )
    left_out = float(answers.left_out)
    return [
        *rows,
        at.row(f"groups/{name}/classes_left_out", left_out, higher_is_better=False, unit="classes"),
    ]


def group_changes(
    after: np.ndarray,
    before: np.ndarray,
    target: np.ndarray,
    groups: np.ndarray,
    *,
    name: str,
    at: Setting,
    positive: object = None,
    least: int = LEAST,
) -> list[Estimate]:
    """Rows of ``group_rows`` with ``_change``: ``after`` minus ``before`` ``(n,)`` on the same observations.

    Intervals rest on shared resamples and are bounds that hold whichever groups differ most in either system:
    wider than the change itself needs. The null is no change; the p-value, small where the value *fell*,
    swaps the two predictions in whole clusters. The ratio has no row: its difference repeats what the
    change of ``demographic_parity_difference`` says. Other arguments and errors as in ``group_rows``.
    """
    new = _answers(after, target, groups, at, positive, least)
    old = _answers(before, target, groups, at, positive, least)
    chosen = {
        row: metric
        for row, metric in METRICS.items()
        if metric.contrasts is not None and (metric.kind == "accuracy" or len(new.classes))
    }
    value = _changes(new, old, chosen)
    swapped = np.array(
        [_changes(*_swap(new, old, mask), chosen) for mask in paired_swaps(at.clusters, at.inference)]
    )
    drawn_new, drawn_old = new.resampled(at.inference), old.resampled(at.inference)
    rows = [
        at.where(members).change(
            f"groups/{name}/accuracy",
            new.correct[members],
            old.correct[members],
            higher_is_better=True,
            group=str(group),
        )
        for index, group in enumerate(new.names)
        for members in [new.groups == index]
    ]
    for index, (row, metric) in enumerate(chosen.items()):
        assert metric.contrasts is not None
        pair = [
            metric.contrasts(each.rates(metric.kind, d)) for each, d in ((new, drawn_new), (old, drawn_old))
        ]
        low, high = limits_of_change(pair[0], pair[1], at.inference.level)
        if np.array_equal(after, before):
            low = high = 0.0
        if metric.sign < 0:
            low, high = -high, -low
        rows.append(
            at.row(
                f"groups/{name}/{row}_change",
                float(value[index]),
                higher_is_better=metric.higher_is_better,
                low=low,
                high=high,
                null=0.0,
                p_value=permutation_p(-value[index], -swapped[:, index]),
                n_by_group=_sizes(new),
            )
        )
    return rows


def _answers(
    predictions: np.ndarray,
    target: np.ndarray,
    groups: np.ndarray,
    at: Setting,
    positive: object,
    least: int,
) -> Answers:
    if least < 1:
        raise ValueError(f"least is {least}, a class needs at least one target in every group")
    return Answers.of(predictions, target, groups, at.clusters, positive=positive, least=least)


def _accuracy_rows(answers: Answers, drawn: np.ndarray, name: str, at: Setting) -> list[Estimate]:
    rates = answers.rates("accuracy", drawn)
    low, high = rate_limits(rates, (1 - at.inference.level) / 2)
    return [
        at.where(answers.groups == index).row(
            f"groups/{name}/accuracy",
            float(rates.value[index, 0]),
            higher_is_better=True,
            low=float(low[index, 0]),
            high=float(high[index, 0]),
            draws=rates.draws[:, index, 0],
            group=str(group),
        )
        for index, group in enumerate(answers.names)
    ]


def _sizes(answers: Answers) -> dict[str, int]:
    return dict(zip(answers.names.astype(str).tolist(), np.bincount(answers.groups).tolist(), strict=True))


def _changes(new: Answers, old: Answers, chosen: dict[str, _Metric]) -> np.ndarray:
    tables = new.tables(new.groups), old.tables(old.groups)
    return np.array([metric.of(tables[0]) - metric.of(tables[1]) for metric in chosen.values()])


def _swap(new: Answers, old: Answers, mask: np.ndarray) -> tuple[Answers, Answers]:
    first = replace(
        new,
        predicted=np.where(mask, old.predicted, new.predicted),
        correct=np.where(mask, old.correct, new.correct),
    )
    second = replace(
        old,
        predicted=np.where(mask, new.predicted, old.predicted),
        correct=np.where(mask, new.correct, old.correct),
    )
    return first, second
