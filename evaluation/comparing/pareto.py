"""Utility against leakage: which points no other beats, and how much of the plane they cover."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from evaluation.inference import Inference, centred
from evaluation.inference.across_runs import mean_draws
from evaluation.results import AuditResult, Estimate

RECALLS = ("retrieval/i2t_recall_10", "retrieval/t2i_recall_10")
ELSE = ("zero_shot/", "probe/", "grounding/")  # what stands for utility without captions
CHANGE = "_change"


@dataclass(frozen=True, kw_only=True)
class Axis:
    """One coordinate of a point: what it is, with its interval, chance, independent items and draws
    ``(resamples,)``.
    """

    label: str
    value: float
    low: float | None
    high: float | None
    chance: float | None
    clusters: int
    draws: np.ndarray | None


def front(utility: np.ndarray, leakage: np.ndarray) -> np.ndarray:
    """Mask ``(n,)`` of the points that no other point dominates: at least as useful and leaking as little.

    Points that coincide stand or fall together.

    Raises:
        ValueError: not as many of one as of the other.
    """
    utility, leakage = _pair(utility, leakage)
    order = np.lexsort((leakage, -utility))
    kept = np.zeros(len(utility), dtype=bool)
    least, at = np.inf, np.nan
    for place in order:
        if leakage[place] < least or (leakage[place] == least and utility[place] == at):
            kept[place] = True
            least, at = leakage[place], utility[place]
    return kept


def hypervolume(utility: np.ndarray, leakage: np.ndarray, *, chance: float) -> float:
    """Share of the plane from (0, 1) to (1, ``chance``) that some point dominates (Zitzler & Thiele 1998).

    0: every attacker is always right, or the model is of no use; 1: a perfect model that leaks nothing.
    Points beyond the plane count at its edge.

    Args:
        utility: ``(n,)`` fractions, higher is better.
        leakage: ``(n,)`` balanced accuracies, lower is better.
        chance: leakage of a model that tells nothing.

    Raises:
        ValueError: not as many of one as of the other, or chance outside [0, 1).
    """
    utility, leakage = _pair(utility, leakage)
    if not 0 <= chance < 1:
        raise ValueError(f"chance is {chance}, expected a share below 1")
    order = np.argsort(-utility, kind="stable")
    useful = np.clip(utility[order], 0, 1)
    room = np.maximum.accumulate(1 - np.clip(leakage[order], chance, 1)) if len(order) else leakage
    steps = useful - np.append(useful[1:], 0.0)
    return float((steps * room).sum() / (1 - chance))


def hypervolume_interval(
    utility: np.ndarray, leakage: np.ndarray, *, chance: float, value: float, inference: Inference
) -> tuple[float, float]:
    """Interval of ``hypervolume`` from the points' draws ``(n, resamples)`` on shared resamples.

    The best of noisy points is biased upwards, so the draws are moved to ``value``.
    """
    drawn = [hypervolume(*each, chance=chance) for each in zip(utility.T, leakage.T, strict=True)]
    low, high = centred(value, np.array(drawn), inference)
    return max(low, 0.0), min(high, 1.0)


def leakage_axis(result: AuditResult, *, system: str, split: str = "test") -> Axis | None:
    """Leakage of the attribute from the image embedding (of pixels: from them), strongest attacker."""
    attribute = result.attribute.get("name")
    rows = [
        row
        for row in result.select(f"leakage/{attribute}/", split=split, system=system)
        if row.name.endswith(("embedding/max", "pixels/max"))
    ]
    return _axis("leakage, strongest attacker", rows[:1])


def utility_axis(result: AuditResult, *, system: str, split: str = "test") -> Axis | None:
    """Mean of both recalls at 10; without captions the first task of classification, probe or grounding.

    Recognising the attribute itself is no utility.
    """
    rows = {row.name: row for row in result.rows if (row.system, row.split, row.group) == (system, split, "")}
    if all(name in rows for name in RECALLS):
        return _axis("mean recall at 10", [rows[name] for name in RECALLS])
    own = f"zero_shot/{result.attribute.get('name')}_"
    for family in ELSE:
        for name, row in rows.items():
            fits = name.startswith(family) and not name.startswith(own) and not name.endswith(CHANGE)
            if fits and row.higher_is_better and row.unit == "fraction":
                return _axis(name, [row])
    return None


def _axis(label: str, rows: list[Estimate]) -> Axis | None:
    """The mean of rows that rest on the same clusters; its interval is read off the draws of several."""
    if not rows:
        return None
    value = float(np.mean([row.value for row in rows]))
    draws = _mean_draws(rows)
    nulls = [row.null for row in rows]
    low, high = rows[0].low, rows[0].high
    if len(rows) > 1:
        low, high = Inference().interval(draws[~np.isnan(draws)]) if draws is not None else (None, None)
    chance = None if None in nulls else float(np.mean(np.array(nulls, dtype=np.float64)))
    clusters = min(row.n if row.n_clusters is None else row.n_clusters for row in rows)
    return Axis(label=label, value=value, low=low, high=high, chance=chance, clusters=clusters, draws=draws)


def _mean_draws(rows: list[Estimate]) -> np.ndarray | None:
    alike = len({row.n_clusters for row in rows}) == 1
    return mean_draws([row.draws for row in rows]) if alike else None


def _pair(utility: np.ndarray, leakage: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    one, other = np.asarray(utility, dtype=np.float64), np.asarray(leakage, dtype=np.float64)
    if one.shape != other.shape or one.ndim != 1:
        raise ValueError(f"{one.shape} utilities but {other.shape} leakages, expected one of each a point")
    return one, other
