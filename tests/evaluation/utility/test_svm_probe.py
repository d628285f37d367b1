from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize
from sklearn.metrics import average_precision_score
from sklearn.svm import LinearSVC

from evaluation.utility.average_precision import average_precision
from evaluation.utility.svm_probe import COSTS, SVMProbe, _folds


def _planted(n: int = 300) -> tuple[np.ndarray, np.ndarray]:
    """Features of which three directions each carry a class; an observation may have several."""
    rng = np.random.default_rng(0)
    targets = np.where(rng.random((n, 3)) < (0.15, 0.3, 0.5), 1, -1)
    return 1.5 * targets @ np.eye(3, 12) + rng.standard_normal((n, 12)), targets


def test_reads_planted_classes_and_not_shuffled_ones() -> None:
    x, targets = _planted()
    shuffled = np.random.default_rng(1).permutation(x)
    found, blind = (
        average_precision(
            SVMProbe(each[:200], targets[:200], np.arange(200), seed=0).scores(each[200:]), targets[200:]
        )[0]
        for each in (x, shuffled)
    )
    prevalence = np.mean(targets[200:] == 1, axis=0)
    assert (found > prevalence + 0.3).all()
    assert blind == pytest.approx(prevalence, abs=0.15)


def test_minimises_the_published_objective_on_unit_features() -> None:
    x, targets = _planted()
    probe = SVMProbe(7 * x, targets[:, :1], np.arange(300), seed=0)
    features = x / np.linalg.norm(x, axis=1, keepdims=True)
    features, own = np.column_stack([features, np.ones(300)]), targets[:, 0]

    def objective(weight: np.ndarray) -> float:
        slack = np.maximum(0, 1 - own * (features @ weight)) ** 2
        return weight @ weight / 2 + probe.costs[0] * np.sum(np.where(own == 1, 2, 1) * slack)

    best = minimize(objective, np.zeros(13), options={"gtol": 1e-8})
    assert probe.scores(x)[:, 0] == pytest.approx(features @ best.x, abs=1e-2)


def test_a_difficult_observation_is_a_negative_in_training() -> None:
    x, targets = _planted()
    difficult = targets.copy()
    difficult[:40][difficult[:40] == -1] = 0
    plain, marked = (SVMProbe(x, each, np.arange(300), seed=0) for each in (targets, difficult))
    assert np.array_equal(plain.scores(x), marked.scores(x))
    lost = np.where(difficult == 0, 1, difficult)
    assert not np.allclose(SVMProbe(x, lost, np.arange(300), seed=0).scores(x), plain.scores(x))


def test_folds_keep_clusters_whole_and_each_holds_the_class() -> None:
    rng = np.random.default_rng(0)
    clusters = rng.permutation(np.repeat(np.arange(40), 8))
    own = np.where(clusters < 4, 1, -1)
    fold = _folds(own, clusters, rng)
    assert all(len(np.unique(fold[clusters == each])) == 1 for each in range(40))
    assert sorted(len(np.unique(clusters[(fold == each) & (own == 1)])) for each in range(3)) == [1, 1, 2]
    assert sorted(len(np.unique(clusters[(fold == each) & (own == -1)])) for each in range(3)) == [12] * 3


def test_the_cost_is_the_best_of_the_grid_between_folds_and_the_same_with_the_same_seed() -> None:
    x, targets = _planted()
    clusters = np.arange(300)
    probe = SVMProbe(x, targets[:, :1], clusters, seed=0)
    folds = _folds(targets[:, 0], clusters, np.random.default_rng([0, 41]))
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    found = {}
    for cost in COSTS:
        svm = LinearSVC(C=cost, class_weight={1: 2, -1: 1}, dual=False)
        parts = [folds == fold for fold in range(3)]
        found[cost] = np.mean(
            [
                average_precision_score(
                    targets[part, 0], svm.fit(unit[~part], targets[~part, 0]).decision_function(unit[part])
                )
                for part in parts
            ]
        )
    assert len(set(found.values())) > 1
    assert probe.costs == [max(found, key=lambda cost: found[cost])]
    again = SVMProbe(x, targets[:, :1], clusters, seed=0)
    assert np.array_equal(probe.scores(x), again.scores(x))


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (np.ones((9, 1)), "9 of 9 clusters"),
        (np.where(np.arange(9) < 2, 1, -1)[:, None], "2 of 9 clusters"),
        (np.full((9, 1), 3), "of 1, -1, 0"),
        (np.ones((8, 1)), r"expected \(9, classes\)"),
    ],
)
def test_refuses_targets_that_cannot_be_learned(targets: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SVMProbe(np.random.default_rng(0).standard_normal((9, 2)), targets, np.arange(9), seed=0)
