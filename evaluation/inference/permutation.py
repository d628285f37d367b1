"""Null distributions: labels move only where clusters are exchangeable, two systems swap by cluster."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypedDict

import numpy as np

from evaluation.inference.settings import Inference

ROUNDING = 1e-12


class NullFields(TypedDict):
    """The fields of an ``Estimate`` that speak of its null distribution."""

    null: float
    null_low: float
    null_high: float
    p_value: float


def permutation_p(observed: float, null: np.ndarray) -> float:
    """One-sided p-value ``(1 + #{null >= observed}) / (1 + B)`` (Phipson & Smyth 2010).

    Raises:
        ValueError: a number that is not finite, or no draw.
    """
    if not (len(null) and np.isfinite(observed) and np.isfinite(null).all()):
        raise ValueError("a p-value needs a finite observation and finite draws of its null, at least one")
    return float((1 + np.count_nonzero(null >= observed - ROUNDING)) / (1 + len(null)))


def null_fields(observed: float, null: np.ndarray, inference: Inference) -> NullFields:
    """Mean and central ``level`` of null draws ``(B,)`` with the p-value of ``observed`` being large."""
    low, high = inference.interval(null)
    p_value = permutation_p(observed, null)
    return {"null": float(np.mean(null)), "null_low": low, "null_high": high, "p_value": p_value}


def paired_swaps(clusters: np.ndarray, inference: Inference) -> Iterator[np.ndarray]:
    """Masks ``(n,)`` that say where two systems change places: each cluster as a whole, with p = 1/2."""
    names, codes = np.unique(clusters, return_inverse=True)
    rng = inference.rng(1)
    for _ in range(inference.permutations):
        yield rng.integers(2, size=len(names), dtype=bool)[codes]


def permuted_labels(labels: np.ndarray, clusters: np.ndarray, inference: Inference) -> Iterator[np.ndarray]:
    """Labels ``(n,)`` under the null that they say nothing, with the dependence inside clusters kept.

    In a cluster that holds several groups the groups trade names at random (two groups: the whole cluster
    is swapped with p = 1/2). Clusters that hold one group trade their label with one another.
    """
    _, cluster = np.unique(clusters, return_inverse=True)
    groups, label = np.unique(labels, return_inverse=True)
    cells, cell_of = np.unique(cluster * len(groups) + label, return_inverse=True)
    owner, cell_label = np.divmod(cells, len(groups))
    shared = np.bincount(owner)[owner] > 1
    alone, mixed = np.flatnonzero(~shared), np.flatnonzero(shared)
    rng = inference.rng(2)
    permuted = np.empty_like(cell_label)
    for _ in range(inference.permutations):
        permuted[alone] = rng.permutation(cell_label[alone])
        # cells are in order of their clusters: a fraction added to the cluster's number shuffles inside it
        permuted[mixed] = cell_label[mixed[np.argsort(owner[mixed] + rng.random(len(mixed)))]]
        yield groups[permuted[cell_of]]
