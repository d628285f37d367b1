"""Boxes and points from heat maps, by hand; and whose thing is found."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from evaluation.inference import Inference
from evaluation.setting import Setting
from evaluation.utility.grounding import found_in, grounding, grounding_change, hits, iou

SIDE = 32
corner = st.integers(0, 20)
extent = st.integers(1, 20)
boxes = st.builds(
    lambda x, y, w, h: np.array([[x, y, x + w, y + h]], dtype=float), corner, corner, extent, extent
)


def setting(count: int, *, permutations: int = 199) -> Setting:
    inference = Inference(resamples=200, permutations=permutations)
    return Setting(clusters=np.arange(count) // 2, split="test", system="eraser off", inference=inference)


def planted(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Squares of 8 pixels at random places, and maps that are hot there over noise."""
    rng = np.random.default_rng(seed)
    where = rng.integers(0, SIDE - 8, size=(count, 2))
    heat = 0.2 * rng.random((count, SIDE, SIDE))
    for each, (x, y) in zip(heat, where, strict=True):
        each[y : y + 8, x : x + 8] += 0.8
    return heat, np.hstack([where, where + 8])


def test_boxes_of_maps_by_hand() -> None:
    heat = np.zeros((4, 6, 8))
    heat[0, 1:3, 2:5] = 1.0
    heat[0, 5, 7] = 0.9  # a second, smaller part
    heat[1, 4, 6] = 1.0
    heat[1, 3, 6] = 0.5  # exactly at the threshold
    heat[1, 2, 6] = 0.49
    heat[3] = 0.7
    found = found_in(heat)
    assert found.boxes.tolist() == [[2, 1, 5, 3], [6, 3, 7, 5], [0, 0, 0, 0], [0, 0, 0, 0]]
    assert found.points.tolist() == [[3.5, 2.0], [6.5, 4.5], [-1, -1], [-1, -1]]


def test_overlaps_by_hand() -> None:
    first = np.array([[0, 0, 4, 4], [0, 0, 4, 4], [0, 0, 4, 4], [0, 0, 0, 0]], dtype=float)
    second = np.array([[0, 0, 4, 4], [2, 0, 6, 4], [4, 0, 8, 4], [0, 0, 4, 4]], dtype=float)
    assert iou(first, second).tolist() == [1.0, 8 / 24, 0.0, 0.0]


@given(boxes, boxes)
def test_overlap_is_symmetric_and_one_for_equal_boxes_alone(first: np.ndarray, second: np.ndarray) -> None:
    there, back = iou(first, second)[0], iou(second, first)[0]
    assert there == back
    assert 0 <= there <= 1
    assert iou(first, first)[0] == 1
    assert (there == 1) == np.array_equal(first, second)


def test_a_point_on_the_far_edge_is_outside() -> None:
    heat = np.zeros((2, SIDE, SIDE))
    heat[0, 4, 7], heat[1, 4, 8] = 1.0, 1.0
    own = hits(found_in(heat), np.array([[0, 0, 8, 8], [0, 0, 8, 8]], dtype=float))
    assert own["pointing"].tolist() == [True, False]


def test_the_hottest_of_four_places_is_pointed_at_in_every_corner() -> None:
    coarse = torch.eye(4).reshape(4, 1, 2, 2)  # what a ResNet sees of 64 pixels
    heat = F.interpolate(coarse, [64, 64], mode="bilinear")[:, 0].numpy()
    cells = np.array([[x, y, x + 28, y + 28] for y in (2, 34) for x in (2, 34)], dtype=float)
    own, other = hits(found_in(heat), cells), hits(found_in(heat[::-1]), cells)
    assert all(hit.all() for hit in own.values())
    assert not any(hit.any() for hit in other.values())


def test_a_planted_thing_is_found_and_other_maps_are_at_chance() -> None:
    heat, true = planted(120)
    rows = {row.name: row for row in grounding(heat, true, name="squares", at=setting(120))}
    assert set(rows) == {"grounding/squares_iou50", "grounding/squares_pointing"}
    for row in rows.values():
        assert row.value == 1.0
        assert row.p_value == pytest.approx(1 / 200)
        assert row.null is not None
        assert row.null < 0.15
        assert (row.n, row.n_clusters) == (120, 60)
    blind, _ = planted(120, seed=1)
    for row in grounding(blind, true, name="squares", at=setting(120)):
        assert row.p_value is not None
        assert row.p_value > 0.01
        assert row.null_low is not None
        assert row.null_high is not None
        assert row.null_low <= row.value <= row.null_high


def test_p_values_are_valid_where_maps_say_nothing() -> None:
    rng = np.random.default_rng(0)
    p_values = []
    for _ in range(120):
        points, true = rng.random((40, 2)) * SIDE, planted(40, int(rng.integers(2**31)))[1]
        heat = np.zeros((40, SIDE, SIDE))
        heat[np.arange(40), points[:, 1].astype(int), points[:, 0].astype(int)] = 1.0
        p_values.append(grounding(heat, true, name="x", at=setting(40, permutations=99))[1].p_value)
    found = np.array(p_values, dtype=float)
    assert np.mean(found <= 0.05) <= 0.11  # 5% with three standard errors of 120 runs
    assert np.mean(found <= 0.5) <= 0.64
    assert np.mean(found) < 0.8


def test_p_values_are_valid_where_phrases_of_one_picture_share_map_and_box() -> None:
    rng, pictures, phrases = np.random.default_rng(0), 20, 5
    picture = np.repeat(np.arange(pictures), phrases)
    inference = Inference(resamples=20, permutations=99)
    at = Setting(clusters=picture, split="test", system="eraser off", inference=inference)
    p_values, seeing = [], []
    for _ in range(120):
        x, y = rng.integers(0, SIDE, size=(2, pictures))[:, picture]
        corners = rng.integers(0, SIDE // 2, size=(pictures, 2))[picture]
        true = np.hstack([corners, corners + SIDE // 2])
        for columns, rows, kept in ((x, y, p_values), (true[:, 0] + 3, true[:, 1] + 3, seeing)):
            heat = np.zeros((len(picture), SIDE, SIDE))
            heat[np.arange(len(picture)), rows, columns] = 1.0
            kept.append(grounding(heat, true, name="x", at=at)[1].p_value)
    found = np.array(p_values, dtype=float)
    assert np.mean(found <= 0.05) <= 0.11  # 5% with three standard errors of 120 runs
    assert np.mean(found <= 0.5) <= 0.64
    assert set(seeing) == {0.01}


def test_what_got_lost_shows_in_the_change() -> None:
    heat, true = planted(80)
    blind, _ = planted(80, seed=3)
    lost = np.where(np.arange(80)[:, None, None] % 4 == 0, blind, heat)
    for row in grounding_change(heat, lost, true, name="x", at=setting(80)):
        assert row.name.endswith("_change")
        assert row.high is not None
        assert row.value < row.high < 0
        assert row.p_value is not None
        assert row.p_value <= 0.01
    same = grounding_change(heat, heat, true, name="x", at=setting(80))
    assert [(row.value, row.low, row.high, row.p_value) for row in same] == [(0, 0, 0, 1)] * 2


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ([[0, 0, 33, 8]], "reaches out of its map of 32 by 32"),
        ([[4, 4, 4, 8]], "a box is empty"),
        ([[0, 0, 8]], r"expected \(n, H, W\) and \(n, 4\)"),
    ],
)
def test_boxes_that_cannot_be_are_one_line(wrong: list[list[int]], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        grounding(np.ones((1, SIDE, SIDE)), np.array(wrong), name="x", at=setting(1))


def test_not_one_cluster_per_phrase_is_one_line() -> None:
    heat, true = planted(4)
    with pytest.raises(ValueError, match="4 phrases but 6 cluster names"):
        grounding(heat, true, name="x", at=setting(6))
