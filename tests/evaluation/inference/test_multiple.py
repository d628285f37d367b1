from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from evaluation.inference import benjamini_hochberg, holm, holm_by_family

Adjust = Callable[[np.ndarray], np.ndarray]
BOTH = pytest.mark.parametrize("adjust", [holm, benjamini_hochberg])


def test_holm_agrees_with_a_table_worked_by_hand() -> None:
    # in order: .005 * 4, .01 * 3, .03 * 2, and .04 * 1, which may not fall below the one before it
    np.testing.assert_allclose(holm(np.array([0.01, 0.04, 0.03, 0.005])), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(holm(np.array([0.6, 0.5])), [1.0, 1.0])


def test_families_are_corrected_apart_and_what_is_not_tested_stays_so() -> None:
    found = holm_by_family([0.01, None, 0.04, 0.03, 0.5], ["a", "a", "b", "a", "b"])
    assert found == pytest.approx([0.02, None, 0.08, 0.03, 0.5])
    with pytest.raises(ValueError, match="argument 2 is shorter"):
        holm_by_family([0.01, 0.02], ["a"])


def test_benjamini_hochberg_agrees_with_a_table_worked_by_hand() -> None:
    # in order: .005 * 4/1, .01 * 4/2, .03 * 4/3, .04 * 4/4
    found = benjamini_hochberg(np.array([0.01, 0.04, 0.03, 0.005]))
    np.testing.assert_allclose(found, [0.02, 0.04, 0.04, 0.02])
    # .03 * 3/1 and .031 * 3/2 may not lie above .032 * 3/3
    np.testing.assert_allclose(benjamini_hochberg(np.array([0.032, 0.03, 0.031])), [0.032] * 3)


@BOTH
def test_adjusted_values_keep_order_and_are_never_smaller(adjust: Adjust) -> None:
    rng = np.random.default_rng(0)
    for size in (1, 2, 7, 40):
        p = rng.choice([0.001, 0.02, 0.3, 1.0], size=size) * rng.random(size).round(1)
        found = adjust(p)
        assert (found >= p).all()
        assert (found <= 1).all()
        assert (np.diff(found[np.argsort(p)]) >= 0).all()
        shuffle = rng.permutation(size)
        np.testing.assert_allclose(adjust(p[shuffle]), found[shuffle])
        assert (benjamini_hochberg(p) <= holm(p) + 1e-12).all()


@BOTH
def test_a_smaller_p_value_raises_no_adjusted_one(adjust: Adjust) -> None:
    rng = np.random.default_rng(1)
    p = rng.random(20) ** 3
    for index in range(20):
        smaller = p.copy()
        smaller[index] /= 4
        assert (adjust(smaller) <= adjust(p) + 1e-12).all()


@BOTH
def test_one_test_is_left_as_it_is_and_none_gives_none(adjust: Adjust) -> None:
    assert adjust(np.array([0.04])).tolist() == [0.04]
    assert adjust(np.array([])).tolist() == []


def test_false_findings_are_as_rare_as_each_method_says() -> None:
    rng = np.random.default_rng(2)
    any_holm, any_raw, share = 0, 0, []
    for _ in range(1000):
        p = rng.random(20)
        any_raw += bool((p <= 0.05).any())
        any_holm += bool((holm(p) <= 0.05).any())
        p[:10] *= 1e-3
        found = benjamini_hochberg(p) <= 0.05
        share.append(found[10:].sum() / max(found.sum(), 1))
    # 5% in 1,000 trials has a standard error of .7 points; half of the 20 are null for the share
    assert any_holm / 1000 <= 0.05 + 3 * 0.007
    assert any_raw / 1000 > 0.5
    assert np.mean(share) <= 0.05


@BOTH
@pytest.mark.parametrize("value", [-0.1, 1.1, np.nan])
def test_numbers_that_are_no_p_values_are_refused(adjust: Adjust, value: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        adjust(np.array([0.5, value]))
