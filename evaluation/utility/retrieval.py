"""Any-hit recall@k and median rank between images and captions, both ways (Karpathy & Fei-Fei 2015)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.sparse import csr_array

from evaluation.inference import Inference, null_fields, permutation_p, resampled_counts
from evaluation.inference.bootstrap import BLOCK_CELLS
from evaluation.results import Estimate
from evaluation.setting import Setting
from evaluation.utility.retrieval_ranks import QueryRanks, Ranks, retrieval_ranks

KS = (1, 5, 10)


def retrieval(
    ranks: Ranks, *, at: Setting, name: str = "retrieval", ks: Sequence[int] = KS
) -> list[Estimate]:
    """Rows ``{name}/{i2t,t2i}_recall_{k}`` and ``{name}/{i2t,t2i}_median_rank``.

    A query is a hit when one of its relevant items is among the ``k`` of highest cosine; ties count against
    the model (``retrieval_ranks``). The median rank is that of the best relevant item.

    The null of a recall is the exact chance of a hit under a random ranking (hypergeometric, by the number of
    relevant items of each query). Its spread, the p-values and the null of the median rank come from
    simulated random rankings in which all queries of a cluster fare alike: near-duplicates do so, and the
    band is then wide enough.

    Args:
        ranks: of one system.
        at: ``clusters`` has one name for each image.
        name: of the task.
        ks: cut-offs.

    Raises:
        ValueError: not one cluster per image, or fewer than two.
    """
    rows = []
    for way in ranks.directions:
        here = _queries_at(way, at)
        chance = _RandomRanking(way)
        *recalls, medians = chance.draws(ks, here.clusters, at.inference).T
        for k, drawn in zip(ks, recalls, strict=True):
            hits = way.rank <= k
            fields = null_fields(float(hits.mean()), drawn, at.inference)
            fields["null"] = chance.recall(k)
            rows.append(here.mean(f"{name}/{way.name}_recall_{k}", hits, higher_is_better=True, **fields))
        rows.append(_median_row(f"{name}/{way.name}_median_rank", way.rank, medians, here))
    return rows


def recall_change(
    before: Ranks, after: Ranks, *, at: Setting, name: str = "retrieval", ks: Sequence[int] = KS
) -> list[Estimate]:
    """Rows ``{name}/{i2t,t2i}_recall_{k}_change``: recall after minus before, paired query by query.

    The null is no change; a small p-value says that recall *fell*. Arguments as in ``retrieval``.

    Raises:
        ValueError: ranks of different queries, not one cluster per image, or fewer than two.
    """
    return [
        _queries_at(new, at).change(
            f"{name}/{new.name}_recall_{k}", new.rank <= k, old.rank <= k, higher_is_better=True
        )
        for old, new in zip(before.directions, after.directions, strict=True)
        for k in ks
    ]


def recall_at(
    image: np.ndarray, text: np.ndarray, relevant: Sequence[np.ndarray], ks: Sequence[int] = KS
) -> dict[str, float]:
    """Recalls of ``retrieval`` without uncertainty, keyed ``i2t_recall_{k}`` and ``t2i_recall_{k}``.

    Arguments and errors as in ``retrieval_ranks``.
    """
    ways = retrieval_ranks(image, text, relevant).directions
    return {f"{way.name}_recall_{k}": float(np.mean(way.rank <= k)) for way in ways for k in ks}


def _queries_at(way: QueryRanks, at: Setting) -> Setting:
    images = way.items if way.name == "t2i" else len(way.rank)
    if len(at) != images:
        raise ValueError(f"{images} images but {len(at)} cluster names")
    return at.where(way.image)


class _RandomRanking:
    """Best ranks of one direction's queries when items are ranked at random."""

    def __init__(self, way: QueryRanks) -> None:
        sizes, self.size = np.unique(way.relevant, return_inverse=True)
        ahead = np.arange(way.items)
        # the first k items hold none of r relevant ones with chance (N-r)/N * (N-r-1)/(N-1) * ...
        missed = np.maximum(way.items - sizes[:, None] - ahead, 0) / (way.items - ahead)
        self.reached = 1 - np.cumprod(missed, axis=1)

    def recall(self, k: int) -> float:
        """Mean chance of a hit among the first ``k``."""
        return float(self.reached[self.size, min(k, self.reached.shape[1]) - 1].mean())

    def draws(self, ks: Sequence[int], clusters: np.ndarray, inference: Inference) -> np.ndarray:
        """Recall at each of ``ks`` and the median rank in every draw, ``(permutations, len(ks) + 1)``.

        One uniform number moves all queries of a cluster.
        """
        names, cluster = np.unique(clusters, return_inverse=True)
        rng = inference.rng(3)
        drawn = np.empty((inference.permutations, len(ks) + 1))
        for row in drawn:
            uniform = rng.random(len(names))
            best = np.stack([1 + np.searchsorted(each, uniform, side="right") for each in self.reached])
            rank = best[self.size, cluster]
            row[:] = [*(np.mean(rank <= k) for k in ks), np.median(rank)]
        return drawn


def _median_row(name: str, rank: np.ndarray, null: np.ndarray, at: Setting) -> Estimate:
    value = float(np.median(rank))
    draws = _median_draws(rank, at.clusters, at.inference)
    low, high = at.inference.interval(draws)
    fields = null_fields(value, null, at.inference)
    fields["p_value"] = permutation_p(-value, -null)
    return at.row(name, value, higher_is_better=False, low=low, high=high, draws=draws, unit="rank", **fields)


def _median_draws(values: np.ndarray, clusters: np.ndarray, inference: Inference) -> np.ndarray:
    """Medians ``(resamples,)`` of ``values`` ``(n,)`` in resamples of the clusters."""
    names, cluster = np.unique(clusters, return_inverse=True)
    levels, level = np.unique(values, return_inverse=True)
    shape = (len(levels), len(names))
    held = csr_array((np.ones(len(values)), (level, cluster)), shape=shape)
    step = max(1, BLOCK_CELLS // len(levels))
    draws = []
    for counts in resampled_counts(len(names), inference):
        for low in range(0, len(counts), step):
            below = np.cumsum(held @ counts[low : low + step].T.astype(np.float64), axis=0)
            half = below[-1] / 2
            # the mean of the lower and the upper median, as of the resample written out
            draws.append((levels[(below < half).sum(axis=0)] + levels[(below <= half).sum(axis=0)]) / 2)
    return np.concatenate(draws)
