from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from scipy.stats import kstest

from evaluation.bias.association import association, association_changes
from evaluation.inference import Inference
from evaluation.results import Estimate
from evaluation.setting import Setting

QUICK = Inference(resamples=200, permutations=199)
WIDTH = 16


def _at(clusters: np.ndarray, inference: Inference = QUICK, system: str = "off") -> Setting:
    return Setting(clusters=clusters, split="test", system=system, inference=inference)


def _texts(seed: int = 9) -> tuple[np.ndarray, np.ndarray]:
    """Two sets of texts that differ along the second axis."""
    rng = np.random.default_rng(seed)
    sides = np.eye(WIDTH)[1]
    return rng.standard_normal((4, WIDTH)) + 3 * sides, rng.standard_normal((5, WIDTH)) - 3 * sides


def _images(shift: float, seed: int, size: int = 200) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    groups = np.array(["man", "woman"])[rng.integers(2, size=size)]
    return rng.standard_normal((size, WIDTH)) + shift * np.outer(groups == "man", np.eye(WIDTH)[1]), groups


def _rows(
    images: np.ndarray, groups: np.ndarray, at: Setting, texts: tuple[np.ndarray, np.ndarray] | None = None
) -> tuple[Estimate, Estimate]:
    effect, difference = association(
        images, groups, texts or _texts(), targets=("man", "woman"), name="gender/career", at=at
    )
    return effect, difference


def _by_hand(images: np.ndarray, texts: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    def cosine(w: np.ndarray, a: np.ndarray) -> float:
        return float(w @ a / np.linalg.norm(w) / np.linalg.norm(a))

    return np.array(
        [
            np.mean([cosine(w, a) for a in texts[0]]) - np.mean([cosine(w, b) for b in texts[1]])
            for w in images
        ]
    )


def test_value_and_exact_p_are_those_of_brute_force() -> None:
    images, _ = _images(0.0, 3, size=9)
    groups = np.array(["man"] * 4 + ["woman"] * 5)
    images[:4, 1] += 0.8
    score = _by_hand(images, _texts())
    whole = score[:4].mean() - score[4:].mean()
    effect, difference = _rows(images, groups, _at(np.arange(9)))
    assert difference.value == pytest.approx(whole)
    assert effect.value == pytest.approx(whole / np.std(score, ddof=1))
    splits = [
        score[list(own)].mean() - np.delete(score, list(own)).mean() for own in combinations(range(9), 4)
    ]
    exact = np.mean(np.abs(splits) >= abs(whole) - 1e-12)
    assert effect.p_value == difference.p_value == pytest.approx(exact)
    assert difference.null == pytest.approx(np.mean(splits), abs=1e-12)
    assert (effect.n_by_group, effect.unit) == ({"man": 4, "woman": 5}, "standard deviations")


def test_clusters_that_hold_both_groups_are_swapped_whole_in_the_exact_null() -> None:
    images, _ = _images(0.0, 4, size=12)
    groups = np.tile(["man", "woman"], 6)
    clusters = np.repeat(np.arange(6), 2)
    score = _by_hand(images, _texts())
    signs = np.array([[1 - 2 * (code >> bit & 1) for bit in range(6)] for code in range(64)])
    splits = signs @ (score[::2] - score[1::2]) / 6
    _, difference = _rows(images, groups, _at(clusters))
    assert difference.p_value == pytest.approx(np.mean(np.abs(splits) >= abs(splits[0]) - 1e-12))


def test_sampled_p_is_near_the_exact_one(monkeypatch: pytest.MonkeyPatch) -> None:
    images, groups = _images(0.6, 5, size=14)
    at = _at(np.arange(14), Inference(resamples=20, permutations=4999))
    exact = _rows(images, groups, at)[0].p_value
    monkeypatch.setattr("evaluation.bias.association_null.EXACT_SPLITS", 0)
    assert _rows(images, groups, at)[0].p_value == pytest.approx(exact, abs=0.03)


def test_p_is_uniform_when_labels_are_random_and_small_when_an_effect_is_planted() -> None:
    found = [_rows(*_images(0.0, seed, 60), _at(np.arange(60) // 2))[0] for seed in range(150)]
    assert kstest([row.p_value for row in found], "uniform").pvalue > 0.01
    assert np.mean([row.low <= 0 <= row.high for row in found]) > 0.88
    planted = _rows(*_images(1.0, 0), _at(np.arange(200)))[0]
    assert planted.p_value == 1 / 200
    assert planted.low > planted.null_high
    assert planted.low < planted.value < planted.high


def test_interval_covers_the_effect_of_the_population() -> None:
    images, groups = _images(0.8, 77, 20_000)
    true = [
        row.value
        for row in _rows(images, groups, _at(np.arange(20_000), Inference(resamples=2, permutations=1)))
    ]
    quick = Inference(resamples=300, permutations=1)
    hits = np.array(
        [
            [
                row.low <= value <= row.high
                for row, value in zip(
                    _rows(*_images(0.8, seed), _at(np.arange(200), quick)), true, strict=True
                )
            ]
            for seed in range(150)
        ]
    )
    assert (hits.mean(axis=0) >= 0.9).all()


def test_a_large_effect_may_be_a_small_difference() -> None:
    images, groups = _images(1.0, 1)
    groups = np.where(images[:, 1] > np.median(images[:, 1]), "man", "woman")
    away = images + 1000 * np.eye(WIDTH)[2]
    near, far = (_rows(each, groups, _at(np.arange(200))) for each in (images, away))
    assert far[1].value < near[1].value / 50
    assert far[0].value > near[0].value / 2
    assert far[0].value > 1


def test_scale_rotation_order_and_swapped_texts() -> None:
    images, groups = _images(0.5, 2, 80)
    at = _at(np.arange(80))
    before = _rows(images, groups, at)
    rng = np.random.default_rng(0)
    turn, _ = np.linalg.qr(rng.standard_normal((WIDTH, WIDTH)))
    turned = _rows(images @ turn, groups, at, tuple(each @ turn for each in _texts()))
    scaled = _rows(images * rng.uniform(0.1, 9, (80, 1)), groups, at)
    order = rng.permutation(80)
    shuffled = _rows(images[order], groups[order], at.where(order))
    opposite = _rows(images, groups, at, _texts()[::-1])
    for index, row in enumerate(before):
        for other in (turned, scaled, shuffled):
            assert other[index].value == pytest.approx(row.value)
            assert (other[index].low, other[index].high) == pytest.approx((row.low, row.high))
        assert opposite[index].value == pytest.approx(-row.value)
        assert opposite[index].p_value == row.p_value


def test_a_change_is_paired_found_where_planted_and_not_elsewhere() -> None:
    images, groups = _images(1.0, 6)
    at = _at(np.arange(200), system="on")
    without, control = images.copy(), images.copy()
    without[:, 1], control[:, 7] = 0.0, 0.0

    def change(after: np.ndarray) -> list[Estimate]:
        sides = [(each, _texts()) for each in (images, after)]
        return association_changes(*sides, groups, targets=("man", "woman"), name="career", at=at)

    effect, difference = change(without)
    assert [effect.name, difference.name] == [
        "association/career/effect_size_change",
        "association/career/difference_change",
    ]
    assert effect.value == pytest.approx(
        _rows(without, groups, at)[0].value - _rows(images, groups, at)[0].value
    )
    for row in (effect, difference):
        assert (row.p_value, row.null, row.system) == (1 / 200, 0.0, "on")
        assert row.high < 0
    for fell, kept in zip((effect, difference), change(control), strict=True):
        assert abs(kept.value) < -fell.value / 5
        assert fell.high < kept.low
    assert all((row.value, row.low, row.high, row.p_value) == (0, 0, 0, 1) for row in change(images))


def test_what_cannot_be_measured_is_refused_by_name() -> None:
    images, groups = _images(0.0, 0, 20)
    at = _at(np.arange(20))
    with pytest.raises(ValueError, match="no image of group 'person'"):
        association(images, groups, _texts(), targets=("man", "person"), name="x", at=at)
    with pytest.raises(ValueError, match="at least one text"):
        _rows(images, groups, at, (np.empty((0, WIDTH)), _texts()[1]))
    with pytest.raises(ValueError, match="spread is zero"):
        _rows(np.ones_like(images), groups, at)
    with pytest.raises(ValueError, match="19 group labels but 20"):
        _rows(images, groups[1:], at)
