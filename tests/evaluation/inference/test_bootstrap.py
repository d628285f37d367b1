from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from scipy.sparse import csr_array

from evaluation.inference import (
    Inference,
    bootstrap,
    bootstrap_mean,
    cluster_sums,
    mean_interval,
    paired_mean_difference,
    resampled_sums,
)

QUICK = Inference(resamples=200, permutations=199)


def _ratio(sums: np.ndarray) -> np.ndarray:
    return sums[..., 0] / sums[..., 1]


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


def test_resamples_are_shared_by_all_audits_of_as_many_clusters() -> None:
    names = np.array([f"stem {index:02d}" for index in range(30)])
    counts = resampled_sums(np.eye(30), names, QUICK)
    assert (counts.sum(axis=1) == 30).all()
    np.testing.assert_array_equal(counts, resampled_sums(np.eye(30), np.arange(30), QUICK))
    np.testing.assert_array_equal(counts, resampled_sums(np.eye(30), names, replace(QUICK, seed=1)))
    longer = resampled_sums(np.eye(30), names, replace(QUICK, resamples=300))
    np.testing.assert_array_equal(counts, longer[: len(counts)])
    assert not np.array_equal(counts[:100], counts[100:200])
    assert counts.var(axis=0).mean() == pytest.approx(1 - 1 / 30, rel=0.1)


def test_blocks_of_resamples_do_not_change_them(monkeypatch: pytest.MonkeyPatch) -> None:
    values, clusters = _clustered(np.random.default_rng(0))
    whole = resampled_sums(values[:, None], clusters, QUICK)
    monkeypatch.setattr(sys.modules["evaluation.inference.bootstrap"], "BLOCK_CELLS", 7 * 40)
    np.testing.assert_allclose(resampled_sums(values[:, None], clusters, QUICK), whole, rtol=1e-12)


def test_paired_difference_is_narrower_than_the_unpaired_one_and_sees_a_fall() -> None:
    rng = np.random.default_rng(0)
    before, clusters = _clustered(rng)
    after = before - 0.1 + 0.05 * rng.standard_normal(len(before))
    value, low, high, p_value = paired_mean_difference(after, before, clusters, QUICK)
    assert value == pytest.approx(np.mean(after) - np.mean(before))
    assert low < value < high < 0
    assert p_value == 1 / 200
    drawn = [bootstrap_mean(values, clusters, QUICK).draws for values in (after, before)]
    unpaired_low, unpaired_high = QUICK.interval(drawn[0] - rng.permutation(drawn[1]))
    assert high - low < 0.2 * (unpaired_high - unpaired_low)
    assert paired_mean_difference(before, after, clusters, QUICK)[3] == 1.0


def test_paired_p_is_uniform_when_nothing_changed() -> None:
    p_values = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        change, clusters = _clustered(rng)
        p_values.append(paired_mean_difference(change, np.zeros(len(change)), clusters, QUICK)[3])
    assert stats.kstest(p_values, "uniform").pvalue > 0.01


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


def test_intervals_agree_with_scipy_where_every_observation_is_a_cluster() -> None:
    values = np.random.default_rng(0).exponential(size=50)
    many = 20_000
    found = {}
    for ours, theirs in (("percentile", "percentile"), ("bca", "BCa")):
        reference = stats.bootstrap(
            (values,), np.mean, n_resamples=many, method=theirs, rng=np.random.default_rng(1)
        )
        inference = Inference(resamples=many, interval_kind=ours)
        _, *found[ours] = mean_interval(values, np.arange(50), inference)
        # a 2.5% quantile of B normal draws errs by sqrt(.025 * .975 / B) / density = .019 of their spread;
        # four times that for a difference of two independent ones
        tolerance = 4 * np.sqrt(2) * 0.019 * reference.standard_error
        np.testing.assert_allclose(found[ours], reference.confidence_interval, atol=tolerance)
    assert min(np.subtract(found["bca"], found["percentile"])) > tolerance


def test_the_jackknife_leaves_out_whole_clusters() -> None:
    values, clusters = _clustered(np.random.default_rng(3))
    counted = np.column_stack([values, np.ones(len(values))])
    found = bootstrap(counted, clusters, _ratio, QUICK)
    by_hand = [values[clusters != each].mean() for each in np.unique(clusters)]
    np.testing.assert_allclose(found.left_out, by_hand, rtol=1e-12)
    assert found.value == pytest.approx(values.mean())


def test_each_resample_is_the_statistic_of_the_drawn_clusters() -> None:
    values, clusters = _clustered(np.random.default_rng(4))
    counted = np.column_stack([values, np.ones(len(values))])
    found = bootstrap(counted, clusters, _ratio, QUICK)
    for times, draw in zip(resampled_sums(np.eye(40), np.arange(40), QUICK), found.draws, strict=True):
        assert draw == pytest.approx(np.repeat(values, times[clusters].astype(int)).mean())


def test_sparse_values_give_the_sums_of_dense_ones() -> None:
    rng = np.random.default_rng(5)
    values, clusters = rng.integers(2, size=(60, 7)), rng.integers(9, size=60)
    np.testing.assert_array_equal(
        cluster_sums(csr_array(values), clusters).toarray(), cluster_sums(values, clusters)
    )
    dense = resampled_sums(values, clusters, QUICK)
    np.testing.assert_array_equal(resampled_sums(csr_array(values), clusters, QUICK), dense)


def test_percentile_interval_cuts_tails_of_their_expected_size() -> None:
    rng = np.random.default_rng(6)
    outside = [
        1 - high + low for _ in range(2000) for low, high in [QUICK.interval(rng.random(QUICK.resamples))]
    ]
    # the two tails off 200 uniform draws have a spread of about .015, so their mean one of .0004
    assert np.mean(outside) == pytest.approx(0.05, abs=0.0015)


def test_a_sample_without_variation_has_an_interval_of_no_width() -> None:
    for kind in ("bca", "percentile"):
        inference = Inference(resamples=50, interval_kind=kind)
        assert mean_interval(np.ones(20), np.arange(20), inference) == (1.0, 1.0, 1.0)
