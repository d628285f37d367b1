"""Differences between configurations: coverage by simulation, closed forms, and what is not known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from evaluation.inference import Inference, bootstrap_mean
from evaluation.inference.across_runs import Contrast, Reading, contrast, level, spread

CLUSTERS = np.arange(80)
FEW = Inference(resamples=300, permutations=1)


def read(outcomes: np.ndarray) -> Reading:
    found = bootstrap_mean(outcomes, CLUSTERS, FEW)
    low, high = found.interval(FEW)
    return Reading(value=found.value, low=low, high=high, draws=found.draws, clusters=len(CLUSTERS))


def simulated(
    rng: np.random.Generator, seeds: tuple[int, int], *, training: float = 0.0, effect: float = 0.0
) -> Contrast:
    """Two configurations whose models answer the same items; each training is better or worse by chance."""
    easy = rng.normal(0, 0.5, len(CLUSTERS))
    groups = [
        [
            read(easy + shift + rng.normal(0, training) + rng.normal(0, 0.5, len(CLUSTERS)))
            for _ in range(count)
        ]
        for count, shift in zip(seeds, (0.0, effect), strict=True)
    ]
    return contrast(*groups, same_items=True, between=spread(groups))


def share_found(seeds: tuple[int, int], *, cases: int = 400, **given: float) -> float:
    rng = np.random.default_rng(7)
    p_values = [simulated(rng, seeds, **given).p_value for _ in range(cases)]
    return float(np.mean([p is not None and p < 0.05 for p in p_values]))


def test_two_seeds_of_one_configuration_differ_in_one_case_of_twenty() -> None:
    assert 0.02 <= share_found((1, 1), cases=600) <= 0.08


@pytest.mark.parametrize("training", [0.0, 0.05, 0.2])
@pytest.mark.parametrize("seeds", [(2, 2), (1, 3), (3, 3)])
def test_several_seeds_are_rarely_told_apart_however_much_trainings_differ(
    seeds: tuple[int, int], training: float
) -> None:
    assert share_found(seeds, training=training) <= 0.08


def test_a_single_seed_each_knows_nothing_of_training_noise() -> None:
    assert share_found((1, 1), training=0.2) > 0.3  # why the report says so


def test_a_planted_difference_is_found() -> None:
    assert share_found((1, 1), effect=0.4) > 0.9
    assert share_found((3, 3), effect=0.4, training=0.05) > 0.9


def test_pairing_takes_the_difficulty_of_items_out() -> None:
    rng = np.random.default_rng(0)
    easy = rng.normal(0, 2, len(CLUSTERS))
    one, other = (read(easy + rng.normal(0, 0.1, len(CLUSTERS))) for _ in range(2))
    paired = contrast([one], [other], same_items=True, between=None)
    apart = contrast([one], [other], same_items=False, between=None)
    assert paired.paired
    assert not apart.paired
    assert paired.value == apart.value
    assert apart.high - apart.low > 8 * (paired.high - paired.low)  # type: ignore[operator]


def test_one_seed_each_is_the_paired_t_test_up_to_the_bootstrap() -> None:
    rng = np.random.default_rng(1)
    one, other = rng.normal(0, 1, (2, len(CLUSTERS)))
    found = contrast([read(one)], [read(other)], same_items=True, between=None)
    exact = stats.ttest_rel(other, one)
    assert found.value == pytest.approx(exact.statistic * stats.sem(other - one))
    assert found.p_value == pytest.approx(exact.pvalue, abs=0.05)
    assert found.by == "items"


def test_seeds_far_apart_are_students_two_sample_test() -> None:
    values = ([0.2, 0.5, 0.8], [0.3, 0.9])
    groups = [
        [Reading(value=v, low=v, high=v, draws=np.full(300, v), clusters=80) for v in each] for each in values
    ]
    found = contrast(*groups, same_items=True, between=spread(groups))
    exact = stats.ttest_ind(values[1], values[0])
    assert found.p_value == pytest.approx(exact.pvalue)
    assert (found.low, found.high) == pytest.approx(tuple(exact.confidence_interval(0.95)))
    assert found.by == "seeds"


def test_spread_is_pooled_over_configurations() -> None:
    def plain(*values: float) -> list[Reading]:
        return [Reading(value=v, low=None, high=None, draws=None, clusters=9) for v in values]

    found = spread([plain(1, 3), plain(5), plain(2, 2, 5)])
    assert found is not None
    assert (found.variance, found.df) == (pytest.approx((2 + 6) / 3), 3)
    assert spread([plain(1), plain(2)]) is None


def test_the_same_run_differs_by_nothing_for_sure() -> None:
    one = read(np.random.default_rng(2).normal(0, 1, len(CLUSTERS)))
    found = contrast([one], [one], same_items=True, between=None)
    assert (found.value, found.low, found.high, found.p_value) == (0.0, 0.0, 0.0, 1.0)


def test_without_interval_draws_or_seeds_nothing_is_claimed() -> None:
    bare = [Reading(value=v, low=None, high=None, draws=None, clusters=9) for v in (0.1, 0.9)]
    found = contrast(bare[:1], bare[1:], same_items=True, between=None)
    assert (found.low, found.high, found.p_value, found.paired, found.by) == (None, None, None, False, "")


def test_constant_draws_that_differ_are_not_believed() -> None:
    flat = [Reading(value=v, low=v, high=v, draws=np.full(9, v), clusters=9) for v in (0.1, 0.9)]
    found = contrast(flat[:1], flat[1:], same_items=True, between=None)
    assert (found.low, found.p_value) == (None, None)


def test_intervals_stand_in_for_draws() -> None:
    one, other = (
        Reading(value=v, low=v - 0.1, high=v + 0.1, draws=None, clusters=10_000) for v in (0.4, 0.5)
    )
    found = contrast([one], [other], same_items=True, between=None)
    assert not found.paired
    assert found.high - found.value == pytest.approx(0.1 * np.sqrt(2), rel=1e-3)  # type: ignore[operator]


def test_draws_that_are_not_defined_are_left_out() -> None:
    rng = np.random.default_rng(3)
    draws = rng.normal(0, 1, (2, 300))
    holed = draws.copy()
    holed[1, ::10] = np.nan
    whole, part = (
        contrast(
            [Reading(value=0, low=None, high=None, draws=each[0], clusters=50)],
            [Reading(value=0.5, low=None, high=None, draws=each[1], clusters=50)],
            same_items=True,
            between=None,
        )
        for each in (draws, holed)
    )
    assert part.low == pytest.approx(whole.low, abs=0.2)
    assert part.low != whole.low


def test_the_level_of_one_run_keeps_its_interval_and_of_several_is_centred() -> None:
    rng = np.random.default_rng(4)
    runs = [read(rng.normal(shift, 1, len(CLUSTERS))) for shift in (0.0, 0.1, 0.2)]
    assert level(runs[:1], between=None) == (runs[0].value, runs[0].low, runs[0].high)
    value, low, high = level(runs, between=spread([runs]))
    assert low is not None
    assert high is not None
    assert value == pytest.approx((low + high) / 2)
    assert value == pytest.approx(np.mean([run.value for run in runs]))


def test_a_configuration_without_runs_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one run"):
        contrast([], [], same_items=True, between=None)
    with pytest.raises(ValueError, match="at least one run"):
        level([], between=None)
