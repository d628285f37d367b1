"""Any-hit recall@k between images and captions, in both directions (Karpathy & Fei-Fei 2015)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.stats import hypergeom

from evaluation.inference import (
    Inference,
    cluster_count,
    mean_interval,
    null_fields,
    paired_mean_difference,
)
from evaluation.results import Estimate

KS = (1, 5, 10)
BLOCK_CELLS = 2**22
TIE = 1e-12


def retrieval(
    image: np.ndarray,
    text: np.ndarray,
    relevant: Sequence[np.ndarray],
    *,
    clusters: np.ndarray,
    split: str,
    system: str,
    inference: Inference,
    name: str = "retrieval",
    ks: Sequence[int] = KS,
) -> list[Estimate]:
    """Rows ``{name}/i2t_recall_{k}`` and ``{name}/t2i_recall_{k}``.

    A query is a hit when one of its relevant items is among the ``k`` of highest cosine. Ties count
    against the model, so an embedding that puts everything in one place earns nothing; captions that are
    word for word the same therefore belong in ``relevant`` of every image they describe.

    The null is the exact chance of a hit under a random ranking (hypergeometric, by the number of relevant
    items of each query). Its spread and the p-value come from simulated random rankings in which all
    queries of a cluster hit or miss together: near-duplicates do so, and the band is then wide enough.

    Args:
        image: embeddings ``(n, d)``, of any length; zero vectors earn nothing.
        text: embeddings ``(m, d)``.
        relevant: for each image the indices of its captions in ``text``.
        clusters: ``(n,)`` names; a caption belongs to the cluster of its first image.
        split, system: for the rows.
        inference: draws and level.
        name: of the task.
        ks: cut-offs.

    Raises:
        ValueError: an image without caption, a caption without image, an index out of range, shapes that do
            not fit, embeddings that are not finite, or fewer than two clusters.
    """
    pairs = _pairs(relevant, len(image), len(text))
    rows = []
    for way in _directions(image, text, pairs, clusters):
        rank, total = _ranks(way), len(way.items)
        for k in ks:
            hits = rank <= k
            value, low, high = mean_interval(hits, way.clusters, inference)
            chance = hypergeom.sf(0, total, np.bincount(way.query), min(k, total))
            fields = null_fields(value, _chance_draws(chance, way.clusters, inference), inference)
            fields["null"] = float(np.mean(chance))
            rows.append(
                Estimate(
                    name=f"{name}/{way.name}_recall_{k}",
                    value=value,
                    low=low,
                    high=high,
                    **fields,
                    n=len(hits),
                    n_clusters=cluster_count(way.clusters),
                    split=split,
                    system=system,
                    higher_is_better=True,
                )
            )
    return rows


def recall_change(
    before_image: np.ndarray,
    after_image: np.ndarray,
    text: np.ndarray,
    relevant: Sequence[np.ndarray],
    *,
    clusters: np.ndarray,
    split: str,
    system: str,
    inference: Inference,
    name: str = "retrieval",
    ks: Sequence[int] = KS,
) -> list[Estimate]:
    """Rows ``{name}/{i2t,t2i}_recall_{k}_change``: recall after minus before, paired query by query.

    The null is no change; a small p-value says that recall *fell*. Arguments and errors as in ``retrieval``.
    """
    pairs = _pairs(relevant, len(before_image), len(text))
    first = _directions(before_image, text, pairs, clusters)
    second = _directions(after_image, text, pairs, clusters)
    rows = []
    for before, after in zip(first, second, strict=True):
        rank_before, rank_after = _ranks(before), _ranks(after)
        for k in ks:
            value, low, high, p_value = paired_mean_difference(
                rank_after <= k, rank_before <= k, before.clusters, inference
            )
            rows.append(
                Estimate(
                    name=f"{name}/{before.name}_recall_{k}_change",
                    value=value,
                    low=low,
                    high=high,
                    null=0.0,
                    p_value=p_value,
                    n=len(rank_after),
                    n_clusters=cluster_count(before.clusters),
                    split=split,
                    system=system,
                    higher_is_better=True,
                )
            )
    return rows


def recall_at(
    image: np.ndarray, text: np.ndarray, relevant: Sequence[np.ndarray], ks: Sequence[int] = KS
) -> dict[str, float]:
    """Recalls of ``retrieval`` without uncertainty, keyed ``i2t_recall_{k}`` and ``t2i_recall_{k}``."""
    pairs = _pairs(relevant, len(image), len(text))
    return {
        f"{way.name}_recall_{k}": float(np.mean(rank <= k))
        for way in _directions(image, text, pairs, np.arange(len(image)))
        for rank in [_ranks(way)]
        for k in ks
    }


def unit_rows(x: np.ndarray) -> np.ndarray:
    """Rows of ``x`` at length one, in float64; a zero row stays zero.

    Raises:
        ValueError: a number that is not finite.
    """
    x = np.asarray(x, dtype=np.float64)
    if not np.isfinite(x).all():
        raise ValueError("embeddings hold numbers that are not finite")
    length = np.linalg.norm(x, axis=-1, keepdims=True)
    return np.divide(x, length, out=np.zeros_like(x), where=length > 0)


class _Direction(NamedTuple):
    """Unit queries and items, their relevant (query, item) indices sorted by query, clusters of queries."""

    name: str
    queries: np.ndarray
    items: np.ndarray
    query: np.ndarray
    item: np.ndarray
    clusters: np.ndarray


def _pairs(relevant: Sequence[np.ndarray], images: int, texts: int) -> tuple[np.ndarray, np.ndarray]:
    if len(relevant) != images:
        raise ValueError(f"{images} images but captions for {len(relevant)}")
    captions = [np.unique(np.asarray(each, dtype=np.intp)) for each in relevant]
    image = np.repeat(np.arange(images), [len(each) for each in captions])
    text = np.concatenate(captions)
    if len(text) and not 0 <= text.min() <= text.max() < texts:
        raise ValueError(f"a caption index is outside 0..{texts - 1}")
    for what, index, count in (("image", image, images), ("text", text, texts)):
        lone = np.flatnonzero(np.bincount(index, minlength=count) == 0)
        if len(lone):
            raise ValueError(f"{what} {lone[0]} has nothing relevant to it ({len(lone)} such)")
    return image, text


def _directions(
    image: np.ndarray, text: np.ndarray, pairs: tuple[np.ndarray, np.ndarray], clusters: np.ndarray
) -> tuple[_Direction, _Direction]:
    image, text = unit_rows(image), unit_rows(text)
    by_text = np.argsort(pairs[1], kind="stable")
    owner, caption = pairs[0][by_text], pairs[1][by_text]
    first_owner = owner[np.flatnonzero(np.diff(caption, prepend=-1))]
    return (
        _Direction("i2t", image, text, *pairs, clusters),
        _Direction("t2i", text, image, caption, owner, clusters[first_owner]),
    )


def _ranks(way: _Direction) -> np.ndarray:
    """Rank ``(q,)`` of each query's best relevant item; items that are not relevant win ties.

    Scores are held for a block of queries at a time.
    """
    _, queries, items, query, item, _ = way
    starts = np.searchsorted(query, np.arange(len(queries) + 1))
    block = max(1, BLOCK_CELLS // len(items))
    ranks = np.empty(len(queries), dtype=np.intp)
    for low in range(0, len(queries), block):
        high = min(low + block, len(queries))
        scores = queries[low:high] @ items.T
        span = slice(starts[low], starts[high])
        row, column = query[span] - low, item[span]
        best = np.maximum.reduceat(scores[row, column], starts[low:high] - starts[low])
        scores[row, column] = -np.inf
        ranks[low:high] = 1 + np.count_nonzero(scores >= best[:, None] - TIE, axis=1)
    return ranks


def _chance_draws(chance: np.ndarray, clusters: np.ndarray, inference: Inference) -> np.ndarray:
    names, codes = np.unique(clusters, return_inverse=True)
    rng = inference.rng(3)
    draws = (rng.random(len(names)) for _ in range(inference.permutations))
    return np.array([np.mean(drawn[codes] < chance) for drawn in draws])
