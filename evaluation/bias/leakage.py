"""Leakage: how well attackers read a protected attribute from held-out embeddings.

The number is balanced accuracy, so a common group buys nothing: chance is one over the number of groups.

Traps, and what is done about them:

- One weak attacker at chance proves nothing: linear erasure takes a linear attacker to chance and leaves
  an RBF or MLP attacker where it was. The row to read is the maximum over attackers.
- A maximum over attackers is biased upwards, and so is its bootstrap. The null takes the same maximum over
  the same attackers in every permutation, so picking the best is paid for: compare with ``null``, not 1/2.
- Near-duplicates of training pictures in a test split are recognised, not read: split by cluster.
- The permutation and the bootstrap keep clusters together; the attackers are trained once, so the interval
  speaks of the test data and not of the draw of the training data.
- Leakage at the null says that *these* attackers found nothing, not that nothing is there.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from threadpoolctl import threadpool_limits

from evaluation.inference import (
    Inference,
    balanced_accuracy,
    bootstrap_balanced_accuracy,
    cluster_count,
    null_balanced_accuracy,
    null_fields,
    paired_swaps,
    permutation_p,
)
from evaluation.results import Estimate

SVM_ROWS = 5000
MLP_EPOCHS = 60

Attacker = Callable[[np.ndarray, np.ndarray, int], Pipeline]


@dataclass(frozen=True)
class Sample:
    """Embeddings ``x`` ``(n, d)`` with the group ``labels`` and the ``clusters`` they belong to, ``(n,)``."""

    x: np.ndarray
    labels: np.ndarray
    clusters: np.ndarray


@dataclass(frozen=True)
class Answers:
    """What attackers said of one split: group codes ``predictions`` ``(a, n)`` and ``labels`` ``(n,)``."""

    predictions: np.ndarray
    labels: np.ndarray
    clusters: np.ndarray


def logistic(x: np.ndarray, labels: np.ndarray, seed: int) -> Pipeline:
    """Linear attacker: logistic regression, C = 1."""
    model = LogisticRegression(C=1.0, class_weight="balanced", max_iter=5000, random_state=seed)
    return make_pipeline(StandardScaler(), model).fit(x, labels)


def rbf_svm(x: np.ndarray, labels: np.ndarray, seed: int) -> Pipeline:
    """Kernel attacker, C = 1; trained on ``SVM_ROWS`` rows at most, as its cost grows with their square."""
    kept = np.random.default_rng(seed).permutation(len(x))[:SVM_ROWS]
    return make_pipeline(StandardScaler(), SVC(C=1.0, class_weight="balanced")).fit(x[kept], labels[kept])


def mlp(x: np.ndarray, labels: np.ndarray, seed: int) -> Pipeline:
    """One hidden layer of 128, a fixed number of epochs, smaller groups repeated to equal size.

    The weight decay of 3 is strong on purpose: at scikit-learn's default of 1e-4 this attacker overfits
    512 dimensions and misses leakage that it finds here. scikit-learn divides it by the batch and not by
    the data, so past 10,000 rows it is lowered with their number, or a weak leak would be decayed away.
    """
    rng = np.random.default_rng(seed)
    members = [rng.permutation(np.flatnonzero(labels == group)) for group in np.unique(labels)]
    largest = max(len(each) for each in members)
    rows = rng.permutation(np.concatenate([np.resize(each, largest) for each in members]))
    model = MLPClassifier(
        (128,),
        alpha=min(3.0, 30_000 / len(rows)),
        batch_size=min(64, len(rows)),
        max_iter=MLP_EPOCHS,
        n_iter_no_change=MLP_EPOCHS,
        random_state=seed,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return make_pipeline(StandardScaler(), model).fit(x[rows], labels[rows])


ATTACKERS: Mapping[str, Attacker] = {"logistic": logistic, "rbf_svm": rbf_svm, "mlp": mlp}


@dataclass(frozen=True)
class Attack:
    """The held-out answers of trained attackers, by split.

    Attributes:
        attackers: their names, in the order of the rows of ``Answers.predictions``.
        groups: group names; codes index it.
        answers: by split.
    """

    attackers: tuple[str, ...]
    groups: tuple[str, ...]
    answers: Mapping[str, Answers]

    def estimates(self, name: str, split: str, system: str, inference: Inference) -> list[Estimate]:
        """Rows ``leakage/{name}/{attacker}`` and ``leakage/{name}/max``: balanced accuracy on ``split``.

        Raises:
            KeyError: no such split.
            ValueError: fewer than two clusters.
        """
        held = self.answers[split]
        value = balanced_accuracy(held.predictions, held.labels)
        drawn = bootstrap_balanced_accuracy(held.predictions, held.labels, held.clusters, inference)
        null = null_balanced_accuracy(held.predictions, held.labels, held.clusters, inference)
        rows = []
        for index, attacker in enumerate((*self.attackers, "max")):
            columns = slice(None) if attacker == "max" else slice(index, index + 1)
            top = float(value[columns].max())
            low, high = inference.interval(drawn[:, columns].max(axis=1))
            rows.append(
                Estimate(
                    name=f"leakage/{name}/{attacker}",
                    value=top,
                    low=low,
                    high=high,
                    **null_fields(top, null[:, columns].max(axis=1), inference),
                    n=len(held.labels),
                    n_clusters=cluster_count(held.clusters),
                    split=split,
                    system=system,
                    higher_is_better=False,
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
    # a second BLAS thread gains nothing in products this small, and costs tenfold on a busy machine
    with threadpool_limits(limits=1, user_api="blas"):
        models = [fit(x, codes, seed) for fit in attackers.values()]
    answers = {}
    for split, sample in tests.items():
        test_x = np.asarray(sample.x, dtype=np.float64)
        predictions = np.stack([model.predict(test_x) for model in models])
        answers[split] = Answers(predictions, np.searchsorted(groups, sample.labels), sample.clusters)
    return Attack(tuple(attackers), tuple(groups.tolist()), answers)


def leakage_change(
    before: Attack, after: Attack, *, name: str, split: str, system: str, inference: Inference
) -> Estimate:
    """Row ``leakage/{name}/max_change``: maximal balanced accuracy after minus before, on the same data.

    The interval is paired (same resamples for both). The null is no change; the p-value, small when leakage
    *fell*, swaps the answers of the two systems in whole clusters.

    Raises:
        KeyError: no such split.
        ValueError: the two attacks were not made on the same observations, or fewer than two clusters.
    """
    old, new = before.answers[split], after.answers[split]
    if not (np.array_equal(old.labels, new.labels) and np.array_equal(old.clusters, new.clusters)):
        raise ValueError(f"split {split!r} differs between the two attacks, so they cannot be paired")

    def change(first: np.ndarray, second: np.ndarray) -> float:
        return float(balanced_accuracy(second, old.labels).max() - balanced_accuracy(first, old.labels).max())

    value = change(old.predictions, new.predictions)
    drawn = [
        bootstrap_balanced_accuracy(held.predictions, held.labels, held.clusters, inference).max(axis=1)
        for held in (old, new)
    ]
    low, high = inference.interval(drawn[1] - drawn[0])
    null = [
        change(
            np.where(swap, new.predictions, old.predictions),
            np.where(swap, old.predictions, new.predictions),
        )
        for swap in paired_swaps(old.clusters, inference)
    ]
    return Estimate(
        name=f"leakage/{name}/max_change",
        value=value,
        low=low,
        high=high,
        null=0.0,
        p_value=permutation_p(-value, -np.array(null)),
        n=len(old.labels),
        n_clusters=cluster_count(old.clusters),
        split=split,
        system=system,
        higher_is_better=False,
    )
