from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import kstest
from sklearn.metrics import balanced_accuracy_score

from evaluation.inference import (
    Inference,
    balanced_accuracy,
    bootstrap_balanced_accuracy,
    mean_interval,
    null_balanced_accuracy,
    paired_mean_difference,
    permutation_p,
    permuted_labels,
    resampled_sums,
)

QUICK = Inference(resamples=200, permutations=199)


def _clustered(rng: np.random.Generator, count: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """Values with mean zero that share most of their noise inside clusters of 1 to 9."""
    clusters = np.repeat(np.arange(count), rng.integers(1, 10, size=count))
    return rng.standard_normal(count)[clusters] + 0.5 * rng.standard_normal(len(clusters)), clusters


def test_interval_covers_the_mean_only_when_clusters_are_respected() -> None:
    clustered = naive = 0
    for seed in range(300):
        values, clusters = _clustered(np.random.default_rng(seed))
        _, low, high = mean_interval(values, clusters, QUICK)
        clustered += low <= 0 <= high
        _, low, high = mean_interval(values, np.arange(len(values)), QUICK)
        naive += low <= 0 <= high
    # 95% aimed at; 300 simulations have a standard error of 1.3 points
    assert 0.90 <= clustered / 300 <= 0.98
    assert naive / 300 < 0.80


def test_resamples_depend_on_seed_and_number_of_clusters_alone() -> None:
    names = np.array([f"stem {index:02d}" for index in range(30)])
    counts = resampled_sums(np.eye(30), names, QUICK)
    assert (counts.sum(axis=1) == 30).all()
    np.testing.assert_array_equal(counts, resampled_sums(np.eye(30), np.arange(30), QUICK))
    assert not np.array_equal(counts, resampled_sums(np.eye(30), names, Inference(resamples=200, seed=1)))
    assert counts.var(axis=0).mean() == pytest.approx(1 - 1 / 30, rel=0.1)


def test_blocks_of_resamples_do_not_change_them(monkeypatch: pytest.MonkeyPatch) -> None:
    values, clusters = _clustered(np.random.default_rng(0))
    whole = resampled_sums(values[:, None], clusters, QUICK)
    monkeypatch.setattr("evaluation.inference.BLOCK_CELLS", 7 * 40)
    np.testing.assert_allclose(resampled_sums(values[:, None], clusters, QUICK), whole, rtol=1e-12)


def test_paired_difference_is_narrower_than_the_unpaired_one_and_sees_a_fall() -> None:
    rng = np.random.default_rng(0)
    before, clusters = _clustered(rng)
    after = before - 0.1 + 0.05 * rng.standard_normal(len(before))
    value, low, high, p_value = paired_mean_difference(after, before, clusters, QUICK)
    assert value == pytest.approx(np.mean(after) - np.mean(before))
    assert low < value < high < 0
    assert p_value == 1 / 200
    other = Inference(resamples=200, seed=1)
    independent = [
        sums[:, 0] / sums[:, 1]
        for values, draw in ((after, QUICK), (before, other))
        for sums in [resampled_sums(np.column_stack([values, np.ones(len(values))]), clusters, draw)]
    ]
    unpaired_low, unpaired_high = QUICK.interval(independent[0] - independent[1])
    assert high - low < 0.2 * (unpaired_high - unpaired_low)
    assert paired_mean_difference(before, after, clusters, QUICK)[3] == 1.0


def test_paired_p_is_uniform_when_nothing_changed() -> None:
    p_values = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        change, clusters = _clustered(rng)
        p_values.append(paired_mean_difference(change, np.zeros(len(change)), clusters, QUICK)[3])
    assert kstest(p_values, "uniform").pvalue > 0.01


def test_permutation_p_counts_the_observed_value_and_ties() -> None:
    assert permutation_p(3.0, np.array([1.0, 2.0, 3.0, 4.0])) == 3 / 5
    assert permutation_p(9.0, np.zeros(99)) == 1 / 100


def test_mixed_clusters_swap_whole_and_single_ones_trade_labels() -> None:
    labels = np.array(["m", "m", "w", "m", "w", "w", "m", "w"])
    clusters = np.array(["a", "a", "a", "b", "b", "x", "y", "z"])
    drawn = np.stack(list(permuted_labels(labels, clusters, Inference(permutations=2000))))
    assert {tuple(row) for row in drawn[:, :3]} == {("m", "m", "w"), ("w", "w", "m")}
    assert {tuple(row) for row in drawn[:, 3:5]} == {("m", "w"), ("w", "m")}
    assert {tuple(row) for row in drawn[:, 5:]} == {("m", "w", "w"), ("w", "m", "w"), ("w", "w", "m")}
    swapped = drawn[:, [0, 3]] == "w"
    np.testing.assert_allclose(swapped.mean(axis=0), 0.5, atol=0.05)
    assert np.mean(swapped[:, 0] & swapped[:, 1]) == pytest.approx(0.25, abs=0.05)
    np.testing.assert_allclose((drawn[:, 5:] == "m").mean(axis=0), 1 / 3, atol=0.05)


def test_three_groups_in_a_cluster_take_every_order() -> None:
    labels, clusters = np.array(["m", "p", "w", "m", "w"]), np.array([0, 0, 0, 1, 1])
    drawn = list(permuted_labels(labels, clusters, QUICK))
    assert len({tuple(row[:3]) for row in drawn}) == 6
    assert {tuple(row[3:]) for row in drawn} == {("m", "w"), ("w", "m")}


@pytest.mark.parametrize("mixed", [True, False], ids=["groups inside clusters", "groups between clusters"])
def test_permutation_p_is_uniform_without_leak_only_when_clusters_are_respected(mixed: bool) -> None:
    clustered: list[float] = []
    naive: list[float] = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        clusters = np.repeat(np.arange(30), 8)
        inside = np.tile(np.repeat([0, 1], 4), 30)
        labels = inside if mixed else rng.permutation(np.arange(30) % 2)[clusters]
        cell = clusters * 2 + inside if mixed else clusters
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


def test_refusals() -> None:
    with pytest.raises(ValueError, match="two clusters"):
        mean_interval(np.ones(5), np.zeros(5), QUICK)
    with pytest.raises(ValueError, match="5 observations but 4"):
        mean_interval(np.ones(5), np.arange(4), QUICK)
    with pytest.raises(ValueError, match="equal shapes"):
        paired_mean_difference(np.ones(3), np.ones(2), np.arange(3), QUICK)
    with pytest.raises(ValueError, match="level"):
        Inference(level=95.0)
    with pytest.raises(ValueError, match="at least 1"):
        Inference(resamples=0)
