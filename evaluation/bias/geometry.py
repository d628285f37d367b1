"""Geometry of erasure: does the text direction point where the images differ, and how far images move."""

from __future__ import annotations

import numpy as np

from evaluation.inference import (
    Inference,
    NullFields,
    cluster_count,
    mean_interval,
    null_fields,
    permutation_p,
    resampled_sums,
)
from evaluation.results import Estimate
from evaluation.utility.retrieval import unit_rows


def cross_modal_angle(
    text_direction: np.ndarray,
    x: np.ndarray,
    labels: np.ndarray,
    *,
    clusters: np.ndarray,
    groups: tuple[str, str],
    name: str,
    split: str,
    system: str,
    inference: Inference,
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
        clusters: ``(n,)`` names.
        groups: the two groups compared.
        name, split, system: for the row.
        inference: draws and level.

    Raises:
        ValueError: a zero direction, a group without observation, or fewer than two clusters.
    """
    kept = np.isin(labels, groups)
    x, labels, clusters = np.asarray(x, dtype=np.float64)[kept], labels[kept], clusters[kept]
    difference, drawn = _mean_differences(x, labels, groups, clusters, inference)
    line = np.asarray(text_direction, dtype=np.float64)
    if not line.any():
        raise ValueError("the text direction is zero")
    line = line * np.where(difference @ line < 0, -1.0, 1.0) / np.linalg.norm(line)
    noise = float(drawn.var(axis=0).sum())
    low, high = inference.interval(_angle(drawn, line, noise=2 * noise))
    return Estimate(
        name=f"geometry/{name}/cross_modal_angle",
        value=float(_angle(difference, line, noise=noise)),
        low=min(low, 90.0),
        high=min(high, 90.0),
        **_against_random(float(_angle(difference, line)), line, inference),
        n=len(x),
        n_clusters=cluster_count(clusters),
        split=split,
        system=system,
        unit="degrees",
        higher_is_better=False,
    )


def cosine_kept(
    before: np.ndarray,
    after: np.ndarray,
    *,
    clusters: np.ndarray,
    name: str,
    split: str,
    system: str,
    inference: Inference,
) -> Estimate:
    """Row ``geometry/{name}/cosine_kept``: mean cosine between an image's embedding before and after.

    Args:
        before, after: embeddings ``(n, d)`` of the same images; a zero vector has cosine 0.
        clusters: ``(n,)`` names.
        name: of the attribute.
        split, system: for the row.
        inference: draws and level.

    Raises:
        ValueError: fewer than two clusters.
    """
    cosine = (unit_rows(before) * unit_rows(after)).sum(axis=1)
    value, low, high = mean_interval(cosine, clusters, inference)
    return Estimate(
        name=f"geometry/{name}/cosine_kept",
        value=value,
        low=low,
        high=high,
        n=len(cosine),
        n_clusters=cluster_count(clusters),
        split=split,
        system=system,
        higher_is_better=True,
    )


def _against_random(observed: float, line: np.ndarray, inference: Inference) -> NullFields:
    random = _angle(inference.rng(4).standard_normal((inference.permutations, len(line))), line)
    null = np.minimum(random, 180.0 - random)
    fields = null_fields(observed, null, inference)
    fields["p_value"] = permutation_p(-observed, -null)
    return fields


def _mean_differences(
    x: np.ndarray, labels: np.ndarray, groups: tuple[str, str], clusters: np.ndarray, inference: Inference
) -> tuple[np.ndarray, np.ndarray]:
    """Second group's mean minus the first's, ``(d,)``, and the same in every resample that holds both."""
    counted = np.column_stack([x, np.ones(len(x))])
    means, sums = [], []
    for group in groups:
        member = labels == group
        if not member.any():
            raise ValueError(f"no observation of group {group!r}")
        means.append(x[member].mean(axis=0))
        sums.append(resampled_sums(counted * member[:, None], clusters, inference))
    both = (sums[0][:, -1] > 0) & (sums[1][:, -1] > 0)
    first, second = (each[both, :-1] / each[both, -1:] for each in sums)
    return means[1] - means[0], second - first


def _angle(difference: np.ndarray, line: np.ndarray, *, noise: float = 0.0) -> np.ndarray:
    """Degrees, 0 to 180, to the unit vector ``line``; ``noise`` is taken off the squared length."""
    squared = np.asarray((difference**2).sum(axis=-1) - noise)
    length = np.sqrt(np.where(squared > 0, squared, np.inf))
    return np.degrees(np.arccos(np.clip(difference @ line / length, -1.0, 1.0)))
