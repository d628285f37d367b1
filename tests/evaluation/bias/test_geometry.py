from __future__ import annotations

import numpy as np
import pytest

from evaluation.bias.geometry import cosine_kept, cross_modal_angle
from evaluation.inference import Inference
from evaluation.results import Estimate

QUICK = Inference(resamples=200, permutations=999)
WIDTH = 64


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
    return cross_modal_angle(
        direction,
        x,
        labels,
        clusters=clusters,
        groups=("man", "woman"),
        name="gender",
        split="test",
        system="eraser off",
        inference=QUICK,
    )


@pytest.mark.parametrize("degrees", [0.0, 30.0, 60.0, 90.0])
def test_planted_angles_are_recovered(degrees: float) -> None:
    row = _planted(degrees, separation=8.0)
    assert row.name == "geometry/gender/cross_modal_angle"
    assert row.value == pytest.approx(degrees, abs=3)
    assert row.low - 0.5 <= degrees <= row.high + 0.5
    assert (row.unit, row.n, row.n_clusters) == ("degrees", 240, 60)
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
    assert row.n == 40
    with pytest.raises(ValueError, match="'woman'"):
        _angle(np.ones(3), x, np.repeat("man", 60), np.arange(60))
    with pytest.raises(ValueError, match="zero"):
        _angle(np.zeros(3), x, labels, np.arange(60))


def _kept(before: np.ndarray, after: np.ndarray) -> Estimate:
    clusters = np.arange(len(before)) // 2
    return cosine_kept(
        before, after, clusters=clusters, name="gender", split="test", system="eraser on", inference=QUICK
    )


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
