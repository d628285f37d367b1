"""Leakage amplification: do a model's answers tell more of a protected attribute than the task itself does?

Wang et al. 2019 (arXiv 1811.08489). True labels leak too: more women among the nurses makes "nurse" a hint. A
model of less than perfect task score would leak less than its labels by its errors alone, so the labels are
first corrupted at random down to the model's own score. Leakage of the answers minus leakage of such labels
is what the model adds.

Traps, and what is done about them:

- A score in decimals holds more than a label and would win by that. Both sides are decided answers, 0 or 1.
- A corruption that makes tasks commoner changes what there is to leak. Here as many labels are added as are
  taken away, so every task stays as common as it is.
- One corruption is a draw: the leakage of ``CORRUPTIONS`` of them is averaged.
- Answers on training data are better than on held-out data: labels are matched to the score of each split.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from evaluation.bias.attackers import Attacker, gradient_boosting, logistic
from evaluation.bias.leakage import Answers, Attack, Sample, attack
from evaluation.bias.leakage_scores import (
    balanced_accuracy,
    bootstrap_balanced_accuracy,
    null_balanced_accuracy,
)
from evaluation.inference import bootstrap, null_fields
from evaluation.results import Estimate
from evaluation.setting import Setting

CORRUPTIONS = 5
SMALLEST = 1e-12

READERS: Mapping[str, Attacker] = {"logistic": logistic, "gradient_boosting": gradient_boosting}


@dataclass(frozen=True)
class Task:
    """Answers to one or more tasks, decided: one-hot for one class each, or any of several.

    Attributes:
        answers: what the model says, ``(n, c)`` of 0 and 1.
        truth: the same of the true labels.
        labels: groups ``(n,)``.
        clusters: ``(n,)`` names.

    Raises:
        ValueError: shapes that do not fit, or numbers other than 0 and 1.
    """

    answers: np.ndarray
    truth: np.ndarray
    labels: np.ndarray
    clusters: np.ndarray

    def __post_init__(self) -> None:
        """Refuse scores that were not decided."""
        if self.answers.shape != self.truth.shape or len(self.labels) != len(self.truth):
            raise ValueError(f"answers are {self.answers.shape}, true labels {self.truth.shape}")
        if not (np.isin(self.answers, (0, 1)).all() and np.isin(self.truth, (0, 1)).all()):
            raise ValueError("answers and true labels are decided: 0 or 1")

    @property
    def counts(self) -> np.ndarray:
        """Of each observation ``(n, 2)``: answers that are right, and the answers and labels given."""
        right = (self.answers * self.truth).sum(axis=1)
        given = self.answers.sum(axis=1) + self.truth.sum(axis=1)
        return np.column_stack([right, given]).astype(np.float64)

    @property
    def score(self) -> float:
        """F1 over all answers together; accuracy where each observation has one answer and one label."""
        return float(_f1(self.counts.sum(axis=0)))


def decided(scores: np.ndarray) -> np.ndarray:
    """One-hot answers ``(n, c)`` of the largest of ``scores`` ``(n, c)``; the first of equals."""
    return np.eye(scores.shape[1], dtype=np.int8)[scores.argmax(axis=1)]


def leakage_amplification(
    train: Task, test: Task, *, name: str, at: Setting, readers: Mapping[str, Attacker] = READERS
) -> list[Estimate]:
    """How much more a model's answers leak than labels of the same task score.

    Rows ``amplification/{name}/...``:

    - ``leakage``: maximal balanced accuracy of the readers, trained on the answers of ``train`` and scored on
      those of ``test``.
    - ``matched_label_leakage``: the same of true labels corrupted to the model's score, averaged.
    - ``leakage_amplification``: their difference with a paired interval; above zero the model adds to what
      the task gives away.
    - ``task_score``: F1 over all answers together; accuracy for one class each.

    Args:
        train: answers on the data that readers are trained on; shares no cluster with ``test``.
        test: held-out answers, in the order of ``at.clusters``.
        name: attribute and task.
        at: clusters, split and system of ``test``.
        readers: attackers.

    Raises:
        ValueError: one group only, a test group that ``train`` does not hold, clusters other than the test's,
            or fewer than two.
    """
    if not np.array_equal(at.clusters, test.clusters):
        raise ValueError(f"split {at.split!r} has other clusters than those given")
    rng = at.inference.rng(31)
    pairs = [(train.answers, test.answers)]
    pairs += [(corrupted(train, rng), corrupted(test, rng)) for _ in range(CORRUPTIONS)]
    attacks = [
        attack(
            Sample(first, train.labels, train.clusters),
            {at.split: Sample(second, test.labels, test.clusters)},
            seed=at.inference.seed,
            attackers=readers,
        )
        for first, second in pairs
    ]
    return [*_compared(attacks, name, at), _task_score(test, name, at)]


def corrupted(task: Task, rng: np.random.Generator) -> np.ndarray:
    """True labels ``(n, c)`` with errors at random that bring them to the task's score, as common as before.

    One class each: observations drawn at random trade their classes, so many that as many change as the score
    asks for, on average; all of them for a score below that of such a trade. Several classes: in every column
    as many ones are added as taken away.
    """
    wrong = 1.0 - task.score
    truth = task.truth
    changed = truth.copy()
    if (truth.sum(axis=1) == 1).all() and (task.answers.sum(axis=1) == 1).all():
        change_in_trade = 1.0 - float((truth.mean(axis=0) ** 2).sum())
        count = round(len(truth) * min(1.0, wrong / max(change_in_trade, SMALLEST)))
        rows = rng.permutation(len(truth))[:count]
        changed[rows] = truth[rng.permutation(rows)]
        return changed
    for column in range(truth.shape[1]):
        ones, zeros = np.flatnonzero(truth[:, column]), np.flatnonzero(truth[:, column] == 0)
        count = min(round(wrong * len(ones)), len(zeros))
        changed[rng.permutation(ones)[:count], column] = 0
        changed[rng.permutation(zeros)[:count], column] = 1
    return changed


def _compared(attacks: list[Attack], name: str, at: Setting) -> list[Estimate]:
    values, draws, nulls = [], [], []
    for each in attacks:
        held: Answers = each.answers[at.split]
        given = (held.predictions, held.labels, held.clusters, at.inference)
        values.append(float(balanced_accuracy(*given[:2]).max()))
        draws.append(bootstrap_balanced_accuracy(*given).max(axis=1))
        nulls.append(null_balanced_accuracy(*given).max(axis=1))
    own, matched = values[0], float(np.mean(values[1:]))
    own_draws, matched_draws = draws[0], np.mean(draws[1:], axis=0)
    matched_null = np.mean(nulls[1:], axis=0)
    rows = []
    for what, value, drawn, null in (
        ("leakage", own, own_draws, null_fields(own, nulls[0], at.inference)),
        ("matched_label_leakage", matched, matched_draws, null_fields(matched, matched_null, at.inference)),
        ("leakage_amplification", own - matched, own_draws - matched_draws, {"null": 0.0}),
    ):
        low, high = at.inference.interval(drawn)
        rows.append(
            at.row(
                f"amplification/{name}/{what}",
                value,
                higher_is_better=False,
                low=low,
                high=high,
                draws=drawn,
                n_by_group=attacks[0].sizes(at.split),
                **null,
            )
        )
    return rows


def _task_score(task: Task, name: str, at: Setting) -> Estimate:
    found = bootstrap(task.counts, at.clusters, _f1, at.inference)
    low, high = found.interval(at.inference)
    return at.row(
        f"amplification/{name}/task_score",
        found.value,
        higher_is_better=True,
        low=low,
        high=high,
        draws=found.draws,
    )


def _f1(sums: np.ndarray) -> np.ndarray:
    """Of sums ``(..., 2)`` of right answers and of answers and labels given; 0 where nothing was given."""
    return 2 * sums[..., 0] / np.maximum(sums[..., 1], 1)
