from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import kstest
from sklearn.metrics import balanced_accuracy_score

from evaluation.bias.leakage_scores import (
    balanced_accuracy,
    bootstrap_balanced_accuracy,
    null_balanced_accuracy,
)
from evaluation.inference import Inference, permutation_p, resampled_sums
from tests.evaluation.bias.conftest import Layout

QUICK = Inference(resamples=200, permutations=199)


@pytest.mark.parametrize("mixed", [True, False], ids=["groups inside clusters", "groups between clusters"])
def test_permutation_p_is_uniform_without_leak_only_when_clusters_are_respected(
    mixed: bool, layout: Layout
) -> None:
    clustered: list[float] = []
    naive: list[float] = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        clusters, labels, cell = layout(rng, mixed=mixed, count=30, size=8)
        predictions = rng.integers(2, size=60)[cell][None]
        observed = balanced_accuracy(predictions, labels)[0] + 1e-6 * rng.random()
        for units, p_values in ((clusters, clustered), (np.arange(240), naive)):
            null = null_balanced_accuracy(predictions, labels, units, Inference(permutations=99))
            null = null[:, 0] + 1e-6 * rng.random(99)  # at random, as ties make p larger than uniform
            p_values.append(permutation_p(observed, null))
    assert kstest(clustered, "uniform").pvalue > 0.01
    assert np.mean(np.array(naive) <= 0.05) > 0.15


def test_balanced_accuracy_agrees_with_scikit_learn_in_every_resample() -> None:
    rng = np.random.default_rng(0)
    labels, clusters = rng.choice(3, size=90, p=[0.6, 0.3, 0.1]), rng.integers(12, size=90)
    predictions = np.where(rng.random((2, 90)) < 0.5, labels, rng.integers(3, size=(2, 90)))
    expected = [balanced_accuracy_score(labels, row) for row in predictions]
    np.testing.assert_allclose(balanced_accuracy(predictions, labels), expected)
    few = Inference(resamples=40)
    drawn = bootstrap_balanced_accuracy(predictions, labels, clusters, few)
    names = np.unique(clusters)
    for counts, scores in zip(resampled_sums(np.eye(len(names)), names, few), drawn, strict=True):
        rows = np.repeat(np.arange(90), counts[clusters].astype(int))
        assert len(np.unique(labels[rows])) == 3
        again = [balanced_accuracy_score(labels[rows], row[rows]) for row in predictions]
        np.testing.assert_allclose(scores, again)


def test_a_resample_that_lost_a_group_averages_the_others() -> None:
    labels, clusters = np.array([0, 0, 1]), np.array([0, 0, 1])
    drawn = bootstrap_balanced_accuracy(np.array([[0, 0, 0]]), labels, clusters, QUICK)
    assert set(drawn[:, 0]) == {0.0, 0.5, 1.0}
