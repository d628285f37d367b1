"""Leakage: how well attackers read a protected attribute from held-out embeddings.

The number is balanced accuracy, so a common group buys nothing: chance is one over the number of groups. The
area under the ROC curve says the same of an attacker's ranking, whatever threshold it answers by.

Traps, and what is done about them:

- One weak attacker at chance proves nothing: linear erasure takes a linear attacker to chance and leaves
  nonlinear attackers where they were. The row to read is the maximum over attackers.
- A maximum over attackers is biased upwards, and so is its bootstrap. The null takes the same maximum over
  the same attackers in every permutation, so picking the best is paid for: compare with ``null``, not 1/2.
- Near-duplicates of training pictures in a test split are recognised, not read: split by cluster.
- The permutation and the bootstrap keep clusters together; the attackers are trained once, so the interval
  speaks of the test data and not of the draw of the training data.
- Leakage at the null says that *these* attackers found nothing, not that nothing is there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from evaluation.bias.attackers import ATTACKERS, Attacker, trained
from evaluation.bias.leakage_scores import (
    auc,
    balanced_accuracy,
    bootstrap_auc,
    bootstrap_balanced_accuracy,
    mean_recall,
    null_auc,
    null_balanced_accuracy,
)
from evaluation.inference import Inference, cluster_sums, null_fields, paired_swaps, permutation_p
from evaluation.results import Estimate
from evaluation.setting import Setting


@dataclass(frozen=True)
class Sample:
    """Embeddings ``x`` ``(n, d)`` with the group ``labels`` and the ``clusters`` they belong to, ``(n,)``."""

    x: np.ndarray
    labels: np.ndarray
    clusters: np.ndarray


@dataclass(frozen=True)
class Answers:
    """What attackers said of one split.

    Attributes:
        scores: ``(a, n, groups)``.
        labels: true group codes ``(n,)``.
        clusters: ``(n,)`` names.
    """

    scores: np.ndarray
    labels: np.ndarray
    clusters: np.ndarray

    @property
    def predictions(self) -> np.ndarray:
        """The group code of the largest score, ``(a, n)``."""
        return self.scores.argmax(axis=2)


@dataclass(frozen=True)
class Attack:
    """The held-out answers of trained attackers, by split.

    Attributes:
        attackers: their names, in the order of the rows of ``Answers.scores``.
        groups: group names; codes index it.
        answers: by split.
    """

    attackers: tuple[str, ...]
    groups: tuple[str, ...]
    answers: Mapping[str, Answers]

    def estimates(self, name: str, *, at: Setting) -> list[Estimate]:
        """How well each attacker reads the groups on ``at.split``, and the best of them.

        Rows ``leakage/{name}/{attacker}`` and ``leakage/{name}/max`` are balanced accuracy,
        ``leakage_auc/{name}/{attacker}`` and ``leakage_auc/{name}/max`` the area under the ROC curve (of more
        than two groups the mean of each against the rest).

        Raises:
            KeyError: no such split.
            ValueError: clusters other than those attacked, or fewer than two of them.
        """
        held = self._held(at)
        said = (held.predictions, held.labels)
        scored = (held.scores, held.labels)
        given = (held.clusters, at.inference)
        return [
            *self._rows(
                f"leakage/{name}",
                balanced_accuracy(*said),
                bootstrap_balanced_accuracy(*said, *given),
                null_balanced_accuracy(*said, *given),
                at,
            ),
            *self._rows(
                f"leakage_auc/{name}",
                auc(*scored),
                bootstrap_auc(*scored, *given),
                null_auc(*scored, *given),
                at,
            ),
        ]

    def sizes(self, split: str) -> dict[str, int]:
        """How many observations of each group the split holds."""
        counts = np.bincount(self.answers[split].labels, minlength=len(self.groups))
        return {group: int(count) for group, count in zip(self.groups, counts, strict=True) if count}

    def _held(self, at: Setting) -> Answers:
        held = self.answers[at.split]
        if not np.array_equal(held.clusters, at.clusters):
            raise ValueError(f"split {at.split!r} was attacked with other clusters than those given")
        return held

    def _rows(
        self, name: str, value: np.ndarray, drawn: np.ndarray, null: np.ndarray, at: Setting
    ) -> list[Estimate]:
        rows = []
        for index, attacker in enumerate((*self.attackers, "max")):
            columns = slice(None) if attacker == "max" else slice(index, index + 1)
            top = float(value[columns].max())
            draws = drawn[:, columns].max(axis=1)
            low, high = interval(draws, at.inference)
            rows.append(
                at.row(
                    f"{name}/{attacker}",
                    top,
                    higher_is_better=False,
                    low=low,
                    high=high,
                    draws=draws,
                    n_by_group=self.sizes(at.split),
                    **null_fields(top, null[:, columns].max(axis=1), at.inference),
                )
            )
        return rows


def attack(
    train: Sample, tests: Mapping[str, Sample], *, seed: int, attackers: Mapping[str, Attacker] = ATTACKERS
) -> Attack:
    """Train every attacker on ``train`` and keep its answers on every split of ``tests``.

    The same seed gives the same answers.

    Raises:
        ValueError: a sample with one group only, or a test group that ``train`` does not hold.
    """
    groups = np.unique(train.labels)
    for split, sample in {"train": train, **tests}.items():
        found = np.unique(sample.labels)
        if len(found) < 2:
            raise ValueError(f"split {split!r} holds only the group {found.tolist()}, leakage needs two")
        if not np.isin(found, groups).all():
            raise ValueError(f"split {split!r} holds {found.tolist()}, attackers know {groups.tolist()}")
    codes = np.searchsorted(groups, train.labels)
    x = np.asarray(train.x, dtype=np.float64)
    models = [trained(attacker, x, codes, seed) for attacker in attackers.values()]
    answers = {
        split: Answers(
            np.stack([scores(sample.x) for scores in models]),
            np.searchsorted(groups, sample.labels),
            sample.clusters,
        )
        for split, sample in tests.items()
    }
    return Attack(tuple(attackers), tuple(groups.tolist()), answers)


def leakage_change(before: Attack, after: Attack, *, name: str, at: Setting) -> list[Estimate]:
    """Rows ``leakage/{name}/{attacker}_change`` and ``leakage_auc/{name}/{attacker}_change``, and of ``max``.

    After minus before, on the same data. The interval is paired (same resamples for both). The null is no
    change. What is tested is the maximum of balanced accuracy: its p-value, small when leakage *fell*, swaps
    the answers of the two systems in whole clusters. Scores of different models share no scale and cannot be
    swapped, so AUC's change has no p-value.

    Raises:
        KeyError: no such split.
        ValueError: the two attacks were not made on the same observations, clusters other than those
            attacked, or fewer than two of them.
    """
    old, new = before._held(at), after._held(at)
    if not np.array_equal(old.labels, new.labels):
        raise ValueError(f"split {at.split!r} differs between the two attacks, so they cannot be paired")
    scored = {
        "leakage": [
            (
                balanced_accuracy(held.predictions, held.labels),
                bootstrap_balanced_accuracy(held.predictions, held.labels, held.clusters, at.inference),
            )
            for held in (old, new)
        ],
        "leakage_auc": [
            (
                auc(held.scores, held.labels),
                bootstrap_auc(held.scores, held.labels, held.clusters, at.inference),
            )
            for held in (old, new)
        ],
    }
    rows = []
    for family, ((value, drawn), (new_value, new_drawn)) in scored.items():
        for index, attacker in enumerate((*after.attackers, "max")):
            own = slice(None) if attacker == "max" else slice(index, index + 1)
            low, high = interval(new_drawn[:, own].max(axis=1) - drawn[:, own].max(axis=1), at.inference)
            tested = attacker == "max" and family == "leakage"
            rows.append(
                at.row(
                    f"{family}/{name}/{attacker}_change",
                    float(new_value[own].max() - value[own].max()),
                    higher_is_better=False,
                    low=low,
                    high=high,
                    null=0.0,
                    p_value=_swapped_p(old, new, at.inference) if tested else None,
                    n_by_group=after.sizes(at.split),
                )
            )
    return rows


def interval(draws: np.ndarray, inference: Inference) -> tuple[float | None, float | None]:
    """Central interval of the draws ``(resamples,)`` that are defined; none where no draw is."""
    defined = draws[~np.isnan(draws)]
    return inference.interval(defined) if len(defined) else (None, None)


def _swapped_p(old: Answers, new: Answers, inference: Inference) -> float:
    """p-value of the change of the maximal balanced accuracy under swaps, from hits per cluster."""
    present = np.eye(old.labels.max() + 1)[old.labels]
    sizes = present.sum(axis=0)

    def hits(held: Answers) -> np.ndarray:
        right = [present * (row == held.labels)[:, None] for row in held.predictions]
        return cluster_sums(np.hstack(right), held.clusters)

    def best(sums: np.ndarray) -> np.ndarray:
        return mean_recall(sums.reshape(*sums.shape[:-1], -1, len(sizes)), sizes).max(axis=-1)

    before, after = hits(old), hits(new)
    first = np.unique(old.clusters, return_index=True)[1]
    moved = np.stack([swap[first] @ (after - before) for swap in paired_swaps(old.clusters, inference)])
    value = float(best(after.sum(axis=0)) - best(before.sum(axis=0)))
    null = best(after.sum(axis=0) - moved) - best(before.sum(axis=0) + moved)
    return permutation_p(-value, -null)
