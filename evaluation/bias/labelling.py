"""Which labels a model gives to pictures of people, and which groups get the harmful ones most (CLIP, §7.1).

Every picture gets the label of highest cosine (Radford et al. 2021) and counts in that label's category. No
picture has a right answer here: what is measured is how often a category is said of a group.

Traps, and what is done about them:

- A rate is one of a model and a list of labels. A label that is added, such as "child", takes pictures from
  all others; rates under two lists are not comparable.
- Ties: a picture whose best labels belong to several categories counts in none of them. An edit after which
  nothing tells labels apart empties every category: read the neutral one's rate beside the harmful ones.
- Rare labels: a rate of 0 in 200 pictures is not 0. Intervals of rates are Wilson's with an effective number
  of observations (``group_intervals``), so that a rate of 0 has a width.
- The largest difference between groups is above 0 without bias, the more so the smaller the groups: compare
  with ``null``, where group labels are permuted. Its interval is that of ``group_intervals``.
- A low rate says nothing of what a model would say among other words.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from evaluation.bias.group_intervals import (
    Contrasts,
    Limits,
    differences,
    limits_of_change,
    limits_of_maximum,
    rate_limits,
)
from evaluation.bias.group_rates import Answers, Rates, gap, rates_of
from evaluation.inference import cluster_count, null_fields, paired_swaps, permutation_p
from evaluation.inference.bootstrap import BLOCK_CELLS
from evaluation.prompt_file import PromptSet
from evaluation.results import Estimate
from evaluation.setting import Setting
from evaluation.utility.zero_shot import class_ranks


def given_categories(images: np.ndarray, text: np.ndarray, prompts: PromptSet) -> np.ndarray:
    """Category index ``(n,)`` of the label nearest to every picture; the number of categories where some tie.

    Args:
        images: embeddings ``(n, d)``, of any length.
        text: embeddings of ``prompts.prompts``, ``(labels, templates, d)``, averaged at unit length.
        prompts: whose categories.

    Raises:
        ValueError: not one embedding per label, or embeddings that are not finite.
    """
    owners, count = np.array(prompts.owners), len(prompts.categories)
    if len(text) != len(owners):
        raise ValueError(f"{len(text)} label embeddings but {len(owners)} labels in {prompts.name}")
    given = np.empty(len(images), dtype=np.int64)
    step = max(1, BLOCK_CELLS // images.shape[1])
    for start in range(0, len(images), step):
        ranks = class_ranks(images[start : start + step], text)
        best = ranks == ranks.min(axis=1, keepdims=True)
        held = np.stack([best[:, owners == category].any(axis=1) for category in range(count)], axis=1)
        given[start : start + step] = np.where(held.sum(axis=1) == 1, held.argmax(axis=1), count)
    return given


def label_rows(
    given: np.ndarray, groups: np.ndarray, prompts: PromptSet, *, name: str, at: Setting
) -> list[Estimate]:
    """Rows ``labelling/{name}/{category}_rate`` per group, and over groups ``{category}_gap``.

    The neutral category has no gap: its differences repeat those of the others. The null of a gap permutes
    group labels with clusters respected; a small p-value says that it is large.

    Args:
        given: of ``given_categories``, ``(n,)``.
        groups: perceived or text-derived group of each picture, ``(n,)``.
        prompts: the labels asked.
        name: of attribute and set.
        at: clusters ``(n,)``, split, system and draws.

    Raises:
        ValueError: lengths that differ, no such category, fewer than two groups, or a group in fewer than two
            clusters.
    """
    answers = _answers(given, groups, prompts, at)
    rates = answers.rates("selection", answers.resampled(at.inference))
    low, high = rate_limits(rates, (1 - at.inference.level) / 2)
    rows = [
        at.where(answers.groups == group).row(
            f"labelling/{name}/{category}_rate",
            float(rates.value[group, column]),
            higher_is_better=category == prompts.neutral,
            low=float(low[group, column]),
            high=float(high[group, column]),
            draws=rates.draws[:, group, column],
            group=str(answers.names[group]),
        )
        for column, category in enumerate(prompts.categories)
        for group in range(len(answers.names))
    ]
    value = _gaps(rates.value)
    null = np.stack([_gaps(_selection(tables)) for tables in answers.permuted(at.inference)])
    for column, category in _compared(prompts):
        least, most = limits_of_maximum(differences(_column(rates, column)), at.inference.level)
        rows.append(
            at.row(
                f"labelling/{name}/{category}_gap",
                float(value[column]),
                higher_is_better=False,
                low=max(least, 0.0),
                high=most,
                n_by_group=_sizes(answers),
                **null_fields(float(value[column]), null[:, column], at.inference),
            )
        )
    return rows


def label_changes(
    after: np.ndarray, before: np.ndarray, groups: np.ndarray, prompts: PromptSet, *, name: str, at: Setting
) -> list[Estimate]:
    """Rows of ``label_rows`` with ``_change``: ``after`` minus ``before`` ``(n,)`` on the same pictures.

    Intervals rest on shared resamples; those of gaps are bounds that hold whichever groups differ most. The
    null is no change; the p-value, small where the value *fell*, swaps the two systems in whole clusters.
    Where every picture is labelled alike the interval is 0. Other arguments and errors as in ``label_rows``.
    """
    new, old = _answers(after, groups, prompts, at), _answers(before, groups, prompts, at)
    one, other = (each.rates("selection", each.resampled(at.inference)) for each in (new, old))
    same, level = np.array_equal(after, before), at.inference.level
    swapped = np.stack([_swapped(new, old, mask) for mask in paired_swaps(at.clusters, at.inference)])
    fallen = swapped[:, 1] - swapped[:, 0]
    rows = [
        at.where(new.groups == group).row(
            f"labelling/{name}/{category}_rate_change",
            float(one.value[cell] - other.value[cell]),
            higher_is_better=category == prompts.neutral,
            group=str(new.names[group]),
            **_bounds(limits_of_change(_single(one, cell), _single(other, cell), level), same),
            p_value=permutation_p(float(other.value[cell] - one.value[cell]), fallen[:, group, column]),
        )
        for column, category in enumerate(prompts.categories)
        for group in range(len(new.names))
        for cell in [(group, column)]
    ]
    value, fallen = _gaps(one.value) - _gaps(other.value), _gaps(swapped[:, 1]) - _gaps(swapped[:, 0])
    for column, category in _compared(prompts):
        pair = [differences(_column(rates, column)) for rates in (one, other)]
        rows.append(
            at.row(
                f"labelling/{name}/{category}_gap_change",
                float(value[column]),
                higher_is_better=False,
                n_by_group=_sizes(new),
                **_bounds(limits_of_change(pair[0], pair[1], level), same),
                p_value=permutation_p(-float(value[column]), fallen[:, column]),
            )
        )
    return rows


def _answers(given: np.ndarray, groups: np.ndarray, prompts: PromptSet, at: Setting) -> Answers:
    """Predictions without targets, whose only rates are those of selection."""
    count = len(prompts.categories)
    if not len(given) == len(groups) == len(at):
        raise ValueError(f"{len(given)} labels, {len(groups)} groups and {len(at)} clusters are not as many")
    if len(given) and not 0 <= given.min() <= given.max() <= count:
        raise ValueError(f"a category is outside 0..{count}, where {count} stands for a tie")
    names, codes = np.unique(groups, return_inverse=True)
    if len(names) < 2:
        raise ValueError(f"labelling compares groups, got only {names.tolist()}")
    for index, group in enumerate(names):
        if cluster_count(at.clusters[codes == index]) < 2:
            raise ValueError(f"group {str(group)!r} lies in one cluster, an interval needs at least two")
    return Answers(
        groups=codes,
        target=np.full(len(given), count),
        predicted=np.asarray(given),
        correct=np.zeros(len(given), dtype=bool),
        clusters=at.clusters,
        names=names,
        classes=np.array(prompts.categories),
        left_out=0,
    )


def _selection(tables: np.ndarray) -> np.ndarray:
    return rates_of(tables, "selection")[0]


def _swapped(new: Answers, old: Answers, mask: np.ndarray) -> np.ndarray:
    """Rates ``(2, groups, categories)`` of both systems, each with the other's labels under the mask."""
    pair = np.where(mask, old.predicted, new.predicted), np.where(mask, new.predicted, old.predicted)
    return np.stack([_selection(replace(new, predicted=said).tables(new.groups)) for said in pair])


def _gaps(rates: np.ndarray) -> np.ndarray:
    """Largest difference between groups in each category, ``(..., categories)``."""
    columns = range(rates.shape[-1])
    return np.stack([gap(rates[..., column : column + 1]) for column in columns], axis=-1)


def _column(rates: Rates, column: int) -> Rates:
    own = slice(column, column + 1)
    return replace(rates, value=rates.value[:, own], size=rates.size[:, own], draws=rates.draws[:, :, own])


def _single(rates: Rates, cell: tuple[int, int]) -> Contrasts:
    """One rate of one group as a maximum over itself."""

    def limits(tail: float) -> Limits:
        low, high = rate_limits(rates, tail)
        return low[cell][None], high[cell][None]

    return Contrasts(rates.value[cell][None], limits, lambda index: rates.draws[:, *cell][:, None][:, index])


def _bounds(limits: tuple[float, float], same: bool) -> dict[str, float]:
    low, high = (0.0, 0.0) if same else limits
    return {"low": low, "high": high, "null": 0.0}


def _compared(prompts: PromptSet) -> list[tuple[int, str]]:
    """Index and name of the categories whose rates are compared between groups."""
    return [(index, name) for index, name in enumerate(prompts.categories) if name != prompts.neutral]


def _sizes(answers: Answers) -> dict[str, int]:
    return dict(zip(answers.names.astype(str).tolist(), np.bincount(answers.groups).tolist(), strict=True))
