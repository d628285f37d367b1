"""Counts and rates of predictions in groups: as they are, in resamples, and under permuted group labels.

Every group metric is a function of three tables, groups by classes: how often a class is the target, how
often it is predicted, and how often both. They are sums, so resamples and permutations are sums as well.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
from scipy.sparse import csr_array

from evaluation.inference import Inference, cluster_count, permuted_labels, resampled_sums

Kind = Literal["accuracy", "selection", "odds", "opportunity"]
LEAST_CLUSTERS = 5


@dataclass(frozen=True)
class Rates:
    """Rates of one kind by group and class, with what an interval needs to know of them.

    Attributes:
        value: ``(groups, classes)``; odds hold true positive rates and then false positive rates.
        size: observations under each rate, ``(groups, classes)``.
        draws: in resamples of the clusters, ``(resamples, groups, classes)``; nan where a resample lost all
            observations of a rate.
        clusters: of each group, ``(groups,)``.
        fused: by how much less a group's observations count when each of its clusters answers as one,
            ``(groups,)``, at least 1 (Kish 1965).
    """

    value: np.ndarray
    size: np.ndarray
    draws: np.ndarray
    clusters: np.ndarray
    fused: np.ndarray


@dataclass(frozen=True)
class Answers:
    """Predictions and targets ``(n,)`` in codes: of a group, and of a compared class or one past the last.

    Attributes:
        groups: group codes ``(n,)``.
        target, predicted: class codes ``(n,)``; ``len(classes)`` stands for all classes not compared.
        correct: where prediction and target agree, before classes were set aside, ``(n,)``.
        clusters: ``(n,)`` names.
        names: of the groups.
        classes: the compared ones.
        left_out: how many classes were set aside.
    """

    groups: np.ndarray
    target: np.ndarray
    predicted: np.ndarray
    correct: np.ndarray
    clusters: np.ndarray
    names: np.ndarray
    classes: np.ndarray
    left_out: int

    @classmethod
    def of(
        cls,
        predictions: np.ndarray,
        target: np.ndarray,
        groups: np.ndarray,
        clusters: np.ndarray,
        *,
        positive: object,
        least: int,
    ) -> Self:
        """Code the labels; a class is compared where every group holds ``least`` targets of it and others.

        Raises:
            ValueError: lengths that differ, fewer than two groups, a group in fewer than two clusters, or a
                positive class that occurs nowhere.
        """
        lengths = {len(predictions), len(target), len(groups), len(clusters)}
        if len(lengths) > 1:
            raise ValueError(f"predictions, target, groups and clusters differ in length: {sorted(lengths)}")
        names, code = np.unique(groups, return_inverse=True)
        if len(names) < 2:
            raise ValueError(f"a comparison needs two groups, got {names.tolist()}")
        for index, name in enumerate(names):
            if cluster_count(clusters[code == index]) < 2:
                raise ValueError(f"group {str(name)!r} lies in one cluster, an interval needs at least two")
        classes = np.union1d(predictions, target)
        true, said = np.searchsorted(classes, target), np.searchsorted(classes, predictions)
        held = np.zeros((len(names), len(classes)), dtype=np.int64)
        np.add.at(held, (code, true), 1)
        asked = np.ones(len(classes), dtype=bool) if positive is None else classes == positive
        if not asked.any():
            raise ValueError(f"positive class {positive!r} is neither predicted nor a target")
        enough = np.minimum(held, held.sum(axis=1, keepdims=True) - held).min(axis=0) >= least
        spread = _clusters_of(clusters, code, true, held.shape).min(axis=0) >= LEAST_CLUSTERS
        kept = np.flatnonzero(asked & enough & spread)
        recoded = np.full(len(classes), len(kept))
        recoded[kept] = np.arange(len(kept))
        left_out = int(np.count_nonzero(asked)) - len(kept)
        return cls(code, recoded[true], recoded[said], true == said, clusters, names, classes[kept], left_out)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of the tables: targets, predictions and hits; groups; compared classes and all others."""
        return 3, len(self.names), len(self.classes) + 1

    def tables(self, groups: np.ndarray) -> np.ndarray:
        """The three tables for group codes ``(n,)``, which a permutation may have moved."""
        _, rows, columns = self.shape
        offset = groups * columns
        cells = [offset + self.target, offset + self.predicted, (offset + self.target)[self.correct]]
        counted = [np.bincount(each, minlength=rows * columns) for each in cells]
        return np.stack(counted).reshape(self.shape)

    def resampled(self, inference: Inference) -> np.ndarray:
        """``tables`` in resamples of the clusters, ``(resamples, 3, groups, classes + 1)``."""
        _, rows, columns = self.shape
        index = np.arange(len(self.groups))
        offset, cells = self.groups * columns, rows * columns
        hit = index[self.correct]
        row = np.concatenate([index, index, hit])
        column = np.concatenate(
            [offset + self.target, cells + offset + self.predicted, 2 * cells + (offset + self.target)[hit]]
        )
        members = csr_array((np.ones(len(row)), (row, column)), shape=(len(index), 3 * cells))
        return resampled_sums(members, self.clusters, inference).reshape(-1, *self.shape)

    def permuted(self, inference: Inference) -> Iterator[np.ndarray]:
        """``tables`` under group labels that say nothing (``permuted_labels``), one after another."""
        for drawn in permuted_labels(self.groups, self.clusters, inference):
            yield self.tables(drawn)

    def rates(self, kind: Kind, draws: np.ndarray) -> Rates:
        """Rates with the ``draws`` that ``resampled`` gave."""
        tables = self.tables(self.groups)
        value, size = rates_of(tables, kind)
        _, cluster = np.unique(self.clusters, return_inverse=True)
        cell, count = np.unique(cluster * len(self.names) + self.groups, return_counts=True)
        owner = cell % len(self.names)
        squares = np.bincount(owner, weights=count.astype(np.float64) ** 2)
        fused = squares / np.bincount(self.groups)
        return Rates(value, size, rates_of(draws, kind)[0], np.bincount(owner), fused)


def _clusters_of(
    clusters: np.ndarray, group: np.ndarray, target: np.ndarray, shape: tuple[int, ...]
) -> np.ndarray:
    """In how many clusters each group has targets of each class, ``(groups, classes)``."""
    _, cluster = np.unique(clusters, return_inverse=True)
    cells = np.unique(cluster * (shape[0] * shape[1]) + group * shape[1] + target)
    return np.bincount(cells % (shape[0] * shape[1]), minlength=shape[0] * shape[1]).reshape(shape)


def rates_of(tables: np.ndarray, kind: Kind) -> tuple[np.ndarray, np.ndarray]:
    """Rates and the observations under each, ``(..., groups, classes)``; a rate of no observation is nan.

    Args:
        tables: ``(..., 3, groups, classes + 1)``.
        kind: of rate.
    """
    target, said, hit = np.moveaxis(np.asarray(tables, dtype=np.float64), -3, 0)
    total = target.sum(axis=-1, keepdims=True)
    if kind == "accuracy":
        return _share(hit.sum(axis=-1, keepdims=True), total), total
    target, said, hit = target[..., :-1], said[..., :-1], hit[..., :-1]
    if kind == "selection":
        return _share(said, total), np.broadcast_to(total, said.shape)
    if kind == "opportunity":
        return _share(hit, target), target
    part, whole = np.concatenate([hit, said - hit], -1), np.concatenate([target, total - target], -1)
    return _share(part, whole), whole


def gap(rates: np.ndarray) -> np.ndarray:
    """Largest difference between two groups in any class, ``(...)`` from ``(..., groups, classes)``."""
    between = np.fmax.reduce(rates, axis=-2) - np.fmin.reduce(rates, axis=-2)
    return np.nan_to_num(np.fmax.reduce(between, axis=-1))


def least_ratio(rates: np.ndarray) -> np.ndarray:
    """Smallest rate over largest, the least over classes ``(...)``; 1 where no class has a rate above 0."""
    ratio = _share(np.fmin.reduce(rates, axis=-2), np.fmax.reduce(rates, axis=-2))
    return np.nan_to_num(np.fmin.reduce(ratio, axis=-1), nan=1.0)


def worst(rates: np.ndarray) -> np.ndarray:
    """Smallest rate of any group, ``(...)`` from ``(..., groups, 1)``."""
    return np.fmin.reduce(rates[..., 0], axis=-1)


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full(np.broadcast(part, whole).shape, np.nan), where=whole > 0)
