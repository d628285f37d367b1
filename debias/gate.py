"""The gate before an eraser acts: is the calibration enough, and does the edit do harm?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np

from debias.calibration import Calibration
from debias.eraser import Eraser
from debias.residual import SPARE, Residual, effective_size, expected_residuals
from debias.separation import Change, attacker_views, cosine_views, edited, separation_change

Decision = Literal["act", "warn", "abstain"]

# One cluster shows one instance: how a group varies, and so where its mean lies, cannot be known from it.
MIN_CLUSTERS = 2
# Nine tenths left even at the interval's best end: the edit costs utility and removes hardly anything.
HOPELESS = 0.9
# A tenth of the squared distance left is a third of the distance: worth a warning, and a reachable goal.
TOLERABLE = 0.1
# A rise by less than a twentieth of what was there is not worth refusing an edit for.
HARM_MARGIN = 0.05
# Relative to the largest gap before: rounding is about 1e-12, a group that was skipped keeps about 1.
EQUAL = 1e-6
LEVEL = 0.95
RESAMPLES = 500
# Methods after which the group means on the fitted rows are equal, if at full strength.
EQUALISE_MEANS = frozenset({"leace", "caption_leace", "mean_projection", "splince", "quadratic", "hsic"})
VIEWS = {"attacker": attacker_views, "cosine": cosine_views}
VIEW_WORDS = {
    "attacker": "what a linear attacker who trains anew can use",
    "cosine": "how far the groups stand apart in cosines",
}


@dataclass(frozen=True)
class Verdict:
    """What the gate found.

    Attributes:
        decision: ``act``; ``warn``: act, and know the reasons; ``abstain``: better not.
        reasons: in words, the gravest first.
        effective_n: how many independent rows the labelled rows count for.
        residual: share of the groups' squared distance that stays, with interval: expected on fresh data for
            the worst pair of groups if the edit equalises the group means, else measured on held-out data.
        enough: labelled images (of the same clustering and group shares) for a residual of 10%.
        separation: per view (``attacker``, ``cosine``) before, after, interval of the change; held-out.
        cosine: mean cosine between a vector and its edited self.
    """

    decision: Decision
    reasons: tuple[str, ...]
    effective_n: float
    residual: tuple[float, float, float] | None
    enough: int | None
    separation: Mapping[str, Change] = field(default_factory=dict)
    cosine: float = 1.0

    def to_json(self) -> dict[str, Any]:
        """JSON-able, for an eraser's ``details``."""
        changes = {view: change._asdict() for view, change in self.separation.items()}
        return {**asdict(self), "separation": changes}

    def __str__(self) -> str:
        left = "not known" if self.residual is None else _share(self.residual)
        lines = [f"gate: {self.decision}", f"counts for {self.effective_n:.0f} independent images"]
        lines.append(f"residual: {left}; mean cosine to the unedited vectors {self.cosine:.3f}")
        return "\n".join([*lines, *(f"- {reason}" for reason in self.reasons)])


class _Finding(NamedTuple):
    decision: Decision
    words: str


NOTHING = _Finding("abstain", "the edit changes nothing")
UNDONE = _Finding("warn", "the edit can be undone: an attacker who trains anew loses nothing")


def judge(
    eraser: Eraser,
    calibration: Calibration,
    *,
    groups: Sequence[str],
    held_out: Calibration | None = None,
    seed: int = 0,
) -> Verdict:
    """Decide whether ``eraser``, fitted on ``calibration``, should act.

    ``abstain`` where a group is too rare, the edit does not do what its method claims, harm is shown, or even
    the interval's best end leaves 90% of the separation of every pair of groups and held-out rows show no
    reduction either. ``warn`` where the residual
    is above 10% or cannot be estimated, no reduction can be shown on held-out rows, or the edit can be
    undone. Else ``act``.

    Args:
        eraser: any method's.
        calibration: the rows that it was fitted on.
        groups: names, in the order of ``calibration.z``.
        held_out: rows of other clusters, for the do-no-harm check.
        seed: of the bootstrap and of the halves behind the effective size.
    """
    rows = calibration.labelled
    findings = list(_rare_groups(rows, groups))
    if np.array_equal(edited(eraser, rows), rows.x):
        findings.append(NOTHING)
    if len(np.unique(rows.z)) < 2:
        return _verdict(findings, effective_n=float(len(np.unique(rows.clusters))))
    changes = _changes(eraser, rows, held_out.labelled, seed=seed) if held_out is not None else {}
    n_eff = effective_size(rows, seed=seed)
    residual: tuple[float, float, float] | None
    enough = None
    if (_left_of_gaps(eraser, rows) <= EQUAL).all():
        rank, pairs = expected_residuals(rows, n_eff, goal=TOLERABLE, level=LEVEL)
        worst = max(pairs, key=lambda pair: pair.value, default=None)
        residual, enough = (worst[1:4], worst.enough) if worst else (None, None)
        shown = "attacker" in changes and changes["attacker"].high < 0
        findings += _expected(
            pairs, groups, n_eff=n_eff, rank=rank, dim=rows.x.shape[1], rows=len(rows), shown=shown
        )
    else:
        findings += _unequal_groups(eraser, rows, groups)
        residual = changes["attacker"].kept if "attacker" in changes else None
        findings += [UNDONE] if eraser.invertible else _measured(residual)
    findings += _harm(changes)
    cosine = _mean_cosine(rows.x, edited(eraser, rows))
    return _verdict(
        findings, effective_n=n_eff, residual=residual, enough=enough, separation=changes, cosine=cosine
    )


def _verdict(findings: Sequence[_Finding], **measured: Any) -> Verdict:
    order: tuple[Decision, ...] = ("abstain", "warn", "act")
    ranked = sorted(findings, key=lambda finding: order.index(finding.decision))
    reasons = tuple(finding.words for finding in ranked)
    numbers = {"residual": None, "enough": None, **measured}
    return Verdict(ranked[0].decision if ranked else "act", reasons, **numbers)


def _rare_groups(rows: Calibration, groups: Sequence[str]) -> Iterator[_Finding]:
    counts = rows.counts(len(groups))
    for name, count, clusters in zip(groups, counts, rows.clusters_per_group(len(groups)), strict=True):
        if clusters < MIN_CLUSTERS:
            yield _Finding(
                "abstain",
                f"group {name!r} has {count} labelled rows in {clusters} clusters, it needs rows in at least "
                f"{MIN_CLUSTERS} clusters",
            )


def _means_gap(x: np.ndarray, z: np.ndarray, groups: int) -> np.ndarray:
    """Distance of every group's mean from the mean of all ``(groups,)``; 0 without rows."""
    mean = x.mean(0)
    present = np.isin(np.arange(groups), z)
    return np.array([np.linalg.norm(x[z == g].mean(0) - mean) if present[g] else 0.0 for g in range(groups)])


def _left_of_gaps(eraser: Eraser, rows: Calibration) -> np.ndarray:
    """Distances of the group means after the edit, relative to the largest before it ``(groups,)``."""
    groups = int(rows.z.max()) + 1
    before = _means_gap(rows.x.astype(np.float64), rows.z, groups).max()
    return _means_gap(edited(eraser, rows), rows.z, groups) / max(before, np.finfo(float).tiny)


def _unequal_groups(eraser: Eraser, rows: Calibration, groups: Sequence[str]) -> Iterator[_Finding]:
    """The group that a method which equalises means has left furthest apart."""
    if eraser.method in EQUALISE_MEANS and eraser.details.get("strength", 1.0) == 1:
        left = _left_of_gaps(eraser, rows)
        name = groups[int(left.argmax())]
        yield _Finding(
            "abstain",
            f"group {name!r} keeps {left.max():.2g} of the largest gap between group means on "
            f"the rows that {eraser.method} was fitted on, which should be 0",
        )


def _expected(
    pairs: Sequence[Residual],
    groups: Sequence[str],
    *,
    n_eff: float,
    rank: int,
    dim: int,
    rows: int,
    shown: bool,
) -> Iterator[_Finding]:
    """What d / (d + κ) says of an edit that equalises the group means on its own rows.

    A reduction ``shown`` on held-out rows is nearer to the truth than a formula that calls the edit hopeless.
    """
    if not pairs:
        needed = int(np.ceil(rows * (dim + len(groups) + 1 + SPARE) / n_eff))
        yield _Finding(
            "warn",
            f"the residual on fresh images cannot be estimated: n_eff is {n_eff:.0f} for d = {rank} "
            f"of {dim} dimensions; {needed:,} labelled images like these would be enough to estimate it",
        )
        return
    worst = max(pairs, key=lambda pair: pair.value)
    names = f"{groups[worst.pair[0]]!r} and {groups[worst.pair[1]]!r}"
    words = f"fresh images are expected to keep {_share(worst[1:4])} of the squared distance between {names}"
    if min(pair.low for pair in pairs) >= HOPELESS and not shown:
        yield _Finding("abstain", f"{words}: these rows do not show what to remove{_goal(worst.enough)}")
    elif worst.value > TOLERABLE:
        yield _Finding("warn", f"{words}{_goal(worst.enough)}")
    else:
        yield _Finding("act", words)


def _measured(kept: tuple[float, float, float] | None) -> Iterator[_Finding]:
    """What held-out rows keep after an edit to which d / (d + κ) does not apply."""
    if kept is None:
        yield _Finding(
            "warn",
            "the residual cannot be estimated: the edit leaves group means apart, and held-out rows are too "
            "few to measure it",
        )
        return
    words = f"held-out images keep {_share(kept)} of {VIEW_WORDS['attacker']}"
    if kept[1] >= HOPELESS:
        yield _Finding("abstain", f"{words}: the edit removes hardly anything")
    else:
        yield _Finding("warn" if kept[0] > TOLERABLE else "act", words)


def _changes(eraser: Eraser, rows: Calibration, held_out: Calibration, *, seed: int) -> dict[str, Change]:
    """Separation of the held-out groups before and after, in every view in which it can be measured."""
    found = {}
    for name, views in VIEWS.items():
        before, after = views(eraser, rows, held_out)
        change = separation_change(
            before, after, held_out.z, held_out.clusters, resamples=RESAMPLES, level=LEVEL, seed=seed
        )
        if change is not None:
            found[name] = change
    return found


def _harm(changes: Mapping[str, Change]) -> Iterator[_Finding]:
    if not changes:
        yield _Finding("warn", "harm was not checked: no held-out rows of two groups in two clusters each")
    for view, change in changes.items():
        before, after = max(change.before, 0.0), max(change.after, 0.0)
        words = f"{VIEW_WORDS[view]}: {before:.3g} before, {after:.3g} after on held-out images"
        interval = f"(change {change.low:+.2g} to {change.high:+.2g})"
        if change.low > HARM_MARGIN * before:
            yield _Finding("abstain", f"the edit makes it worse, {words} {interval}")
        elif change.high >= 0:
            yield _Finding("warn", f"no reduction could be shown, {words} {interval}")


def _mean_cosine(x: np.ndarray, y: np.ndarray) -> float:
    lengths = np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1)
    return float(np.mean((x * y).sum(1) / np.maximum(lengths, np.finfo(float).tiny)))


def _goal(enough: int | None) -> str:
    return "" if enough is None else f"; {enough:,} labelled images would be enough for {TOLERABLE:.0%}"


def _share(interval: Sequence[float]) -> str:
    value, low, high = interval
    return f"{value:.1%} [{low:.1%}, {high:.1%}]"
