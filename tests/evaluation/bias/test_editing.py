from __future__ import annotations

import numpy as np
import pytest

from evaluation.bias.editing import editing, editing_changes, safe
from evaluation.inference import Inference
from evaluation.results import Estimate
from evaluation.setting import Setting

QUICK = Inference(resamples=200, permutations=199)
WIDTH = 24
GENDER = np.eye(WIDTH)[0]

Prompts = dict[str, np.ndarray]


def _at(size: int, system: str = "off", inference: Inference = QUICK) -> Setting:
    return Setting(clusters=np.arange(size) // 2, split="test", system=system, inference=inference)


def _data(strength: float, seed: int, size: int = 600) -> tuple[np.ndarray, Prompts, np.ndarray]:
    """Images of women and men, and prompts of both, that part along one direction."""
    rng = np.random.default_rng(seed)
    groups = np.array(["man", "woman"])[rng.integers(2, size=size)]
    sign = np.where(groups == "man", 1.0, -1.0)
    images = rng.standard_normal((size, WIDTH)) + strength * np.outer(sign, GENDER)
    prompts = {
        group: rng.standard_normal((8, WIDTH)) + side * 2 * strength * GENDER
        for group, side in (("man", 1.0), ("woman", -1.0))
    }
    return images, prompts, groups


def _without(x: np.ndarray, direction: np.ndarray) -> np.ndarray:
    return x - np.outer(x @ direction, direction) / (direction @ direction)


def _named(rows: list[Estimate]) -> dict[str, Estimate]:
    return {
        row.name.removeprefix("editing/gender/") + (f"/{row.group}" if row.group else ""): row for row in rows
    }


def test_cells_gaps_and_interaction_are_those_of_a_plain_loop() -> None:
    images, prompts, groups = _data(1.0, 0, 80)
    rows = _named(editing(images, prompts, groups, name="gender", at=_at(80), k=5))
    unit = images / np.linalg.norm(images, axis=1, keepdims=True)
    cell = {}
    for own, texts in prompts.items():
        for group in prompts:
            best = [np.sort(unit[groups == group] @ text)[-5:] / np.linalg.norm(text) for text in texts]
            cell[own, group] = np.mean(best)
            row = rows[f"{own}_prompts/{group}"]
            assert row.value == pytest.approx(cell[own, group])
            assert row.low < row.value < row.high
            assert row.higher_is_better == (own != group)
    gaps = [cell["man", "man"] - cell["man", "woman"], cell["woman", "woman"] - cell["woman", "man"]]
    assert rows["man_prompts_gap"].value == pytest.approx(gaps[0])
    assert rows["woman_prompts_gap"].value == pytest.approx(gaps[1])
    assert rows["interaction"].value == pytest.approx(np.mean(gaps))
    assert rows["interaction"].n_by_group == {
        "man": int((groups == "man").sum()),
        "woman": int((groups == "woman").sum()),
    }


def test_removing_the_planted_direction_ends_the_interaction_and_a_random_one_leaves_it() -> None:
    images, prompts, groups = _data(1.0, 1)
    random = np.random.default_rng(5).standard_normal(WIDTH)
    edited, control = _without(images, GENDER), _without(images, random)
    off, on, other = (
        _named(editing(each, prompts, groups, name="gender", at=_at(600)))["interaction"]
        for each in (images, edited, control)
    )
    assert off.low > off.null_high
    assert off.p_value == other.p_value == 1 / 200
    assert on.low <= 0.0 <= on.high
    assert on.p_value > 0.01
    assert abs(on.value) < off.value / 10
    assert other.low > off.value / 2

    def change(after: np.ndarray) -> Estimate:
        rows = editing_changes((images, prompts), (after, prompts), groups, name="gender", at=_at(600, "on"))
        return _named(rows)["interaction_change"]

    fell, kept = change(edited), change(control)
    assert fell.value == pytest.approx(on.value - off.value)
    assert (fell.p_value, fell.null, fell.system) == (1 / 200, 0.0, "on")
    assert fell.low < fell.value < fell.high < kept.low
    assert kept.high - kept.low < fell.high - fell.low
    same = change(images)
    assert (same.value, same.low, same.high, same.p_value) == (0.0, 0.0, 0.0, 1.0)


def test_without_a_concept_the_null_holds_what_is_found() -> None:
    found = [
        _named(editing(*_data(0.0, seed, 200), name="gender", at=_at(200)))["interaction"]
        for seed in range(60)
    ]
    p_values = np.array([row.p_value for row in found])
    assert 0.3 < p_values.mean() < 0.7
    assert np.mean(p_values <= 0.1) < 0.25
    assert np.mean([row.null_low <= row.value <= row.null_high for row in found]) > 0.85


def test_a_larger_group_has_better_best_images_which_the_null_of_a_gap_knows() -> None:
    images, prompts, groups = _data(0.0, 3, 900)
    few = np.flatnonzero((groups == "man") | (np.arange(900) % 10 == 0))
    at = Setting(clusters=np.arange(len(few)), split="test", system="off", inference=QUICK)
    rows = _named(editing(images[few], prompts, groups[few], name="gender", at=at))
    assert rows["man_prompts_gap"].value > 0.05
    assert rows["woman_prompts_gap"].value < -0.05
    for end in ("man_prompts_gap", "woman_prompts_gap", "interaction"):
        assert rows[end].null_low <= rows[end].value <= rows[end].null_high
    assert abs(rows["interaction"].value) < 0.05


def test_interval_covers_the_interaction_of_the_population() -> None:
    _, prompts, _ = _data(0.5, 0)

    def drawn(seed: int, size: int, k: int, resamples: int) -> Estimate:
        images, _, groups = _data(0.5, seed, size)
        inference = Inference(resamples=resamples, permutations=1)
        at = Setting(clusters=np.arange(size), split="test", system="off", inference=inference)
        return _named(editing(images, prompts, groups, name="gender", at=at, k=k))["interaction"]

    true = drawn(999, 60_000, 3000, 2).value
    rows = [drawn(seed, 400, 20, 300) for seed in range(100)]
    assert np.mean([row.low <= true <= row.high for row in rows]) >= 0.89
    assert np.mean([row.value for row in rows]) == pytest.approx(true, abs=0.01)


def test_scale_rotation_and_order_change_nothing() -> None:
    images, prompts, groups = _data(0.5, 4, 120)
    rng = np.random.default_rng(0)
    turn, _ = np.linalg.qr(rng.standard_normal((WIDTH, WIDTH)))
    order = rng.permutation(120)
    at = _at(120)
    before = editing(images, prompts, groups, name="gender", at=at)
    turned = {group: texts @ turn for group, texts in prompts.items()}
    for other in (
        editing(images @ turn, turned, groups, name="gender", at=at),
        editing(images * rng.uniform(0.1, 9, (120, 1)), prompts, groups, name="gender", at=at),
        editing(images[order], prompts, groups[order], name="gender", at=at.where(order)),
    ):
        for row, again in zip(before, other, strict=True):
            assert (again.value, again.low, again.high) == pytest.approx((row.value, row.low, row.high))


def test_images_of_groups_without_prompts_are_left_out_and_names_are_made_safe() -> None:
    images, prompts, groups = _data(1.0, 2, 100)
    more = np.concatenate([images, 9 * np.ones((20, WIDTH))])
    labels = np.concatenate([groups, np.repeat("person", 20)])
    rows = _named(editing(more, prompts, labels, name="gender", at=_at(120)))
    plain = _named(editing(images, prompts, groups, name="gender", at=_at(100)))
    assert rows["interaction"].value == plain["interaction"].value
    assert rows["interaction"].n == 100
    assert safe("East Asian & Pacific") == "east_asian_and_pacific"


def test_what_cannot_be_measured_is_refused_by_name() -> None:
    images, prompts, groups = _data(1.0, 2, 100)
    with pytest.raises(ValueError, match="'man' has 8 prompts and"):
        editing(images, prompts, groups, name="gender", at=_at(100), k=90)
    with pytest.raises(ValueError, match="compares groups"):
        editing(images, {"man": prompts["man"]}, groups, name="gender", at=_at(100))
    fewer = {**prompts, "man": prompts["man"][1:]}
    with pytest.raises(ValueError, match="other numbers"):
        editing_changes((images, prompts), (images, fewer), groups, name="gender", at=_at(100))
