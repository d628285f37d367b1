"""Geometry of erasure: does the text direction point where images differ, how far they move, what is left."""

from __future__ import annotations

import numpy as np
from sklearn.covariance import ledoit_wolf

from evaluation.inference import (
    Inference,
    NullFields,
    bootstrap,
    null_fields,
    permutation_p,
    permuted_labels,
    resampled_sums,
)
from evaluation.results import Estimate
from evaluation.setting import Setting
from evaluation.vectors import unit_rows


def cross_modal_angle(
    text_direction: np.ndarray,
    x: np.ndarray,
    labels: np.ndarray,
    *,
    groups: tuple[str, str],
    name: str,
    at: Setting,
) -> Estimate:
    """Row ``geometry/{name}/cross_modal_angle`` in degrees, 0 to 90.

    The angle between the line of a text direction and the difference of the two group means of the image
    embeddings. At 0 removing the text direction removes the mean difference; at 90 it removes none of it.

    Noise lengthens an estimated difference of means in all ``d`` dimensions and so pulls the angle towards
    90: with 60 clusters in 512 dimensions a true 20 degrees can read 58. The squared length is therefore
    reduced by its sampling variance, estimated by the bootstrap (once for the value, twice for a resample,
    which is noisy twice). A difference near its noise can read anything, and its interval says so.

    The null is the angle of random directions. The p-value (small when the text direction is nearer than
    random ones) compares angles without the correction, for which it is exact.

    Args:
        text_direction: ``(d,)``, of any length and sign.
        x: image embeddings ``(n, d)``.
        labels: ``(n,)``; observations of other groups than ``groups`` are left out.
        groups: the two groups compared.
        name: of the attribute.
        at: the observations' clusters, split and system.

    Raises:
        ValueError: a zero direction, a group without observation, or fewer than two clusters.
    """
    kept = np.isin(labels, groups)
    x, labels, at = np.asarray(x, dtype=np.float64)[kept], labels[kept], at.where(kept)
    difference, drawn = _mean_differences(x, labels, groups, at)
    line = np.asarray(text_direction, dtype=np.float64)
    if not line.any():
        raise ValueError("the text direction is zero")
    line = line * np.where(difference @ line < 0, -1.0, 1.0) / np.linalg.norm(line)
    noise = float(drawn.var(axis=0).sum())
    low, high = at.inference.interval(_angle(drawn, line, noise=2 * noise))
    return at.row(
        f"geometry/{name}/cross_modal_angle",
        float(_angle(difference, line, noise=noise)),
        higher_is_better=False,
        low=min(low, 90.0),
        high=min(high, 90.0),
        n_by_group=group_sizes(labels),
        unit="degrees",
        **_against_random(float(_angle(difference, line)), line, at.inference),
    )


def cosine_kept(before: np.ndarray, after: np.ndarray, *, name: str, at: Setting) -> Estimate:
    """Row ``geometry/{name}/cosine_kept``: mean cosine between an image's embedding before and after.

    Args:
        before, after: embeddings ``(n, d)`` of the same images; a zero vector has cosine 0.
        name: of the attribute.
        at: the observations' clusters, split and system.

    Raises:
        ValueError: fewer than two clusters.
    """
    cosine = (unit_rows(before) * unit_rows(after)).sum(axis=1)
    return at.mean(f"geometry/{name}/cosine_kept", cosine, higher_is_better=True)


def residual_correlation(
    train_x: np.ndarray,
    train_labels: np.ndarray,
    x: np.ndarray,
    labels: np.ndarray,
    *,
    name: str,
    at: Setting,
) -> Estimate:
    """Row ``geometry/{name}/residual_correlation``: what linear dependence on the groups is left, held out.

    The first canonical correlation between the embedding and the groups (Hotelling 1936). Fitted and read on
    the same ``n`` rows it is about sqrt(d/n) where there is nothing to find. So the pair of directions, one
    of the embedding and one number for each group, is fitted on training data (with Ledoit-Wolf's shrinkage
    of the covariance within groups) and the correlation is read on held-out data. It has a sign: below zero
    the direction did not carry over. It speaks of linear dependence alone; leakage tells of the rest.

    The null permutes the held-out labels. The p-value is small when the correlation is large.

    Args:
        train_x: ``(m, d)``, edited as ``x`` is.
        train_labels: ``(m,)``.
        x: held-out embeddings ``(n, d)``.
        labels: ``(n,)``, groups that ``train_labels`` holds.
        name: of the attribute.
        at: clusters, split and system of the held-out observations.

    Raises:
        ValueError: one group only, a held-out group that was not trained on, or fewer than two clusters.
    """
    groups, codes = np.unique(train_labels, return_inverse=True)
    if len(groups) < 2 or len(np.unique(labels)) < 2:
        raise ValueError("a correlation with groups needs at least two of them, in training and held out")
    if not np.isin(labels, groups).all():
        raise ValueError(f"held out are {np.unique(labels).tolist()}, trained on were {groups.tolist()}")
    direction, number = _canonical_pair(np.asarray(train_x, dtype=np.float64), codes)
    along = np.asarray(x, dtype=np.float64) @ direction
    along = along - along.mean()
    own = np.searchsorted(groups, labels)
    found = bootstrap(_moments(along, number[own]), at.clusters, _correlation, at.inference)
    low, high = found.interval(at.inference)
    null = np.array(
        [
            _correlation(_moments(along, number[drawn]).sum(axis=0))
            for drawn in permuted_labels(own, at.clusters, at.inference)
        ]
    )
    return at.row(
        f"geometry/{name}/residual_correlation",
        found.value,
        higher_is_better=False,
        low=low,
        high=high,
        draws=found.draws,
        n_by_group=group_sizes(labels),
        **null_fields(found.value, null, at.inference),
    )


def group_sizes(labels: np.ndarray) -> dict[str, int]:
    """How many observations of each group there are, by name."""
    names, counts = np.unique(labels, return_counts=True)
    return dict(zip(names.astype(str).tolist(), counts.tolist(), strict=True))


def _against_random(observed: float, line: np.ndarray, inference: Inference) -> NullFields:
    random = _angle(inference.rng(4).standard_normal((inference.permutations, len(line))), line)
    null = np.minimum(random, 180.0 - random)
    fields = null_fields(observed, null, inference)
    fields["p_value"] = permutation_p(-observed, -null)
    return fields


def _mean_differences(
    x: np.ndarray, labels: np.ndarray, groups: tuple[str, str], at: Setting
) -> tuple[np.ndarray, np.ndarray]:
    """Second group's mean minus the first's, ``(d,)``, and the same in every resample that holds both."""
    counted = np.column_stack([x, np.ones(len(x))])
    means, sums = [], []
    for group in groups:
        member = labels == group
        if not member.any():
            raise ValueError(f"no observation of group {group!r}")
        means.append(x[member].mean(axis=0))
        sums.append(resampled_sums(counted * member[:, None], at.clusters, at.inference))
    both = (sums[0][:, -1] > 0) & (sums[1][:, -1] > 0)
    first, second = (each[both, :-1] / each[both, -1:] for each in sums)
    return means[1] - means[0], second - first


def _angle(difference: np.ndarray, line: np.ndarray, *, noise: float = 0.0) -> np.ndarray:
    """Degrees, 0 to 180, to the unit vector ``line``; ``noise`` is taken off the squared length."""
    squared = np.asarray((difference**2).sum(axis=-1) - noise)
    length = np.sqrt(np.where(squared > 0, squared, np.inf))
    return np.degrees(np.arccos(np.clip(difference @ line / length, -1.0, 1.0)))


def _canonical_pair(x: np.ndarray, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First canonical direction ``(d,)`` and the number ``(groups,)`` it gives each group."""
    share = np.bincount(codes) / len(codes)
    means = np.stack([x[codes == group].mean(axis=0) for group in range(len(share))])
    within, _ = ledoit_wolf(x - means[codes], assume_centered=True)
    between = (means - share @ means) * np.sqrt(share)[:, None]
    solved = np.linalg.lstsq(within, between.T, rcond=None)[0]
    _, vectors = np.linalg.eigh(between @ solved)
    direction = solved @ vectors[:, -1]
    return direction, means @ direction - share @ means @ direction


def _moments(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return np.column_stack([first, second, first**2, second**2, first * second, np.ones(len(first))])


def _correlation(sums: np.ndarray) -> np.ndarray:
    """Of sums ``(..., 6)`` of ``_moments``; 0 where one of the two does not vary."""
    first, second, first_square, second_square, product, count = np.moveaxis(sums, -1, 0)
    spread = (first_square - first**2 / count) * (second_square - second**2 / count)
    shared = product - first * second / count
    return np.where(spread > 0, shared / np.sqrt(np.where(spread > 0, spread, 1.0)), 0.0)
