"""Simulations: 95% intervals hold the truth in 93% to 97% of samples, p-values without effect are uniform.

1,000 samples at a coverage of 95% have a standard error of .7 points, so that the band is about three of them
to either side: an interval that covers 92% leaves it seven times in eight. Clusters are of four observations
whose normal scores correlate at .4.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import kstest, norm

from evaluation.bias.group_rates import Answers
from evaluation.bias.groups import METRICS
from evaluation.inference import Inference, bootstrap, mean_interval, paired_mean_difference, permutation_p

SAMPLES = 1000
CONTROLS = 200
DRAWS = Inference(resamples=200, permutations=1)
SIZES = pytest.mark.parametrize("size", [200, 2000])


def _clusters(size: int) -> np.ndarray:
    return np.repeat(np.arange(size // 4), 4)


def _scores(rng: np.random.Generator, clusters: np.ndarray) -> np.ndarray:
    """Standard normal scores ``(n,)`` that correlate at .4 inside clusters."""
    shared = rng.standard_normal(clusters[-1] + 1)[clusters]
    return np.sqrt(0.4) * shared + np.sqrt(0.6) * rng.standard_normal(len(clusters))


def _coverage(
    size: int,
    truth: float,
    interval: Callable[[np.random.Generator], tuple[float, float]],
    samples: int = SAMPLES,
) -> float:
    held = 0
    for sample in range(samples):
        low, high = interval(np.random.default_rng([size, sample]))
        held += low - 1e-12 <= truth <= high + 1e-12
    return held / samples


@SIZES
def test_interval_of_accuracy_covers_only_when_clusters_are_respected(size: int) -> None:
    clusters, singles = _clusters(size), np.arange(size)

    def interval(units: np.ndarray) -> Callable[[np.random.Generator], tuple[float, float]]:
        return lambda rng: mean_interval(_scores(rng, clusters) < norm.ppf(0.7), units, DRAWS)[1:]

    assert 0.93 <= _coverage(size, 0.7, interval(clusters)) <= 0.97
    assert _coverage(size, 0.7, interval(singles), CONTROLS) < 0.90


def _recall_interval(
    hit: np.ndarray, member: np.ndarray, clusters: np.ndarray, inference: Inference
) -> tuple[float, float]:
    counted = np.column_stack([hit & member, member])
    return bootstrap(counted, clusters, lambda sums: sums[..., 0] / sums[..., 1], inference).interval(
        inference
    )


@SIZES
def test_interval_of_the_recall_of_one_class_covers(size: int) -> None:
    clusters = _clusters(size)

    def interval(rng: np.random.Generator) -> tuple[float, float]:
        hit, member = _scores(rng, clusters) < norm.ppf(0.6), rng.random(size) < 0.4
        return _recall_interval(hit, member, clusters, DRAWS)

    assert 0.93 <= _coverage(size, 0.6, interval) <= 0.97


def test_interval_of_a_hardly_recalled_class_covers_with_bca_and_not_with_percentiles() -> None:
    clusters = _clusters(200)

    def interval(draws: Inference) -> Callable[[np.random.Generator], tuple[float, float]]:
        def of(rng: np.random.Generator) -> tuple[float, float]:
            hit, member = _scores(rng, clusters) < norm.ppf(0.05), rng.random(200) < 0.4
            return _recall_interval(hit, member, clusters, draws)

        return of

    assert 0.93 <= _coverage(200, 0.05, interval(DRAWS)) <= 0.97
    assert _coverage(200, 0.05, interval(replace(DRAWS, interval_kind="percentile"))) < 0.93


@SIZES
def test_interval_of_a_paired_difference_covers(size: int) -> None:
    clusters = _clusters(size)

    def interval(rng: np.random.Generator) -> tuple[float, float]:
        before = _scores(rng, clusters)
        after = 0.8 * before + 0.6 * _scores(rng, clusters)
        hits = after < norm.ppf(0.6), before < norm.ppf(0.7)
        return paired_mean_difference(*hits, clusters, DRAWS)[1:3]

    assert 0.93 <= _coverage(size, -0.1, interval) <= 0.97


def test_a_change_that_hardly_anything_shows_is_held_by_percentiles_and_not_by_bca() -> None:
    """Three of 300 observations differ on average, to either side."""
    singles = np.arange(300)

    def moved(rng: np.random.Generator) -> np.ndarray:
        return (rng.random(300) < 0.01) * rng.choice([-1.0, 1.0], 300)

    def paired(rng: np.random.Generator) -> tuple[float, float]:
        return paired_mean_difference(moved(rng), np.zeros(300), singles, DRAWS)[1:3]

    assert 0.93 <= _coverage(300, 0.0, paired) <= 0.985
    assert _coverage(300, 0.0, lambda rng: mean_interval(moved(rng), singles, DRAWS)[1:], 500) < 0.93


def _answers(
    rng: np.random.Generator, size: int, true: tuple[float, ...], false: tuple[float, ...]
) -> Answers:
    """Half of all targets positive; each cluster holds all groups, whose rates are ``true`` and ``false``."""
    clusters, groups = _clusters(size), np.tile(np.arange(len(true)), size)[:size]
    target = rng.integers(2, size=size)
    rate = np.where(target == 1, np.array(true)[groups], np.array(false)[groups])
    said = (_scores(rng, clusters) < norm.ppf(rate)).astype(int)
    return Answers.of(said, target, groups, clusters, positive=1, least=1)


def _odds_interval(
    size: int, true: tuple[float, float], false: tuple[float, float]
) -> Callable[[np.random.Generator], tuple[float, float]]:
    odds = METRICS["equalized_odds_difference"]

    def interval(rng: np.random.Generator) -> tuple[float, float]:
        answers = _answers(rng, size, true, false)
        return odds.limits(answers.rates(odds.kind, answers.resampled(DRAWS)), DRAWS.level)

    return interval


@SIZES
@pytest.mark.parametrize(
    ("true", "false", "difference"),
    [((0.8, 0.5), (0.2, 0.2), 0.3), ((0.9, 0.3), (0.1, 0.2), 0.6)],
    ids=["moderate", "large"],
)
def test_interval_of_an_equalized_odds_difference_covers(
    size: int, true: tuple[float, float], false: tuple[float, float], difference: float
) -> None:
    assert 0.93 <= _coverage(size, difference, _odds_interval(size, true, false)) <= 0.97


@SIZES
def test_interval_of_no_odds_difference_covers_at_least_its_level_and_percentiles_never(size: int) -> None:
    same = (0.7, 0.7), (0.2, 0.2)
    odds = METRICS["equalized_odds_difference"]

    def percentile(rng: np.random.Generator) -> tuple[float, float]:
        answers = _answers(rng, size, *same)
        return DRAWS.interval(odds.statistic(answers.rates(odds.kind, answers.resampled(DRAWS)).draws))

    # at 0 the lower limits of several contrasts have to miss at once: wider than 95% is allowed, narrower not
    assert _coverage(size, 0.0, _odds_interval(size, *same)) >= 0.95
    assert _coverage(size, 0.0, percentile, CONTROLS) == 0.0


@pytest.mark.parametrize(
    "row", ["accuracy_gap", "demographic_parity_difference", "equalized_odds_difference"]
)
def test_p_values_of_group_differences_are_uniform_without_one_and_small_with_one(row: str) -> None:
    metric, null_draws = METRICS[row], Inference(permutations=99)
    rates = {"none": ((0.7, 0.7), (0.3, 0.3)), "some": ((0.9, 0.5), (0.3, 0.3))}
    p_values: dict[str, list[float]] = {"none": [], "some": []}
    for (kind, (true, false)), sample in [(item, s) for item in rates.items() for s in range(250)]:
        rng = np.random.default_rng([7, sample])
        answers = _answers(rng, 200, true, false)
        null = np.array([metric.of(tables) for tables in answers.permuted(null_draws)])
        # ties of these shares make p larger than uniform: broken at random
        observed = metric.of(answers.tables(answers.groups)) + 1e-6 * rng.random()
        p_values[kind].append(permutation_p(observed, null + 1e-6 * rng.random(len(null))))
    assert kstest(p_values["none"], "uniform").pvalue > 0.01
    assert np.mean(np.array(p_values["some"]) <= 0.05) > 0.5
