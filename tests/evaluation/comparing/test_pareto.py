"""Front and hypervolume against brute force."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.comparing.pareto import front, hypervolume, hypervolume_interval, leakage_axis, utility_axis
from evaluation.inference import Inference
from evaluation.results import AuditResult

POINTS = st.lists(
    st.tuples(st.sampled_from([0, 0.1, 0.2, 0.5, 0.9]), st.sampled_from([0.5, 0.6, 0.7, 1.0])), max_size=8
)


@given(POINTS)
def test_the_front_is_what_nothing_dominates(points: list[tuple[float, float]]) -> None:
    utility, leakage = np.array(points).reshape(-1, 2).T
    beaten = [
        any(
            u >= own_u and v <= own_v and (u > own_u or v < own_v)
            for u, v in zip(utility, leakage, strict=True)
        )
        for own_u, own_v in zip(utility, leakage, strict=True)
    ]
    assert front(utility, leakage).tolist() == [not each for each in beaten]


@given(POINTS)
def test_hypervolume_is_the_share_of_dominated_places(points: list[tuple[float, float]]) -> None:
    utility, leakage = np.array(points).reshape(-1, 2).T
    side = (np.arange(200) + 0.5) / 200
    u, v = np.meshgrid(side, 0.5 + side / 2)
    covered = np.zeros(u.shape, dtype=bool)
    for x, y in points:
        covered |= (u <= x) & (v >= y)
    assert hypervolume(utility, leakage, chance=0.5) == pytest.approx(covered.mean(), abs=0.006)


def test_hypervolume_of_no_point_and_of_a_perfect_one() -> None:
    assert hypervolume(np.array([]), np.array([]), chance=0.5) == 0
    assert hypervolume(np.array([1.0]), np.array([0.5]), chance=0.5) == 1
    assert hypervolume(np.array([1.2]), np.array([0.4]), chance=0.5) == 1  # counts at the edge


def test_the_interval_holds_the_value_and_narrows_with_the_noise() -> None:
    rng = np.random.default_rng(0)
    utility, leakage = np.array([0.3, 0.5]), np.array([0.6, 0.8])
    value = hypervolume(utility, leakage, chance=0.5)
    widths = []
    for noise in (0.05, 0.005):
        drawn = [each[:, None] + rng.normal(0, noise, (2, 400)) for each in (utility, leakage)]
        low, high = hypervolume_interval(*drawn, chance=0.5, value=value, inference=Inference())
        assert low <= value <= high
        widths.append(high - low)
    assert widths[1] < widths[0] / 5


@pytest.mark.parametrize("chance", [-0.1, 1.0])
def test_chance_must_leave_room(chance: float) -> None:
    with pytest.raises(ValueError, match="expected a share below 1"):
        hypervolume(np.array([0.5]), np.array([0.5]), chance=chance)


def test_points_need_both_coordinates() -> None:
    with pytest.raises(ValueError, match="one of each a point"):
        front(np.zeros(2), np.zeros(3))


def test_axes_of_an_audit(audit: AuditResult) -> None:
    on = utility_axis(audit, system="eraser on")
    assert on is not None
    recalls = [audit.find(f"retrieval/{way}_recall_10", system="eraser on").value for way in ("i2t", "t2i")]
    assert on.value == pytest.approx(np.mean(recalls))
    assert on.label == "mean recall at 10"
    assert (on.low, on.high) == (None, None)  # the rows of this audit have no draws
    leak = leakage_axis(audit, system="eraser on")
    assert leak is not None
    assert leak.value == audit.find("leakage/gender/embedding/max", system="eraser on").value
    pixels = leakage_axis(audit, system="pixels")
    assert pixels is not None
    assert pixels.value == audit.find("leakage/gender/pixels/max", system="pixels").value


def test_draws_of_both_recalls_give_their_mean_an_interval(audit: AuditResult) -> None:
    rng = np.random.default_rng(0)
    rows = tuple(replace(row, draws=row.value + rng.normal(0, 0.01, 200)) for row in audit.rows)
    axis = utility_axis(replace(audit, rows=rows), system="eraser on")
    assert axis is not None
    assert axis.low is not None
    assert axis.high is not None
    assert axis.low < axis.value < axis.high


def test_without_captions_a_task_stands_for_utility_but_not_the_attribute_itself(audit: AuditResult) -> None:
    rows = tuple(row for row in audit.rows if "retrieval" not in row.name)
    axis = utility_axis(replace(audit, rows=rows), system="eraser on")
    assert axis is not None
    assert axis.label == "zero_shot/role_top1"
    only = tuple(row for row in rows if row.name.startswith(("zero_shot/gender", "leakage")))
    assert utility_axis(replace(audit, rows=only), system="eraser on") is None
