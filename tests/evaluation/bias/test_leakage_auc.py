from __future__ import annotations

from importlib import import_module

import numpy as np
import pytest
from scipy.stats import kstest
from sklearn.metrics import roc_auc_score

from evaluation.bias.leakage_scores import auc, bootstrap_auc, null_auc
from evaluation.inference import Inference, permutation_p, permuted_labels, resampled_sums
from tests.evaluation.bias.conftest import Layout

FEW = Inference(resamples=40, permutations=30)


def _scores(groups: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two attackers' probabilities, the first rounded so that it ties; labels; clusters."""
    rng = np.random.default_rng(seed)
    labels, clusters = rng.choice(groups, size=120), rng.integers(12, size=120)
    raw = rng.random((2, 120, groups)) + 0.4 * np.eye(groups)[labels]
    raw[0] = np.round(raw[0], 1) + 0.1
    return raw / raw.sum(axis=2, keepdims=True), labels, clusters


def _reference(scores: np.ndarray, labels: np.ndarray) -> float:
    if scores.shape[1] == 2:
        return float(roc_auc_score(labels, scores[:, 1]))
    return float(roc_auc_score(labels, scores, multi_class="ovr", average="macro"))


@pytest.mark.parametrize("groups", [2, 3])
def test_auc_agrees_with_scikit_learn_also_in_resamples_and_under_permutation(groups: int) -> None:
    scores, labels, clusters = _scores(groups)
    np.testing.assert_allclose(auc(scores, labels), [_reference(each, labels) for each in scores])
    names = np.unique(clusters)
    drawn = bootstrap_auc(scores, labels, clusters, FEW)
    for counts, found in zip(resampled_sums(np.eye(len(names)), names, FEW), drawn, strict=True):
        rows = np.repeat(np.arange(120), counts[clusters].astype(int))
        np.testing.assert_allclose(found, [_reference(each[rows], labels[rows]) for each in scores])
    null = null_auc(scores, labels, clusters, FEW)
    for permuted, found in zip(permuted_labels(labels, clusters, FEW), null, strict=True):
        np.testing.assert_allclose(found, [_reference(each, permuted) for each in scores])


def test_auc_of_hand_worked_scores() -> None:
    labels = np.array([0, 0, 1, 1])
    right, wrong, tied, one_off = (
        np.array(each) for each in ([0, 1, 2, 3], [3, 2, 1, 0], [1] * 4, [0, 2, 1, 3])
    )
    stack = np.stack([np.column_stack([-each, each]) for each in (right, wrong, tied, one_off)])
    assert auc(stack, labels).tolist() == [1.0, 0.0, 0.5, 0.75]


def test_a_group_that_is_not_there_is_left_out() -> None:
    scores, labels, _ = _scores(3)
    two = labels != 2
    expected = np.mean([roc_auc_score(labels[two] == group, scores[1, two, group]) for group in (0, 1)])
    assert auc(scores[:, two], labels[two])[1] == pytest.approx(expected)


def test_a_resample_of_one_group_has_no_auc_and_others_have() -> None:
    labels, clusters = np.array([0, 0, 1, 1]), np.array([0, 0, 1, 1])
    scores = np.stack([np.column_stack([-each, each]) for each in (np.arange(4.0), -np.arange(4.0))])
    drawn = bootstrap_auc(scores, labels, clusters, FEW)
    counts = resampled_sums(np.eye(2), np.arange(2), FEW)
    np.testing.assert_array_equal(np.isnan(drawn).all(axis=1), (counts == 0).any(axis=1))
    both = drawn[~np.isnan(drawn[:, 0])]
    assert len(both) > 0
    assert (both == [1.0, 0.0]).all()


def test_blocks_of_resamples_do_not_change_auc(monkeypatch: pytest.MonkeyPatch) -> None:
    given = _scores(3)
    whole = bootstrap_auc(*given, FEW)
    monkeypatch.setattr(import_module("evaluation.inference.bootstrap"), "BLOCK_CELLS", 7 * 12)
    np.testing.assert_array_equal(bootstrap_auc(*given, FEW), whole)


@pytest.mark.parametrize("mixed", [True, False], ids=["groups inside clusters", "groups between clusters"])
def test_p_of_the_best_auc_is_uniform_without_leak_only_when_clusters_are_respected(
    mixed: bool, layout: Layout
) -> None:
    clustered: list[float] = []
    naive: list[float] = []
    for seed in range(100):
        rng = np.random.default_rng(seed)
        clusters, labels, cell = layout(rng, mixed=mixed, count=24, size=6)
        says = rng.standard_normal((2, 48))[:, cell] + 0.2 * rng.standard_normal((2, 144))
        scores = np.stack([-says, says], axis=2)
        observed = auc(scores, labels).max()
        for units, p_values in ((clusters, clustered), (np.arange(144), naive)):
            null = null_auc(scores, labels, units, Inference(permutations=99, seed=seed))
            p_values.append(permutation_p(observed, null.max(axis=1)))
    assert kstest(clustered, "uniform").pvalue > 0.01
    assert np.mean(np.array(naive) <= 0.05) > 0.12
