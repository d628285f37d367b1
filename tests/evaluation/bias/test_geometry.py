from __future__ import annotations

import numpy as np
import pytest

from evaluation.bias.geometry import cosine_kept, cross_modal_angle, residual_correlation
from evaluation.inference import Inference
from evaluation.results import Estimate
from evaluation.setting import Setting

QUICK = Inference(resamples=200, permutations=999)
WIDTH = 64


def _at(clusters: np.ndarray, system: str = "eraser off") -> Setting:
    return Setting(clusters=clusters, split="test", system=system, inference=QUICK)


def _data(
    degrees: float, seed: int, separation: float, count: int = 60
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A difference of means planted ``degrees`` away from the first axis; clusters of four."""
    rng = np.random.default_rng(seed)
    clusters = np.repeat(np.arange(count), 4)
    labels = np.tile(["man", "woman", "woman", "man"], count)
    turned = np.cos(np.radians(degrees)) * np.eye(WIDTH)[0] + np.sin(np.radians(degrees)) * np.eye(WIDTH)[1]
    noise = rng.standard_normal((count, WIDTH))[clusters] + rng.standard_normal((4 * count, WIDTH))
    return 0.5 * noise + separation * np.outer(labels == "woman", turned), labels, clusters


def _planted(degrees: float, seed: int = 0, *, separation: float) -> Estimate:
    return _angle(-3.0 * np.eye(WIDTH)[0], *_data(degrees, seed, separation))


def _angle(direction: np.ndarray, x: np.ndarray, labels: np.ndarray, clusters: np.ndarray) -> Estimate:
    return cross_modal_angle(direction, x, labels, groups=("man", "woman"), name="gender", at=_at(clusters))


@pytest.mark.parametrize("degrees", [0.0, 30.0, 60.0, 90.0])
def test_planted_angles_are_recovered(degrees: float) -> None:
    row = _planted(degrees, separation=8.0)
    assert row.name == "geometry/gender/cross_modal_angle"
    assert row.value == pytest.approx(degrees, abs=3)
    assert row.low - 0.5 <= degrees <= row.high + 0.5
    assert (row.unit, row.n, row.n_clusters) == ("degrees", 240, 60)
    assert row.n_by_group == {"man": 120, "woman": 120}
    assert row.p_value == (1 / 1000 if degrees < 90 else pytest.approx(0.7, abs=0.3))


def test_noise_does_not_pull_the_angle_to_ninety_and_the_interval_covers() -> None:
    rows = [_planted(40.0, seed, separation=0.8) for seed in range(60)]
    assert np.mean([row.value for row in rows]) == pytest.approx(40.0, abs=3)
    assert np.mean([row.low <= 40.0 <= row.high for row in rows]) >= 0.9
    assert all(row.low <= row.value <= row.high for row in rows)
    assert np.mean([row.high - row.low for row in rows]) < 40
    uncorrected = []
    for seed in range(60):
        x, labels, _ = _data(40.0, seed, 0.8)
        difference = x[labels == "woman"].mean(axis=0) - x[labels == "man"].mean(axis=0)
        uncorrected.append(np.degrees(np.arccos(abs(difference[0]) / np.linalg.norm(difference))))
    assert np.mean(uncorrected) > 48


def test_random_directions_and_groups_that_do_not_differ_look_random() -> None:
    rows = [_planted(30.0, seed, separation=0.0) for seed in range(20)]
    assert np.mean([row.p_value < 0.05 for row in rows]) <= 0.2
    assert all(row.high > 85 for row in rows)
    rng = np.random.default_rng(1)
    labels = np.tile(["man", "woman"], 50)
    x = rng.standard_normal((100, WIDTH)) + 3 * np.outer(labels == "woman", np.eye(WIDTH)[0])
    rows = [_angle(rng.standard_normal(WIDTH), x, labels, np.arange(100)) for _ in range(40)]
    assert np.mean([row.null_low <= row.value <= row.null_high for row in rows]) >= 0.85
    cosine = np.abs(rng.standard_normal((4000, WIDTH)) @ np.eye(WIDTH)[0]) / np.sqrt(WIDTH)
    assert rows[0].null == pytest.approx(np.degrees(np.arccos(np.minimum(cosine, 1))).mean(), abs=0.5)


def test_other_groups_are_left_out_and_missing_ones_refused() -> None:
    labels = np.array(["man", "woman", "person"] * 20)
    x = np.eye(3)[np.arange(60) % 3] + 0.01 * np.random.default_rng(0).standard_normal((60, 3))
    row = _angle(np.array([1.0, 0.0, 0.0]), x, labels, np.arange(60) // 3)
    assert row.value == pytest.approx(45.0, abs=0.5)
    assert (row.n, row.n_by_group) == (40, {"man": 20, "woman": 20})
    with pytest.raises(ValueError, match="'woman'"):
        _angle(np.ones(3), x, np.repeat("man", 60), np.arange(60))
    with pytest.raises(ValueError, match="zero"):
        _angle(np.zeros(3), x, labels, np.arange(60))


def _kept(before: np.ndarray, after: np.ndarray) -> Estimate:
    return cosine_kept(before, after, name="gender", at=_at(np.arange(len(before)) // 2, "eraser on"))


def test_cosine_kept_of_a_hand_worked_move() -> None:
    before = np.array([[1.0, 0.0], [0.0, 2.0], [1.0, 1.0], [3.0, 4.0]])
    row = _kept(before, 7.0 * before)
    assert row.name == "geometry/gender/cosine_kept"
    assert row.value == pytest.approx(1.0)
    moved = _kept(before, before * [0.0, 1.0])
    assert moved.value == pytest.approx((0 + 1 + np.sqrt(0.5) + 0.8) / 4)
    assert moved.low == pytest.approx(0.5)
    assert moved.high == pytest.approx((np.sqrt(0.5) + 0.8) / 2)
    assert moved.n_clusters == 2


def _left(separation: float, seed: int, *, erase: bool = False, count: int = 60) -> Estimate:
    train, labels, _ = _data(0.0, 2 * seed, separation, count)
    test, own, clusters = _data(0.0, 2 * seed + 1, separation, count)
    if erase:
        train, test = (
            each @ (np.eye(WIDTH) - np.outer(np.eye(WIDTH)[0], np.eye(WIDTH)[0])) for each in (train, test)
        )
    return residual_correlation(train, labels, test, own, name="gender", at=_at(clusters))


def test_correlation_is_read_held_out_and_gone_when_its_direction_is_erased() -> None:
    row, erased = _left(1.5, 0), _left(1.5, 0, erase=True)
    # two groups a distance s apart with variance v each: correlation sqrt(s²/4 / (s²/4 + v)), v = 1/2
    assert row.name == "geometry/gender/residual_correlation"
    assert row.value == pytest.approx(np.sqrt(0.5625 / (0.5625 + 0.5)), abs=0.1)
    assert row.low <= row.value <= row.high
    assert row.null == pytest.approx(0.0, abs=0.02)
    assert (row.p_value, row.n, row.n_by_group) == (1 / 1000, 240, {"man": 120, "woman": 120})
    assert erased.p_value > 0.01
    assert abs(erased.value) < 0.25
    assert erased.low < 0 < erased.high


def test_where_nothing_is_to_be_found_the_correlation_is_about_zero_though_in_sample_it_is_not() -> None:
    rows = [_left(0.0, seed, count=40) for seed in range(20)]
    assert np.mean([row.value for row in rows]) == pytest.approx(0.0, abs=0.05)
    assert np.mean([row.p_value <= 0.05 for row in rows]) <= 0.15
    assert np.mean([row.p_value for row in rows]) == pytest.approx(0.5, abs=0.2)
    x, labels, clusters = _data(0.0, 0, 0.0, 40)
    in_sample = residual_correlation(x, labels, x, labels, name="gender", at=_at(clusters))
    assert in_sample.value > 0.3


def test_the_canonical_correlation_of_three_groups_minds_neither_names_nor_rotation() -> None:
    rng = np.random.default_rng(0)
    codes = rng.choice(3, size=2000, p=[0.5, 0.3, 0.2])
    # groups at 0, 1 and 3 along one line
    x = rng.standard_normal((2000, 6)) + np.outer(np.array([0.0, 1.0, 3.0])[codes], np.eye(6)[2])
    turn, _ = np.linalg.qr(rng.standard_normal((6, 6)))
    values = []
    for names, data in ((["a", "b", "c"], x), (["c", "a", "b"], 5 * x @ turn)):
        labels = np.array(names)[codes]
        halves = (data[:1000], labels[:1000], data[1000:], labels[1000:])
        values.append(residual_correlation(*halves, name="tone", at=_at(np.arange(1000))).value)
    along = np.corrcoef(x[1000:, 2], np.array([0.0, 1.0, 3.0])[codes[1000:]])[0, 1]
    assert values[0] == pytest.approx(along, abs=0.02)
    assert values[1] == pytest.approx(values[0], abs=1e-6)


def test_an_embedding_that_was_erased_to_a_point_has_no_correlation_and_one_group_is_refused() -> None:
    _, labels, clusters = _data(0.0, 0, 0.0)
    nothing = np.zeros((len(labels), 4))
    row = residual_correlation(nothing, labels, nothing, labels, name="gender", at=_at(clusters))
    assert (row.value, row.p_value) == (0.0, 1.0)
    refused = {"at least two": np.repeat("man", 240), "person": np.where(labels == "man", "man", "person")}
    for message, held in refused.items():
        with pytest.raises(ValueError, match=message):
            residual_correlation(nothing, labels, nothing, held, name="gender", at=_at(clusters))
