"""Cells of the concept-editing table: as they are, resampled, labels permuted, systems swapped."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice

import numpy as np

from evaluation.bias.ranking_prefixes import Ranking, reaching
from evaluation.inference import paired_swaps, permuted_labels, resampled_counts
from evaluation.inference.bootstrap import BLOCK_CELLS
from evaluation.inference.settings import Inference
from evaluation.setting import Setting
from evaluation.vectors import unit_rows


@dataclass(frozen=True)
class Table:
    """Cosines of prompts and images of the groups compared.

    Attributes:
        cosine: ``(p, n)``.
        prompt: code of each prompt's group ``(p,)``.
        image: code of each image's group ``(n,)``.
        clusters: codes ``(n,)``.
        groups: names; codes index them.
        k: images averaged per prompt.
    """

    cosine: np.ndarray
    prompt: np.ndarray
    image: np.ndarray
    clusters: np.ndarray
    groups: tuple[str, ...]
    k: int

    @property
    def once(self) -> np.ndarray:
        """Every cluster once, ``(1, clusters)``."""
        return np.ones((1, int(self.clusters.max()) + 1))

    def cells(self, per_prompt: np.ndarray) -> np.ndarray:
        """Means over the prompts of each group, ``(b, groups, groups)``, from ``(b, p, groups)``."""
        return np.stack(
            [per_prompt[:, self.prompt == code].mean(axis=1) for code in range(len(self.groups))], axis=1
        )

    def measured(self, counts: np.ndarray) -> np.ndarray:
        """Cells with each image counted as often as its cluster, ``counts`` ``(b, clusters)``.

        Not a number where a group is not drawn.
        """
        counts = counts.astype(np.float64)
        found = np.full((len(counts), len(self.cosine), len(self.groups)), np.nan)
        for code in range(len(self.groups)):
            own = np.flatnonzero(self.image == code)
            sizes = np.bincount(self.clusters[own], minlength=counts.shape[1]).astype(np.float64)
            need = self.k * (counts @ sizes) / len(own)
            drawn = np.flatnonzero(need > 0)
            for row, scores in enumerate(self.cosine[:, own]):
                order = np.argsort(-scores, kind="stable")
                found[drawn, row, code] = self._best(
                    Ranking(own[order], np.arange(len(own))), self.cosine[row], counts[drawn], need[drawn]
                )
        return self.cells(found)

    def _best(self, ranked: Ranking, scores: np.ndarray, counts: np.ndarray, need: np.ndarray) -> np.ndarray:
        """Mean score of the first ``need`` ``(b,)`` of a ranking, the last image counted in part."""
        weights = reaching(ranked, lambda items: counts[:, self.clusters[items]], need)
        before = np.cumsum(weights, axis=1) - weights
        taken = np.clip(need[:, None] - before, 0.0, weights)
        return taken @ scores[ranked.items[: weights.shape[1]]] / need


def table(
    images: np.ndarray, prompts: Mapping[str, np.ndarray], groups: np.ndarray, k: int, at: Setting
) -> tuple[Table, Setting]:
    """The table of the images that belong to a group with prompts, and their setting.

    Raises:
        ValueError: what ``evaluation.bias.editing.editing`` names.
    """
    if not len(images) == len(groups) == len(at):
        raise ValueError(f"{len(images)} images, {len(groups)} group labels, {len(at)} cluster names")
    names = tuple(prompts)
    if len(names) < 2:
        raise ValueError(f"an editing table compares groups, got prompts of {list(names)}")
    for group, texts in prompts.items():
        size = int((groups == group).sum())
        if not len(texts) or not 1 <= k <= size:
            raise ValueError(f"group {group!r} has {len(texts)} prompts and {size} images, k is {k}")
    kept = np.flatnonzero(np.isin(groups, names))
    image = np.argmax(groups[kept][:, None] == np.array(names), axis=1)
    cosine = unit_rows(np.concatenate(list(prompts.values()))) @ unit_rows(images[kept]).T
    prompt = np.repeat(np.arange(len(names)), [len(texts) for texts in prompts.values()])
    _, clusters = np.unique(at.clusters[kept], return_inverse=True)
    return Table(cosine, prompt, image, clusters, names, k), at.where(kept)


def resampled(of: Table, inference: Inference) -> np.ndarray:
    """Cells ``(resamples, groups, groups)`` with clusters drawn with replacement."""
    counts = resampled_counts(of.once.shape[1], inference)
    return np.concatenate([of.measured(each) for each in counts])


def permuted(of: Table, inference: Inference) -> np.ndarray:
    """Cells ``(permutations, groups, groups)`` with the images' labels permuted."""
    orders = np.argsort(-of.cosine, axis=1, kind="stable")
    draws = permuted_labels(of.image, of.clusters, inference)
    rows = max(1, BLOCK_CELLS // len(of.image))
    parts = []
    while held := list(islice(draws, rows)):
        labels = np.stack(held)
        found = [
            _best_of_each(scores[order], labels, order, len(of.groups), of.k)
            for scores, order in zip(of.cosine, orders, strict=True)
        ]
        parts.append(of.cells(np.stack(found, axis=1)))
    return np.concatenate(parts)


def _best_of_each(
    scores: np.ndarray, labels: np.ndarray, order: np.ndarray, groups: int, k: int
) -> np.ndarray:
    """Mean of the best ``k`` of every group, ``(b, groups)``; scores sorted, labels ``(b, n)`` not."""
    found = np.empty((len(labels), groups))
    for code in range(groups):
        depth = 4 * k * groups
        while True:
            member = labels[:, order[:depth]] == code
            if depth >= len(order) or (member.sum(axis=1) >= k).all():
                break
            depth *= 2
        taken = member & (np.cumsum(member, axis=1) <= k)
        found[:, code] = taken @ scores[:depth] / np.maximum(taken.sum(axis=1), 1)
    return found


def swapped(before: Table, after: Table, inference: Inference) -> tuple[np.ndarray, np.ndarray]:
    """Cells of both systems after whole clusters have exchanged their cosines.

    A prompt's cosines are centred in each system first: a shift of all of them leaves gaps as they are and is
    not to be mixed in. Gaps and interaction of these cells are right, the cells themselves are shifted.
    """
    old, new = (each.cosine - each.cosine.mean(axis=1, keepdims=True) for each in (before, after))
    draws = paired_swaps(before.clusters, inference)
    rows = max(1, BLOCK_CELLS // len(before.image))
    members = [np.flatnonzero(before.image == code) for code in range(len(before.groups))]
    parts = []
    while held := list(islice(draws, rows)):
        swaps = np.stack(held)
        found = np.array(
            [
                [_exchanged(a[own], b[own], swaps[:, own], before.k) for own in members]
                for a, b in zip(old, new, strict=True)
            ]
        )
        parts.append(np.stack([before.cells(found[:, :, side].transpose(2, 0, 1)) for side in (0, 1)]))
    both = np.concatenate(parts, axis=1)
    return both[0], both[1]


def _exchanged(a: np.ndarray, b: np.ndarray, swaps: np.ndarray, k: int) -> np.ndarray:
    """Mean of the best ``k`` of both systems under swaps ``(b, n)``: ``(2, b)``; only those near the top."""
    best = 4 * k + 32
    while True:
        floor = [np.partition(each, -best)[-best] if best < len(each) else -np.inf for each in (a, b)]
        near = np.flatnonzero((a >= floor[0]) | (b >= floor[1]))
        moved = swaps[:, near]
        mixed = np.stack([np.where(moved, b[near], a[near]), np.where(moved, a[near], b[near])])
        top = np.partition(mixed, len(near) - k, axis=2)[:, :, len(near) - k :]
        if top.min() >= max(floor) or best >= len(a):
            return top.mean(axis=2)
        best *= 2
