"""Embeddings of any origin with groups, clusters and a split: checked, and split where nobody has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import shorten
from typing import Any, Self

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

TRAIN, VAL, TEST = "train", "val", "test"
FOLDS = 3  # one of which is held out
WIDTH = 120


@dataclass(frozen=True, kw_only=True)
class Given:
    """Embeddings ``x`` ``(n, d)`` in float64, and names ``(n,)`` of each row's group, cluster and split."""

    x: np.ndarray
    labels: np.ndarray
    clusters: np.ndarray
    split: np.ndarray

    @classmethod
    def of(
        cls,
        x: np.ndarray,
        labels: Sequence[Any],
        *,
        clusters: Sequence[Any] | None,
        split: Sequence[Any] | None,
        seed: int,
    ) -> Self:
        """Checked rows; without ``clusters`` each stands for itself, without ``split`` see ``held_out``.

        Raises:
            ValueError: a name is missing in some row, or nothing could be measured on such splits.
        """
        groups = names(labels, "targets")
        if len(groups) != len(x):
            raise ValueError(f"there are {len(x)} embeddings for {len(groups)} rows of targets")
        found = np.unique(groups).tolist()
        if len(found) < 2:
            raise ValueError(f"targets holds one group, {', '.join(found)}: leakage needs two")
        own = np.arange(len(x)).astype(str) if clusters is None else names(clusters, "'clusters'")
        sides = held_out(groups, own, seed=seed) if split is None else names(split, "'split'")
        given = cls(x=x, labels=groups, clusters=own, split=sides)
        given._check_sides()
        return given

    @property
    def tests(self) -> list[str]:
        """Held-out splits: all but ``train`` and ``val``."""
        return [name for name in np.unique(self.split).tolist() if name not in (TRAIN, VAL)]

    def _check_sides(self) -> None:
        known = self.split == TRAIN
        if not known.any() or not self.tests:
            found = ", ".join(np.unique(self.split).tolist())
            raise ValueError(f"'split' holds {found}; expected {TRAIN!r} and at least one held-out split")
        for split in self.tests:
            rows = self.split == split
            if len(np.unique(self.clusters[rows])) < 2:
                raise ValueError(f"'split': {split!r} holds one cluster, an interval needs two")
            if shared := np.intersect1d(self.clusters[known], self.clusters[rows]).tolist():
                raise ValueError(
                    f"'clusters': {TRAIN!r} and {split!r} share {len(shared)} of them, {shared[0]!r} first: "
                    "attackers would know them again"
                )


def held_out(labels: np.ndarray, clusters: np.ndarray, *, seed: int) -> np.ndarray:
    """``train`` or ``test`` for every row ``(n,)``: a third of the clusters is held out, groups alike.

    Raises:
        ValueError: a group in too few clusters to stand on both sides.
    """
    for group in np.unique(labels).tolist():
        found = len(np.unique(clusters[labels == group]))
        if found < FOLDS:
            raise ValueError(
                f"group {group!r} lies in {found} of the 'clusters', a split needs {FOLDS}: "
                "give more rows, or a column for 'split'"
            )
    drawn = {"shuffle": True, "random_state": seed}
    if len(np.unique(clusters)) == len(clusters):  # the same task, and a hundred times faster
        sides = StratifiedKFold(FOLDS, **drawn).split(labels, labels)
    else:
        sides = StratifiedGroupKFold(FOLDS, **drawn).split(labels, labels, clusters)
    groups = set(labels.tolist())
    for train, test in sides:
        if set(labels[train].tolist()) == set(labels[test].tolist()) == groups:
            split = np.full(len(labels), TRAIN)
            split[test] = TEST
            return split
    raise ValueError(
        "no third of the 'clusters' holds every group while the others do too: "
        "give more clusters, or a column for 'split'"
    )


def names(values: Sequence[Any], what: str) -> np.ndarray:
    """One name a row, as strings ``(n,)``.

    Raises:
        ValueError: more than one dimension, or rows without a name; ``what`` begins it.
    """
    rows = np.asarray(values, dtype=object)
    if rows.ndim != 1:
        raise ValueError(f"{what} has shape {rows.shape}, expected one name a row")
    if missing := int(pd.isna(rows).sum()):
        raise ValueError(f"{what} is empty in {missing} of {len(rows)} rows: leave them out")
    return rows.astype(str)


def vectors(values: Any, what: str) -> np.ndarray:
    """Rows of numbers, or a column of vectors, as float64 ``(n, d)``.

    Raises:
        ValueError: they are no vectors, differ in length or hold what is not finite; ``what`` begins it.
    """
    try:
        rows = [np.asarray(row, dtype=np.float64) for row in values]
    except (TypeError, ValueError) as error:
        said = shorten(str(error), WIDTH, placeholder=" …")
        raise ValueError(f"{what} holds something else than vectors of numbers: {said}") from error
    shapes = sorted({row.shape for row in rows})
    if any(len(shape) != 1 or 0 in shape for shape in shapes):
        raise ValueError(f"{what} holds arrays of shape {shapes[0]} in its rows, expected vectors")
    if len(shapes) > 1:
        lengths = ", ".join(str(shape[0]) for shape in shapes[:3])
        raise ValueError(f"{what} holds vectors of different lengths: {lengths}")
    x = np.stack(rows)
    if bad := np.flatnonzero(~np.isfinite(x).all(axis=1)).tolist():
        raise ValueError(f"{what} holds NaN or infinity in {len(bad)} rows, the first is row {bad[0]}")
    return x
