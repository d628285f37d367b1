"""Who stands first for each query on its own: group shares of the first k places, and the most skewed query.

``evaluation.bias.ranking`` gives means over queries; a mean near 0 can hide a profession that shows one group
only. Ties are shared out as there, and a share of 0 among k pictures has a width (Wilson's interval with an
effective number of observations, ``group_intervals``). In simulations (400 pictures, 40 places) it covers 96
to 97% for shares of .5 to .9, and 91% where nearly every picture in the population is of one group.

Of each query the group furthest above its share of the pool is shown. It is picked after looking, so its
interval and the band of its null hold for all groups at once (Bonferroni): with two groups both are as usual,
for the share of one is that of the other turned. Among many queries some lie outside their bands by chance:
the test over all of them is the row of the most skewed query, whose null takes the same maximum.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np

from evaluation.bias.group_intervals import rate_limits
from evaluation.bias.group_rates import Rates
from evaluation.bias.ranking_pool import Pool, pool_rankings, ranked_pool
from evaluation.bias.ranking_prefixes import Ranking, reaching, top_counts
from evaluation.bias.ranking_skew import log_ratios, room, tails
from evaluation.inference import null_fields, permuted_labels, resampled_counts
from evaluation.inference.bootstrap import BLOCK_CELLS
from evaluation.results import Estimate
from evaluation.setting import Setting


@dataclass(frozen=True)
class Places:
    """Groups in the first places of each query.

    Attributes:
        share: of the places, ``(queries, draws, groups)``.
        ratio: log of it over the share of the pool, as in ``ranking_skew.log_ratios``.
    """

    share: np.ndarray
    ratio: np.ndarray


@dataclass(frozen=True)
class FirstPlaces:
    """The first ``k`` places: as they are, in resamples of the clusters and under permuted labels.

    Attributes:
        pool, ranked: the pictures and their order for each query.
        observed, drawn, null: one draw, resamples, permutations.
    """

    pool: Pool
    ranked: Sequence[Ranking]
    observed: Places
    drawn: Places
    null: Places

    @classmethod
    def of(
        cls, queries: np.ndarray, images: np.ndarray, groups: np.ndarray, *, k: int, at: Setting
    ) -> FirstPlaces:
        """Arguments and errors as in ``evaluation.bias.ranking.ranking``, with one cut-off ``k``."""
        pool = ranked_pool(groups, at, (k,), k, None)
        ranked = pool_rankings(queries, images, pool)
        counts = resampled_counts(int(pool.clusters.max()) + 1, at.inference)
        return cls(
            pool=pool,
            ranked=ranked,
            observed=_joined([_counted(pool, ranked, pool.once)]),
            drawn=_joined([_counted(pool, ranked, block) for block in counts]),
            null=_joined(list(_permuted(pool, ranked, at))),
        )

    @property
    def k(self) -> int:
        """How many places."""
        return self.pool.ks[0]

    @property
    def leading(self) -> np.ndarray:
        """Index of the group furthest above its share of the pool, for each query ``(q,)``."""
        return np.asarray(self.observed.ratio[:, 0].argmax(axis=1))

    @property
    def order(self) -> np.ndarray:
        """Queries ``(q,)`` from the most skewed on."""
        return np.argsort(-self.observed.ratio[:, 0].max(axis=1), kind="stable")


def share_rows(
    found: FirstPlaces, queries: Sequence[str], leading: np.ndarray, *, name: str, at: Setting
) -> list[Estimate]:
    """Rows ``labelling/{name}/{query}_top_share``: the leading group's share of the first ``k`` pictures.

    ``n`` counts the places. There is no p-value: see the module's docstring.

    Args:
        found: of one system.
        queries: their names in rows, ``(q,)``.
        leading: group index of each query ``(q,)``; of the unedited system, so that systems can be compared.
        name: of attribute and set.
        at: split, system and level.
    """
    share, drawn = found.observed.share[:, 0], np.moveaxis(found.drawn.share, 0, 1)
    held = [found.pool.clusters[one.items[: one.depth(found.k)]] for one in found.ranked]
    sizes = [np.bincount(clusters)[np.unique(clusters)] for clusters in held]
    spread = np.array([max(len(size), 2) for size in sizes])
    fused = np.array([np.sum(size**2) / np.sum(size) for size in sizes])
    tail = (1 - at.inference.level) / len(found.pool.names)
    rates = Rates(share, np.full(share.shape, float(found.k)), drawn, spread, fused)
    low, high = rate_limits(rates, tail)
    band = np.quantile(found.null.share, [tail, 1 - tail], axis=1, method="weibull")
    return [
        at.row(
            f"labelling/{name}/{queries[query]}_top_share",
            float(share[cell]),
            higher_is_better=False,
            low=float(low[cell]),
            high=float(high[cell]),
            null=float(found.null.share[query, :, group].mean()),
            null_low=float(band[0][cell]),
            null_high=float(band[1][cell]),
            n=found.k,
            n_clusters=len(sizes[query]),
            group=found.pool.names[group],
        )
        for query in found.order
        for group in [leading[query]]
        for cell in [(query, group)]
    ]


def worst_row(found: FirstPlaces, *, name: str, at: Setting) -> Estimate:
    """Row ``ranking/{name}/worst_max_skew_{k}``: MaxSkew of the most skewed query, in nats.

    The maximum runs over queries and groups; its interval is that of ``ranking_skew.room``. The null permutes
    labels and takes the same maximum, so its p-value holds for all queries at once.
    """
    value = found.observed.ratio.max()
    flat = found.observed.ratio[:, 0].reshape(1, -1)
    drawn = np.moveaxis(found.drawn.ratio, 0, 1).reshape(1, -1, flat.shape[1])
    least, most = room(flat, drawn, int(found.pool.clusters.max()) + 1)
    low, high = tails(value, least, most, at.inference)
    fields = {"value": value, "low": max(low, 0.0), "high": high}
    fields |= null_fields(value, found.null.ratio.max(axis=(0, 2)), at.inference)
    row = found.pool.row(f"ranking/{name}/worst_max_skew_{found.k}", 1, fields, at)
    return replace(row, draws=found.drawn.ratio.max(axis=(0, 2)))


def _counted(pool: Pool, ranked: Sequence[Ranking], counts: np.ndarray) -> Places:
    """With each picture counted as often as its cluster, ``counts`` ``(b, clusters)``."""
    counts = counts.astype(np.float64)
    members = np.zeros((counts.shape[1], len(pool.names)))
    np.add.at(members, (pool.clusters, pool.codes), 1.0)
    sizes = counts @ members
    places = pool.ks[0] * sizes.sum(axis=1) / len(pool.codes)
    tops = []
    for one in ranked:
        weights = reaching(one, lambda items: counts[:, pool.clusters[items]], places)
        first = slice(0, weights.shape[1])
        labels = pool.codes[one.items[first]]
        tops.append(top_counts(weights, one.level[first], labels, len(pool.names), places[:, None]))
    return _scored(tops, places, sizes)


def _permuted(pool: Pool, ranked: Sequence[Ranking], at: Setting) -> Iterator[Places]:
    """With labels permuted, the dependence inside clusters kept; blocks of draws."""
    groups, k = len(pool.names), pool.ks[0]
    depths = [one.depth(k) for one in ranked]
    draws = permuted_labels(pool.codes, pool.clusters, at.inference)
    rows = max(1, BLOCK_CELLS // max(len(pool.codes), groups * max(depths)))
    while held := list(islice(draws, rows)):
        labels, places = np.stack(held), np.full(len(held), float(k))
        sizes = np.stack([np.bincount(each, minlength=groups) for each in held]).astype(np.float64)
        tops = [
            top_counts(np.ones(m), one.level[:m], labels[:, one.items[:m]], groups, places[:, None])
            for one, m in zip(ranked, depths, strict=True)
        ]
        yield _scored(tops, places, sizes)


def _scored(tops: Sequence[np.ndarray], places: np.ndarray, sizes: np.ndarray) -> Places:
    pool_share = sizes / sizes.sum(axis=1, keepdims=True)
    ratios = [log_ratios(top, places[:, None], pool_share)[:, 0] for top in tops]
    return Places(np.stack([top[:, 0] / places[:, None] for top in tops]), np.stack(ratios))


def _joined(blocks: Sequence[Places]) -> Places:
    shares, ratios = zip(*((block.share, block.ratio) for block in blocks), strict=True)
    return Places(np.concatenate(shares, axis=1), np.concatenate(ratios, axis=1))
