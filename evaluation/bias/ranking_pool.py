"""A pool of ranked images of several groups: its skew as it is, resampled, permuted and swapped."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

import numpy as np

from evaluation.bias.ranking_prefixes import Ranking, rankings, reaching, swapped_counts, top_counts
from evaluation.bias.ranking_skew import log_ratios, ndkl, room
from evaluation.inference import permuted_labels, resampled_counts
from evaluation.inference.bootstrap import BLOCK_CELLS
from evaluation.results import Estimate
from evaluation.setting import Setting


class Measured(NamedTuple):
    """Log ratios ``(q, b, ks, groups)`` and NDKL as a mean over queries, ``(b,)``."""

    ratios: np.ndarray
    ndkl: np.ndarray

    def skew(self, k: int, sign: int) -> np.ndarray:
        """MaxSkew, or MinSkew with its sign turned (``sign`` -1), at the k-th cut-off: mean over queries."""
        return (sign * self.ratios[:, :, k]).max(axis=2).mean(axis=0)


@dataclass(frozen=True)
class Pool:
    """The images ranked: their group ``codes`` ``(n,)``, the groups' ``names``, cut-offs, desired shares."""

    codes: np.ndarray
    names: tuple[str, ...]
    clusters: np.ndarray
    ks: tuple[int, ...]
    cutoff: int
    desired: np.ndarray | None

    @property
    def places(self) -> np.ndarray:
        """All prefixes of NDKL, then the cut-offs."""
        return np.concatenate([np.arange(1, self.cutoff + 1), self.ks]).astype(np.float64)

    @property
    def once(self) -> np.ndarray:
        """Every cluster once, ``(1, clusters)``."""
        return np.ones((1, int(self.clusters.max()) + 1))

    def skews(self) -> list[tuple[int, str, int]]:
        """Index of the cut-off, kind and sign of every skew row."""
        kinds = (("max_skew", 1), ("min_skew", -1))
        return [(index, kind, sign) for index in range(len(self.ks)) for kind, sign in kinds]

    def row(self, name: str, sign: int, fields: Mapping[str, float], at: Setting) -> Estimate:
        """A row of numbers that are larger with more skew; MinSkew is turned back to its sign."""
        sizes = dict(zip(self.names, np.bincount(self.codes).tolist(), strict=True))
        turned = {
            key: float(number if key == "p_value" else sign * number + 0.0) for key, number in fields.items()
        }
        if sign < 0:
            for low, high in (("low", "high"), ("null_low", "null_high")):
                if low in turned:
                    turned[low], turned[high] = turned[high], turned[low]
        value = turned.pop("value")
        return at.row(name, value, higher_is_better=sign < 0, unit="nats", n_by_group=sizes, **turned)

    def scored(self, top: np.ndarray, size: np.ndarray, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Log ratios ``(b, ks, groups)`` and NDKL ``(b,)`` of counts in the first places.

        ``size`` is what the places hold in all, ``(b, p)``; ``sizes`` the groups' weight, ``(b, groups)``.
        """
        share = sizes / sizes.sum(axis=1, keepdims=True) if self.desired is None else self.desired
        share = np.broadcast_to(share, sizes.shape)
        ends = slice(self.cutoff, None)
        ratios = log_ratios(top[:, ends], size[:, ends], share)
        return ratios, ndkl(top[:, : self.cutoff], size[:, : self.cutoff], share)

    def measured(self, ranked: Sequence[Ranking], counts: np.ndarray) -> Measured:
        """With each image counted as often as its cluster, ``counts`` ``(b, clusters)``."""
        counts = counts.astype(np.float64)
        members = np.zeros((counts.shape[1], len(self.names)))
        np.add.at(members, (self.clusters, self.codes), 1.0)
        sizes = counts @ members
        places = self.places * (sizes.sum(axis=1, keepdims=True) / len(self.codes))
        block = max(1, BLOCK_CELLS // (len(self.names) * max(int(places.max()), len(self.places))))
        parts = [
            _joined(self._counted(one, counts[part], sizes[part], places[part]) for one in ranked)
            for part in (slice(start, start + block) for start in range(0, len(counts), block))
        ]
        return _stacked(parts)

    def _counted(
        self, one: Ranking, counts: np.ndarray, sizes: np.ndarray, places: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        weights = reaching(one, lambda items: counts[:, self.clusters[items]], places.max(axis=1))
        first = slice(0, weights.shape[1])
        labels = self.codes[one.items[first]]
        top = top_counts(weights, one.level[first], labels, len(self.names), places)
        return self.scored(top, places, sizes)


def ranked_pool(
    groups: np.ndarray, at: Setting, ks: Sequence[int], cutoff: int, desired: Mapping[str, float] | None
) -> Pool:
    """The pool of a call.

    Raises:
        ValueError: what ``evaluation.bias.ranking.ranking`` names, but for the embeddings.
    """
    names, codes = np.unique(groups, return_inverse=True)
    _, clusters = np.unique(at.clusters, return_inverse=True)
    if len(codes) != len(clusters):
        raise ValueError(f"{len(codes)} group labels but {len(clusters)} cluster names")
    if len(names) < 2:
        raise ValueError(f"ranking compares groups, got only {names.tolist()}")
    kept = tuple(k for k in ks if k < len(codes))
    if not kept or min(*kept, cutoff) < 1:
        raise ValueError(f"cut-offs {tuple(ks)} and {cutoff} leave none from 1 to {len(codes) - 1}")
    share = None
    if desired is not None:
        share = np.array([desired.get(str(group), 0.0) for group in names])
        if len(desired) != len(names) or share.min() <= 0 or not np.isclose(share.sum(), 1.0):
            raise ValueError(f"desired shares {dict(desired)} are not positive shares of {names.tolist()}")
    spelled = tuple(str(group) for group in names)
    return Pool(codes, spelled, clusters, kept, min(cutoff, len(codes) - 1), share)


def pool_rankings(queries: np.ndarray, images: np.ndarray, pool: Pool) -> list[Ranking]:
    """The pool ranked by cosine to every query.

    Raises:
        ValueError: another number of images than labels, and as ``rankings``.
    """
    if len(images) != len(pool.codes):
        raise ValueError(f"{len(images)} images but {len(pool.codes)} group labels")
    return rankings(queries, images)


def resampled(pool: Pool, ranked: Sequence[Ranking], at: Setting) -> Measured:
    """With clusters of images drawn with replacement."""
    counts = resampled_counts(int(pool.clusters.max()) + 1, at.inference)
    return _stacked([pool.measured(ranked, each) for each in counts])


def permuted(pool: Pool, ranked: Sequence[Ranking], at: Setting) -> Measured:
    """With labels permuted, the dependence inside clusters kept."""
    depths = [one.depth(int(pool.places.max())) for one in ranked]
    draws = permuted_labels(pool.codes, pool.clusters, at.inference)
    rows = max(1, BLOCK_CELLS // max(len(pool.codes), len(pool.names) * max(depths)))
    parts = []
    while held := list(islice(draws, rows)):
        labels = np.stack(held)
        sizes = np.stack([np.bincount(each, minlength=len(pool.names)) for each in held]).astype(np.float64)
        places = np.broadcast_to(pool.places, (len(held), len(pool.places)))
        tops = (
            top_counts(np.ones(m), one.level[:m], labels[:, one.items[:m]], len(pool.names), places)
            for one, m in zip(ranked, depths, strict=True)
        )
        parts.append(_joined(pool.scored(top, places, sizes) for top in tops))
    return _stacked(parts)


def swapped(pool: Pool, ranked: Sequence[Sequence[Ranking]], at: Setting) -> tuple[Measured, Measured]:
    """Both systems, each with the other's ranks in the clusters that swap."""
    pairs = list(zip(*ranked, strict=True))
    draws = swapped_counts(pairs, pool.codes, pool.clusters, len(pool.names), pool.places, at.inference)
    sizes = np.bincount(pool.codes)[None].astype(np.float64)
    parts = []
    for block in draws:
        rows = len(block[0][0])
        places = np.broadcast_to(pool.places, (rows, len(pool.places)))
        share = np.broadcast_to(sizes, (rows, sizes.shape[1]))
        parts.append([_joined(pool.scored(two[side], places, share) for two in block) for side in (0, 1)])
    old, new = (_stacked(list(each)) for each in zip(*parts, strict=True))
    return old, new


def skew_room(
    observed: Measured, drawn: Measured, k: int, sign: int, pool: Pool
) -> tuple[np.ndarray, np.ndarray]:
    """``ranking_skew.room`` of MaxSkew (``sign`` 1) or of MinSkew turned (-1) at the k-th cut-off."""
    values, draws = sign * observed.ratios[:, 0, k], sign * drawn.ratios[:, :, k]
    return room(values, draws, int(pool.clusters.max()) + 1)


def _joined(queries: Iterable[tuple[np.ndarray, np.ndarray]]) -> Measured:
    """One ``Measured`` of what ``Pool.scored`` gave for each query."""
    ratios, divergences = zip(*queries, strict=True)
    return Measured(np.stack(ratios), np.mean(divergences, axis=0))


def _stacked(parts: Sequence[Measured]) -> Measured:
    """Blocks of draws one after the other."""
    ratios = np.concatenate([part.ratios for part in parts], axis=1)
    return Measured(ratios, np.concatenate([part.ndkl for part in parts]))
