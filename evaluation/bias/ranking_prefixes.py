"""How many images of each group stand in the first places of a ranking, with ties shared out.

Images whose scores tie form a level. A place that falls inside a level takes the same share of each of its
images: the exact expectation over all orders of the ties, so the order of the input cannot matter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

import numpy as np

from evaluation.inference import paired_swaps
from evaluation.inference.bootstrap import BLOCK_CELLS
from evaluation.inference.settings import Inference
from evaluation.vectors import unit_rows

TIE = 1e-12


class Ranking(NamedTuple):
    """Images from the best on, ``items`` ``(n,)``, and the ``level`` ``(n,)`` of each, 0 for the best."""

    items: np.ndarray
    level: np.ndarray

    def depth(self, images: int) -> int:
        """The first ``images`` places and whoever ties with the last of them."""
        return int(np.searchsorted(self.level, self.level[min(images, len(self.level)) - 1], "right"))


def rankings(queries: np.ndarray, images: np.ndarray) -> list[Ranking]:
    """Images ``(n, d)`` by cosine to each of the ``queries`` ``(q, d)``; both are brought to length one.

    Raises:
        ValueError: shapes that do not fit, or a number that is not finite.
    """
    if queries.ndim != 2 or images.ndim != 2 or queries.shape[1] != images.shape[1]:
        raise ValueError(f"queries {queries.shape} and images {images.shape} share no dimension")
    if not len(queries):
        raise ValueError("a ranking needs at least one query")
    found = []
    for scores in unit_rows(queries) @ unit_rows(images).T:
        items = np.argsort(-scores, kind="stable")
        fallen = np.diff(scores[items]) < -TIE
        found.append(Ranking(items, np.concatenate([[0], np.cumsum(fallen)])))
    return found


def top_counts(
    weights: np.ndarray, level: np.ndarray, label: np.ndarray, groups: int, places: np.ndarray
) -> np.ndarray:
    """Weight of every group in the first places, ``(b, places, groups)``.

    Args:
        weights, level, label: of images, each ``(b, m)`` or ``(m,)``; levels count from the best.
        groups: how many; labels are their codes.
        places: ``(b, places)``, in units of weight; may be fractions.
    """
    rows, depth = len(places), int(level.max()) + 1
    cell = (np.arange(rows)[:, None] * depth + level) * groups + label
    weights = np.broadcast_to(weights, cell.shape)
    found = np.bincount(cell.ravel(), weights.ravel(), rows * depth * groups)
    return _filled(found.reshape(rows, depth, groups), places)


def reaching(ranking: Ranking, weigh: Callable[[np.ndarray], np.ndarray], need: np.ndarray) -> np.ndarray:
    """Weights ``(b, m)`` of the first ``m`` images of a ranking, which reach ``need`` ``(b,)`` in every row.

    ``weigh`` gives the weights ``(b, m)`` of images. Only as much of the ranking is touched as is needed.
    """
    images = int(need.max()) + 64
    while True:
        depth = ranking.depth(images)
        weights = weigh(ranking.items[:depth])
        if depth == len(ranking.items) or (weights.sum(axis=1) >= need).all():
            return weights
        images = 2 * depth


def swapped_counts(
    pairs: Sequence[tuple[Ranking, Ranking]],
    labels: np.ndarray,
    clusters: np.ndarray,
    groups: int,
    places: np.ndarray,
    inference: Inference,
) -> Iterator[list[tuple[np.ndarray, np.ndarray]]]:
    """Counts ``(b, p, groups)`` of two systems that have exchanged the ranks of whole clusters.

    One list over queries for each block of draws of ``paired_swaps``. Scores of two systems share no scale,
    so ranks are exchanged (those that tie have their mean) and the images sorted again by the rank they got.
    """
    doubled = [(_double_ranks(first), _double_ranks(second)) for first, second in pairs]
    draws = paired_swaps(clusters, inference)
    rows = max(1, BLOCK_CELLS // max(len(labels), 8 * groups * int(places.max())))
    while held := list(islice(draws, rows)):
        swaps = np.stack(held)
        yield [_exchanged(ranks, swaps, labels, groups, places) for ranks in doubled]


def _exchanged(
    ranks: tuple[np.ndarray, np.ndarray],
    swaps: np.ndarray,
    labels: np.ndarray,
    groups: int,
    places: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Counts of both systems under ``swaps`` ``(b, n)``, from the images that can reach the first places."""
    first, second = ranks
    limit = 2 * (int(places.max()) + 64)
    while True:
        near = np.flatnonzero(np.minimum(first, second) <= limit)
        moved = swaps[:, near]
        mixed = [np.where(moved, a[near], b[near]) for a, b in ((second, first), (first, second))]
        inside = min(int((rank <= limit).sum(axis=1).min()) for rank in mixed)
        if inside >= places.max() or limit >= 2 * len(first):
            break
        limit *= 2
    at = np.broadcast_to(places, (len(swaps), len(places)))
    old, new = (
        top_counts(rank <= limit, np.minimum(rank, limit + 1), labels[near], groups, at) for rank in mixed
    )
    return old, new


def _double_ranks(ranking: Ranking) -> np.ndarray:
    """Twice the mean rank of each image, ``(n,)`` integers from 2."""
    sizes = np.bincount(ranking.level)
    last = np.cumsum(sizes)
    doubled = np.empty(len(ranking.items), dtype=np.intp)
    doubled[ranking.items] = (2 * last - sizes + 1)[ranking.level]
    return doubled


def _filled(per_level: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Levels ``(b, levels, groups)`` filled from the top up to ``places`` ``(b, p)``: ``(b, p, groups)``."""
    sums = np.cumsum(per_level, axis=1)
    total = sums.sum(axis=2)
    rows, depth = total.shape
    shift = (total[:, -1].max() + 1.0) * np.arange(rows)[:, None]
    found = np.searchsorted((total + shift).ravel(), (np.minimum(places, total[:, -1:]) + shift).ravel())
    at = np.clip(found.reshape(places.shape) - depth * np.arange(rows)[:, None], 0, depth - 1)
    row = np.arange(rows)[:, None]
    inside = per_level[row, at]
    weight = inside.sum(axis=2)
    taken = places - (total[row, at] - weight)
    share = np.divide(taken, weight, out=np.zeros_like(weight), where=weight > 0)
    return sums[row, at] - inside * (1.0 - np.clip(share, 0.0, 1.0))[..., None]
