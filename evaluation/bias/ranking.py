"""Ranking bias: do some groups of images come first when texts are searched for (Geyik et al. 2019)?

A text query ranks images by cosine. MaxSkew@k is the largest, MinSkew@k the smallest over groups of
``log(share among the first k / share in the pool)``, in nats; NDKL is the divergence of the first
1, 2, ... places from the pool, discounted by rank. All are means over queries.

Traps, and what is done about them:

- None of them is zero without bias: ten images drawn blindly are rarely half and half. Compare with ``null``,
  where labels are permuted, never with zero. At k = n every model has skew 0, so k stays below n.
- Embeddings are brought to length one, so that a long vector does not come first.
- Ties are shared out (``ranking_prefixes``): no order of the input favours a group.
- A maximum is biased upwards and a naive bootstrap of it misses the truth; see
  ``ranking_skew.room``. With groups that tie, the interval covers more than it says; with a clear bias, as
  much.
- The interval of a skew is about the share of the population that ``k`` of ``n`` images stand for. MinSkew of
  a group of which fewer than about three are expected among the first ``k`` hangs on the half count that
  stands for none, and its interval covers too little.
- NDKL is mostly made of its first places, where any sample diverges; its interval is about the expectation
  over pools of this size, and too narrow (83 to 93% in simulations with 200 and 2,000 images, cut-off n/10).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from evaluation.bias.ranking_pool import (
    permuted,
    pool_rankings,
    ranked_pool,
    resampled,
    skew_room,
    swapped,
)
from evaluation.bias.ranking_skew import tails
from evaluation.inference import centred, null_fields, permutation_p
from evaluation.results import Estimate
from evaluation.setting import Setting

KS = (10, 100, 1000)
CUTOFF = 100


def ranking(
    queries: np.ndarray,
    images: np.ndarray,
    groups: np.ndarray,
    *,
    name: str,
    at: Setting,
    ks: Sequence[int] = KS,
    cutoff: int = CUTOFF,
    desired: Mapping[str, float] | None = None,
) -> list[Estimate]:
    """Rows ``ranking/{name}/max_skew_{k}`` and ``min_skew_{k}`` for ``k`` below ``n``, and ``ndkl_{cutoff}``.

    The interval resamples clusters of images; queries are fixed. The null permutes labels with the dependence
    inside clusters kept. A small p-value says that there is more skew (MinSkew: further below zero) than
    without bias.

    Args:
        queries: text embeddings ``(q, d)``, of any length.
        images: embeddings ``(n, d)``, of any length.
        groups: perceived or text-derived group of each image, ``(n,)``.
        name: of the attribute.
        at: clusters ``(n,)`` of the images, split, system, draws.
        ks: cut-offs; those not below ``n`` are left out.
        cutoff: the longest prefix of NDKL; shortened to ``n - 1`` in a small pool.
        desired: share that each group should have; the pool's own where not given.

    Raises:
        ValueError: fewer than two groups or two clusters, shapes that do not fit, no cut-off or one below 1,
            desired shares that are not positive, not of these groups or do not sum to one, or embeddings that
            are not finite.
    """
    pool = ranked_pool(groups, at, ks, cutoff, desired)
    ranked = pool_rankings(queries, images, pool)
    observed = pool.measured(ranked, pool.once)
    drawn, null = resampled(pool, ranked, at), permuted(pool, ranked, at)
    rows = []
    for k, kind, sign in pool.skews():
        value = observed.skew(k, sign)[0]
        low, high = tails(value, *skew_room(observed, drawn, k, sign, pool), at.inference)
        fields = {"value": value, "low": max(low, 0.0), "high": high}
        fields |= null_fields(value, null.skew(k, sign), at.inference)
        row = pool.row(f"ranking/{name}/{kind}_{pool.ks[k]}", sign, fields, at)
        rows.append(replace(row, draws=sign * drawn.skew(k, sign)))
    value = float(observed.ndkl[0])
    low, high = centred(value, drawn.ndkl, at.inference)
    fields = {"value": value, "low": max(low, 0.0), "high": high}
    fields |= null_fields(value, null.ndkl, at.inference)
    row = pool.row(f"ranking/{name}/ndkl_{pool.cutoff}", 1, fields, at)
    return [*rows, replace(row, draws=drawn.ndkl)]


def ranking_changes(
    before: tuple[np.ndarray, np.ndarray],
    after: tuple[np.ndarray, np.ndarray],
    groups: np.ndarray,
    *,
    name: str,
    at: Setting,
    ks: Sequence[int] = KS,
    cutoff: int = CUTOFF,
    desired: Mapping[str, float] | None = None,
) -> list[Estimate]:
    """Rows of ``ranking`` with ``_change`` at the end: after minus before, on the same images and queries.

    The interval is paired (same resamples for both) and wider than need be where groups tie in a system. The
    null is no change. The p-value is small where skew *shrank* (MaxSkew and NDKL fell, MinSkew rose): it
    exchanges, cluster by cluster, the ranks that the two systems give to the images of a query and sorts
    again. Exact if an edit that does nothing could as well have been called the original; a change of the
    scale of cosines alone changes nothing.

    Args:
        before, after: queries ``(q, d)`` and images ``(n, d)`` of each system, in the same order.
        groups, name, at, ks, cutoff, desired: as in ``ranking``.

    Raises:
        ValueError: as in ``ranking``, or another number of queries or images after than before.
    """
    if [len(each) for each in before] != [len(each) for each in after]:
        raise ValueError("the two systems rank other numbers of images or for other numbers of queries")
    pool = ranked_pool(groups, at, ks, cutoff, desired)
    ranked = [pool_rankings(*each, pool) for each in (before, after)]
    old, new = (pool.measured(each, pool.once) for each in ranked)
    old_drawn, new_drawn = (resampled(pool, each, at) for each in ranked)
    same = np.array_equal(old.ratios, new.ratios) and np.array_equal(old_drawn.ratios, new_drawn.ratios)
    null = swapped(pool, ranked, at)
    rows = []
    for k, kind, sign in pool.skews():
        value = new.skew(k, sign)[0] - old.skew(k, sign)[0]
        least_old, most_old = skew_room(old, old_drawn, k, sign, pool)
        least_new, most_new = skew_room(new, new_drawn, k, sign, pool)
        low, high = tails(value, least_new - most_old, most_new - least_old, at.inference)
        if same:
            low = high = 0.0
        change = null[1].skew(k, sign) - null[0].skew(k, sign)
        fields = {"value": value, "low": low, "high": high, "p_value": permutation_p(-value, -change)}
        rows.append(pool.row(f"ranking/{name}/{kind}_{pool.ks[k]}_change", sign, {"null": 0.0, **fields}, at))
    value = float(new.ndkl[0] - old.ndkl[0])
    low, high = centred(value, new_drawn.ndkl - old_drawn.ndkl, at.inference)
    p_value = permutation_p(-value, null[0].ndkl - null[1].ndkl)
    fields = {"value": value, "low": low, "high": high, "null": 0.0, "p_value": p_value}
    return [*rows, pool.row(f"ranking/{name}/ndkl_{pool.cutoff}_change", 1, fields, at)]
