"""Association of two image groups with two sets of texts (WEAT: Caliskan 2017; iEAT: Steed & Caliskan 2021).

An image's association ``s`` is its mean cosine to texts A minus its mean cosine to texts B. The effect size
is the difference of the two groups' mean ``s`` over the standard deviation of ``s`` of both together (n - 1
in the denominator). It says how well the groups part, not how far: a hair's breadth without noise is a large
effect. The difference itself, in units of cosine, therefore stands beside it.
"""

from __future__ import annotations

import numpy as np

from evaluation.bias.association_null import (
    STATISTICS,
    association_sums,
    label_null,
    swap_null,
    two_sided,
)
from evaluation.inference import Bootstrap, Inference, bootstrap
from evaluation.results import Estimate
from evaluation.setting import Setting
from evaluation.vectors import unit_rows

Texts = tuple[np.ndarray, np.ndarray]


def association(
    images: np.ndarray, groups: np.ndarray, texts: Texts, *, targets: tuple[str, str], name: str, at: Setting
) -> list[Estimate]:
    """Rows ``association/{name}/effect_size`` and ``association/{name}/difference``.

    Positive when the first target is nearer to the first texts than the second target is. The null permutes
    the target labels with the dependence inside clusters kept: all ways where there are at most 10,000, else
    random ones. The p-value is two-sided and the same for both rows, for the standard deviation does not
    change when labels move.

    Args:
        images: embeddings ``(n, d)``, of any length.
        groups: perceived or text-derived group of each image ``(n,)``; other groups than ``targets`` are left
            out.
        texts: embeddings ``(a, d)`` and ``(b, d)`` of the two sets of attribute texts.
        targets: the two groups compared; order them so that the stereotype is positive.
        name: of the comparison.
        at: clusters ``(n,)``, split, system, draws.

    Raises:
        ValueError: a target without images, no text, shapes that do not fit, images that all have one
            association, embeddings that are not finite, or fewer than two clusters.
    """
    first, at, kept = _members(groups, targets, at)
    score = _scores(images[kept], texts)
    clusters, inference = at.clusters, at.inference
    null = label_null(score, first, clusters, inference)
    rows = []
    for kind, found in _bootstraps(score, first, clusters, inference).items():
        scale = 1.0 if kind == "difference" else float(score.std(ddof=1))
        draws = null[0] / scale
        low, high = _interval(found, inference)
        null_low, null_high = inference.interval(draws)
        p_value = two_sided(found.value, draws, exact=null[1])
        rows.append(
            at.row(
                f"association/{name}/{kind}",
                found.value,
                higher_is_better=False,
                low=low,
                high=high,
                draws=found.draws,
                null=float(draws.mean()),
                null_low=null_low,
                null_high=null_high,
                p_value=p_value,
                n_by_group=_sizes(first, targets),
                unit=_unit(kind),
            )
        )
    return rows


def association_changes(
    before: tuple[np.ndarray, Texts],
    after: tuple[np.ndarray, Texts],
    groups: np.ndarray,
    *,
    targets: tuple[str, str],
    name: str,
    at: Setting,
) -> list[Estimate]:
    """Rows of ``association`` with ``_change`` at the end: after minus before, on the same images.

    The interval is paired. The null is no change. The p-value is two-sided: it exchanges the associations of
    the two systems in whole clusters (for the effect size after both were brought to mean 0 and standard
    deviation 1, as it does not depend on them).

    Args:
        before, after: images ``(n, d)`` and the two sets of texts of each system.
        groups, targets, name, at: as in ``association``.

    Raises:
        ValueError: as in ``association``, or another number of images after than before.
    """
    if len(before[0]) != len(after[0]):
        raise ValueError(f"{len(before[0])} images before but {len(after[0])} after")
    first, at, kept = _members(groups, targets, at)
    old, new = (_scores(images[kept], texts) for images, texts in (before, after))
    drawn = [_bootstraps(score, first, at.clusters, at.inference) for score in (old, new)]
    rows = []
    for kind in drawn[0]:
        was, now = (each[kind] for each in drawn)
        paired = Bootstrap(now.value - was.value, now.draws - was.draws, now.left_out - was.left_out)
        low, high = _interval(paired, at.inference)
        scores = (old, new) if kind == "difference" else (_standard(old), _standard(new))
        rows.append(
            at.row(
                f"association/{name}/{kind}_change",
                paired.value,
                higher_is_better=False,
                low=low,
                high=high,
                null=0.0,
                p_value=two_sided(
                    paired.value, swap_null(*scores, first, kind, at.clusters, at.inference), exact=False
                ),
                n_by_group=_sizes(first, targets),
                unit=_unit(kind),
            )
        )
    return rows


def _members(
    groups: np.ndarray, targets: tuple[str, str], at: Setting
) -> tuple[np.ndarray, Setting, np.ndarray]:
    """Who of the two targets belongs to the first, the setting of both, and where they stand."""
    if len(groups) != len(at):
        raise ValueError(f"{len(groups)} group labels but {len(at)} cluster names")
    for target in targets:
        if not (groups == target).any():
            raise ValueError(f"no image of group {target!r}")
    kept = np.flatnonzero(np.isin(groups, targets))
    return groups[kept] == targets[0], at.where(kept), kept


def _scores(images: np.ndarray, texts: Texts) -> np.ndarray:
    if not min(len(each) for each in texts):
        raise ValueError("each of the two sets of texts needs at least one text")
    towards = unit_rows(texts[0]).mean(axis=0) - unit_rows(texts[1]).mean(axis=0)
    score = unit_rows(images) @ towards
    if np.ptp(score) <= 1e-12:
        raise ValueError("all images have the same association, its spread is zero")
    return score


def _standard(score: np.ndarray) -> np.ndarray:
    return (score - score.mean()) / score.std(ddof=1)


def _bootstraps(
    score: np.ndarray, first: np.ndarray, clusters: np.ndarray, inference: Inference
) -> dict[str, Bootstrap]:
    """Of each statistic. Scores are centred first, which changes neither and keeps the squares small."""
    sums = association_sums(score - score.mean(), first)
    return {kind: bootstrap(sums, clusters, statistic, inference) for kind, statistic in STATISTICS.items()}


def _interval(found: Bootstrap, inference: Inference) -> tuple[float, float]:
    """From the draws that are defined; those without one of the targets are not."""
    draws, left_out = (each[~np.isnan(each)] for each in (found.draws, found.left_out))
    if not len(draws):
        raise ValueError(
            "an interval needs at least two clusters that hold a target, and resamples with both"
        )
    return Bootstrap(found.value, draws, left_out).interval(inference)


def _sizes(first: np.ndarray, targets: tuple[str, str]) -> dict[str, int]:
    return {targets[0]: int(first.sum()), targets[1]: int((~first).sum())}


def _unit(kind: str) -> str:
    return "cosine" if kind == "difference" else "standard deviations"
