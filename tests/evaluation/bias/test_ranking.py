from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import hypergeom, kstest

from evaluation.bias.ranking import ranking, ranking_changes
from evaluation.bias.ranking_skew import log_ratios
from evaluation.inference import Inference
from evaluation.results import Estimate
from evaluation.setting import Setting

QUICK = Inference(resamples=100, permutations=199)
FIRST = np.array([[1.0, 0.0]])


def _at(size: int, inference: Inference = QUICK, system: str = "off") -> Setting:
    return Setting(clusters=np.arange(size), split="test", system=system, inference=inference)


def _plane(scores: np.ndarray) -> np.ndarray:
    """Images whose cosine to ``FIRST`` is in the order of ``scores``."""
    return np.column_stack([scores, np.ones(len(scores))])


def _named(rows: list[Estimate]) -> dict[str, Estimate]:
    return {row.name.removeprefix("ranking/gender/"): row for row in rows}


def _space(
    bias: float, seed: int, size: int = 300, queries: int = 3, width: int = 8
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    groups = np.array(["man", "woman"])[rng.integers(2, size=size)]
    texts = rng.standard_normal((queries, width)) + 4 * np.eye(width)[0]
    return (
        texts,
        rng.standard_normal((size, width)) + bias * np.outer(groups == "man", np.eye(width)[0]),
        groups,
    )


def test_hand_worked_table() -> None:
    groups = np.array(["a", "a", "a", "b", "b", "a", "b", "b"])
    images = _plane(np.arange(8.0)[::-1])
    rows = _named(ranking(FIRST, images, groups, name="gender", at=_at(8), ks=(2, 4, 8), cutoff=4))
    assert list(rows) == ["max_skew_2", "min_skew_2", "max_skew_4", "min_skew_4", "ndkl_4"]
    assert rows["max_skew_2"].value == pytest.approx(np.log(2))
    assert rows["min_skew_2"].value == pytest.approx(np.log(0.5))  # half a count where one is expected
    assert rows["max_skew_4"].value == pytest.approx(np.log(1.5))
    assert rows["min_skew_4"].value == pytest.approx(np.log(0.5))
    divergences = [np.log(2), np.log(2), np.log(2), 0.75 * np.log(1.5) + 0.25 * np.log(0.5)]
    discounts = [1.0, 1 / np.log2(3), 0.5, 1 / np.log2(5)]
    assert rows["ndkl_4"].value == pytest.approx(np.average(divergences, weights=discounts))
    assert [rows[end].higher_is_better for end in ("max_skew_2", "min_skew_2", "ndkl_4")] == [
        False,
        True,
        False,
    ]
    assert rows["max_skew_4"].n_by_group == {"a": 4, "b": 4}


def test_desired_shares_replace_those_of_the_pool() -> None:
    groups = np.array(["a", "a", "a", "b", "b", "a", "b", "b"])
    images = _plane(np.arange(8.0)[::-1])
    given = {"a": 0.75, "b": 0.25}
    rows = _named(ranking(FIRST, images, groups, name="gender", at=_at(8), ks=(4,), cutoff=2, desired=given))
    assert rows["max_skew_4"].value == rows["min_skew_4"].value == pytest.approx(0.0)
    assert rows["ndkl_2"].value == pytest.approx(-np.log(0.75))


def test_an_absent_group_counts_half_or_what_is_expected_of_it() -> None:
    top, share = np.array([[[10.0, 0.0, 0.0]]]), np.array([[0.7, 0.28, 0.02]])
    found = log_ratios(top, np.array([[10.0]]), share)[0, 0]
    assert found == pytest.approx([np.log(1 / 0.7), np.log(0.5 / 2.8), 0.0])


def test_ties_are_shared_out_as_the_mean_over_their_orders() -> None:
    groups = np.array(["a", "a", "b", "a", "b", "b", "a", "b", "b", "b"])
    scores = np.array([5, 4, 3, 3, 3, 3, 3, 2, 1, 0.0])
    rows = _named(ranking(FIRST, _plane(scores), groups, name="gender", at=_at(10), ks=(4,), cutoff=4))
    expected = np.array([2 + 2 * 2 / 5, 2 * 3 / 5]) / 4  # two of five places go to {b, a, b, b, a}
    assert rows["max_skew_4"].value == pytest.approx(np.log(expected[0] / 0.4))
    assert rows["min_skew_4"].value == pytest.approx(np.log(expected[1] / 0.6))
    one_place = ranking(FIRST, np.ones((10, 2)), groups, name="gender", at=_at(10), ks=(1, 4), cutoff=4)
    for row in one_place:
        assert [row.value, row.low, row.high, row.null] == pytest.approx([0.0] * 4, abs=1e-12)


def test_order_names_rotation_and_scale_change_nothing_even_with_ties() -> None:
    texts, images, groups = _space(0.7, 0, 120)
    images = np.round(images)  # many ties
    images[::3] = images[0]
    rng = np.random.default_rng(1)
    turn, _ = np.linalg.qr(rng.standard_normal((8, 8)))
    order, at = rng.permutation(120), _at(120)
    renamed = np.where(groups == "man", "x", "b")
    settings = {"name": "gender", "ks": (10, 50), "cutoff": 20}
    before = ranking(texts, images, groups, at=at, **settings)
    for other in (
        ranking(texts, images[order], groups[order], at=at.where(order), **settings),
        ranking(texts, images, renamed, at=at, **settings),
        ranking(texts @ turn, images @ turn, groups, at=at, **settings),
        ranking(7 * texts, images * rng.uniform(0.1, 9, (120, 1)), groups, at=at, **settings),
    ):
        for row, again in zip(before, other, strict=True):
            assert (again.value, again.low, again.high) == pytest.approx((row.value, row.low, row.high))


def test_a_long_vector_does_not_come_first() -> None:
    texts, images, groups = _space(0.0, 2, 400)
    long = images * np.where(groups == "man", 50.0, 1.0)[:, None]
    top = np.argsort(-(long @ texts[0]))[:50]
    assert (groups[top] == "man").mean() > 0.95  # what a ranking by inner products would call bias
    rows = _named(ranking(texts, long, groups, name="gender", at=_at(400), ks=(50,)))
    assert rows["max_skew_50"].p_value > 0.05
    biased = _named(ranking(*_space(2.0, 2, 400), name="gender", at=_at(400), ks=(50,)))["max_skew_50"]
    assert biased.p_value == 1 / 200


def test_without_bias_skew_is_not_zero_and_the_null_says_how_large_it_is() -> None:
    size, many = 2000, Inference(resamples=2, permutations=400)
    rng = np.random.default_rng(0)
    texts, images = rng.standard_normal((5, 8)), rng.standard_normal((size, 8))
    two = _named(ranking(texts, images, np.tile(["a", "b"], 1000), name="gender", at=_at(size, many)))
    for k, stated in ((10, 0.199), (100, 0.077), (1000, 0.017)):
        count = np.arange(k + 1)
        chance = hypergeom.pmf(count, size, size // 2, k)
        exact = chance @ np.log(np.maximum(count, k - count) / (k / 2))
        assert two[f"max_skew_{k}"].null == pytest.approx(exact, rel=0.04)
        assert exact == pytest.approx(stated, rel=0.06)
    size = 7_000
    images = rng.standard_normal((size, 8))
    seven = _named(ranking(texts, images, np.tile(list("abcdefg"), 1000), name="gender", at=_at(size, many)))
    for k, stated in ((10, 0.79), (100, 0.31), (1000, 0.097)):
        drawn = rng.multivariate_hypergeometric([1000] * 7, k, size=4000).max(axis=1)
        exact = np.log(drawn / (k / 7)).mean()
        assert seven[f"max_skew_{k}"].null == pytest.approx(exact, rel=0.04)
        assert exact == pytest.approx(stated, rel=0.06)


def test_p_is_uniform_when_labels_are_random_and_small_when_bias_is_planted() -> None:
    found = [
        _named(ranking(*_space(0.0, seed, 120), name="gender", at=_at(120), ks=(40,), cutoff=40))
        for seed in range(150)
    ]
    for end in ("max_skew_40", "min_skew_40", "ndkl_40"):
        assert kstest([rows[end].p_value for rows in found], "uniform").pvalue > 0.01
    planted = _named(ranking(*_space(2.5, 0), name="gender", at=_at(300), ks=(30,), cutoff=30))
    assert all(row.p_value == 1 / 200 for row in planted.values())
    assert planted["max_skew_30"].low > planted["max_skew_30"].null_high
    assert planted["min_skew_30"].high < planted["min_skew_30"].null_low
    assert all(row.low <= row.value <= row.high for row in planted.values())


def test_clusters_that_go_together_widen_null_and_interval() -> None:
    texts, images, groups = _space(0.0, 5, 100)
    settings = {"name": "gender", "ks": (40,)}
    copies = np.repeat(np.arange(100), 6)
    together = Setting(clusters=copies, split="test", system="off", inference=QUICK)
    owned = ranking(texts, images[copies], groups[copies], at=together, **settings)[0]
    alone = ranking(texts, images[copies], groups[copies], at=_at(600), **settings)[0]
    assert owned.null > 1.7 * alone.null
    assert owned.high > alone.high


def test_a_change_is_paired_found_where_planted_and_not_in_a_control() -> None:
    texts, images, groups = _space(1.5, 3)
    edited, control = images.copy(), images.copy()
    edited[:, 0], control[:, 5] = 0.0, 0.0

    def change(after: np.ndarray) -> dict[str, Estimate]:
        pair = ((texts, images), (texts, after))
        rows = ranking_changes(*pair, groups, name="gender", at=_at(300, system="on"), ks=(60,), cutoff=60)
        return _named(rows)

    def value(x: np.ndarray, end: str) -> float:
        rows = ranking(texts, x, groups, name="gender", at=_at(300), ks=(60,), cutoff=60)
        return _named(rows)[end].value

    fell, kept, same = change(edited), change(control), change(images)
    for end in ("max_skew_60", "min_skew_60", "ndkl_60"):
        row = fell[f"{end}_change"]
        assert row.value == pytest.approx(value(edited, end) - value(images, end))
        assert (row.p_value, row.null, row.system) == (1 / 200, 0.0, "on")
        assert row.low <= row.value <= row.high
        assert row.low > 0 if end.startswith("min") else row.high < 0
        assert abs(kept[f"{end}_change"].value) < abs(row.value) / 2
        assert kept[f"{end}_change"].low <= 0 <= kept[f"{end}_change"].high
        nothing = same[f"{end}_change"]
        assert (nothing.value, nothing.p_value) == (0.0, 1.0)
        assert nothing.low <= 0 <= nothing.high


def test_p_of_a_change_is_uniform_for_systems_of_one_kind_and_blind_to_the_scale_of_cosines() -> None:
    found = []
    for seed in range(100):
        texts, images, groups = _space(0.8, seed, 150)
        rng = np.random.default_rng([7, seed])
        pair = [(texts, images + 0.7 * rng.standard_normal(images.shape)) for _ in range(2)]
        rows = ranking_changes(*pair, groups, name="gender", at=_at(150), ks=(40,), cutoff=40)
        found.append([rows[0].p_value, rows[2].p_value])
    for p_values in np.transpose(found):
        assert kstest(p_values, "uniform").pvalue > 0.01
    unit = images / np.linalg.norm(images, axis=1, keepdims=True)
    far = np.column_stack([unit, np.full(150, 3.0)])
    wide = np.column_stack([texts, np.zeros(len(texts))])
    rows = ranking_changes((texts, images), (wide, far), groups, name="gender", at=_at(150), ks=(40,))
    assert all((row.value, row.p_value) == (pytest.approx(0.0, abs=1e-12), 1.0) for row in rows)


def test_what_cannot_be_ranked_is_refused_by_name() -> None:
    texts, images, groups = _space(0.0, 0, 9)
    groups[:2] = "man", "woman"
    at = _at(9)
    with pytest.raises(ValueError, match="leave none from 1 to 8"):
        ranking(texts, images, groups, name="gender", at=at, ks=(9, 100))
    with pytest.raises(ValueError, match="got only"):
        ranking(texts, images, np.repeat("man", 9), name="gender", at=at, ks=(3,))
    with pytest.raises(ValueError, match="desired shares"):
        ranking(texts, images, groups, name="gender", at=at, ks=(3,), desired={"man": 0.5, "woman": 0.2})
    with pytest.raises(ValueError, match="share no dimension"):
        ranking(texts[:, 1:], images, groups, name="gender", at=at, ks=(3,))
    with pytest.raises(ValueError, match="at least one query"):
        ranking(texts[:0], images, groups, name="gender", at=at, ks=(3,))
    with pytest.raises(ValueError, match="other numbers of images"):
        ranking_changes((texts, images), (texts, images[1:]), groups, name="gender", at=at, ks=(3,))
