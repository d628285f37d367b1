from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import kstest

from evaluation.bias.amplification_directional import (
    Cells,
    attribute_to_task,
    task_to_attribute,
    training_cells,
)
from evaluation.inference import Inference
from evaluation.results import Estimate
from evaluation.setting import Setting

QUICK = Inference(resamples=300, permutations=299)


def _at(clusters: np.ndarray, inference: Inference = QUICK) -> Setting:
    return Setting(clusters=clusters, split="test", system="eraser off", inference=inference)


def _by_name(rows: list[Estimate]) -> dict[str, Estimate]:
    return {row.name.removeprefix("amplification/gender/role/"): row for row in rows}


def _tasks(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Three tasks: commoner among women, commoner among men, independent."""
    woman = labels == "woman"
    chance = np.column_stack(
        [np.where(woman, 0.6, 0.2), np.where(woman, 0.1, 0.4), np.full(len(labels), 0.3)]
    )
    return (rng.random(chance.shape) < chance).astype(int)


def _training(seed: int = 0, size: int = 2000) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, tasks and clusters of two."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(["man", "woman"], size=size)
    return labels, _tasks(labels, rng), np.arange(size) // 2


def _hand() -> tuple[Cells, np.ndarray, np.ndarray]:
    """Four men, four women. Task 0 is women's by training, task 1 cannot be told."""
    cells = Cells(("man", "woman"), np.array([[-1.0, 0.0], [1.0, 0.0]]))
    labels = np.repeat(["man", "woman"], 4)
    truth = np.array([[1, 0], [0, 1], [0, 0], [0, 1], [1, 1], [1, 0], [0, 0], [0, 1]])
    return cells, labels, truth


def test_hand_worked_tables_in_both_directions() -> None:
    cells, labels, truth = _hand()
    answers = truth.copy()
    answers[6, 0] = 1  # women: 2 of 4 in truth, 3 of 4 answered; men: 1 of 4 in both
    answers[:, 1] = 1 - truth[:, 1]  # must not count
    rows = _by_name(
        attribute_to_task(cells, labels, truth, answers, name="gender/role", at=_at(np.arange(8)))
    )
    assert list(rows) == ["attribute_to_task", "attribute_to_task_cells"]
    assert rows["attribute_to_task"].value == pytest.approx((0.25 + 0.0) / 2)
    assert (rows["attribute_to_task_cells"].value, rows["attribute_to_task_cells"].unit) == (2.0, "cells")
    assert rows["attribute_to_task"].n_by_group == {"man": 4, "woman": 4}
    answers[0, 0] = 0  # now men's share falls too, the way training leans
    rows = _by_name(
        attribute_to_task(cells, labels, truth, answers, name="gender/role", at=_at(np.arange(8)))
    )
    assert rows["attribute_to_task"].value == pytest.approx((0.25 + 0.25) / 2)
    answered = labels.copy()
    answered[0] = "woman"  # where the task holds, 3 of 3 are answered women, 2 of 3 are
    answered[7] = "man"  # the task does not hold here
    rows = _by_name(
        task_to_attribute(cells, labels, truth, answered, name="gender/role", at=_at(np.arange(8)))
    )
    assert rows["task_to_attribute"].value == pytest.approx(1 / 3)
    against = np.where(labels == "woman", "man", labels)
    rows = _by_name(
        task_to_attribute(cells, labels, truth, against, name="gender/role", at=_at(np.arange(8)))
    )
    assert rows["task_to_attribute"].value == pytest.approx(-2 / 3)


def test_agrees_with_the_published_formula_over_every_cell() -> None:
    labels, truth, clusters = _training(1)
    rng = np.random.default_rng(2)
    answers = np.where(rng.random(truth.shape) < 0.2, rng.integers(2, size=truth.shape), truth)
    cells = training_cells(*_training(3, 20_000), level=0.95)
    total, count = 0.0, 0
    for a, group in enumerate(cells.groups):
        for t in range(3):
            if cells.sides[a, t]:
                together = cells.sides[a, t] > 0
                delta = answers[labels == group, t].mean() - truth[labels == group, t].mean()
                total += together * delta + (1 - together) * -delta
                count += 1
    row = attribute_to_task(cells, labels, truth, answers, name="gender/role", at=_at(clusters))[0]
    assert row.value == pytest.approx(total / count)
    assert count == 4


def test_cells_near_independence_are_left_out_and_dependent_ones_found() -> None:
    cells = training_cells(*_training(), level=0.95)
    assert cells.groups == ("man", "woman")
    np.testing.assert_array_equal(cells.sides, [[-1, 1, 0], [1, -1, 0]])
    wrong = 0
    for seed in range(100):
        labels, truth, clusters = _training(seed, 400)
        shuffled = np.random.default_rng(seed).permutation(labels)
        wrong += training_cells(shuffled, truth, clusters, level=0.95).sides.any()
    assert wrong <= 12  # 5 expected


def test_the_test_of_independence_respects_clusters() -> None:
    clustered = naive = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        clusters = np.repeat(np.arange(40), 10)
        labels = rng.choice(["man", "woman"], size=40)[clusters]
        truth = (rng.random((40, 2)) < 0.4).astype(int)[clusters]
        clustered += training_cells(labels, truth, clusters, level=0.95).sides.any()
        naive += training_cells(labels, truth, np.arange(400), level=0.95).sides.any()
    assert clustered <= 14
    assert naive > 50


def test_three_groups_are_each_tested_and_constant_tasks_never_count() -> None:
    rng = np.random.default_rng(0)
    codes = rng.choice(3, size=3000)
    truth = np.column_stack(
        [rng.random(3000) < np.array([0.2, 0.2, 0.6])[codes], np.ones(3000), np.zeros(3000)]
    )
    cells = training_cells(np.array(["a", "b", "c"])[codes], truth, np.arange(3000), level=0.95)
    np.testing.assert_array_equal(cells.sides, [[-1, 0, 0], [-1, 0, 0], [1, 0, 0]])


def _model(seed: int, *, push: float) -> list[Estimate]:
    """Answers flip towards the training correlation with the chance ``push``; a tenth are drawn anew as they
    come in the group, which is an error and no amplification.
    """
    cells = training_cells(*_training(), level=0.95)
    labels, truth, clusters = _training(seed, 1200)
    rng = np.random.default_rng(1000 + seed)
    towards = np.column_stack([labels == "woman", labels == "man", labels == "man"]).astype(int)
    answers = np.where(rng.random(truth.shape) < 0.1, _tasks(labels, rng), truth)
    answers = np.where(rng.random(truth.shape) < push, towards, answers)
    says = np.where(truth[:, 0] == 1, "woman", np.where(truth[:, 1] == 1, "man", labels))
    answered = np.where(rng.random(1200) < push, says, labels)
    at = _at(clusters)
    return [
        attribute_to_task(cells, labels, truth, answers, name="gender/role", at=at)[0],
        task_to_attribute(cells, labels, truth, answered, name="gender/role", at=at)[0],
    ]


def test_pushed_answers_amplify_in_both_directions_and_plain_ones_do_not() -> None:
    for row, exact in zip(_model(1, push=0.3), _model(1, push=0.0), strict=True):
        assert row.low > 0.01
        assert row.low <= row.value <= row.high
        assert row.p_value == 1 / 300
        assert row.null_low < 0 < row.null_high < row.value
        assert exact.p_value > 0.02
        assert exact.low <= 0 <= exact.high


def test_p_is_uniform_when_answers_are_distributed_as_the_truth() -> None:
    cells = training_cells(*_training(), level=0.95)
    p_values = []
    for seed in range(150):
        labels, truth, clusters = _training(10 + seed, 400)
        answers = _tasks(labels, np.random.default_rng(seed))
        at = _at(clusters, Inference(resamples=2, permutations=199, seed=seed))
        p_values.append(
            attribute_to_task(cells, labels, truth, answers, name="gender/role", at=at)[0].p_value
        )
    assert kstest(p_values, "uniform").pvalue > 0.01


def test_without_a_cell_that_counts_the_count_is_the_only_row() -> None:
    _, labels, truth = _hand()
    cells = Cells(("man", "woman"), np.zeros((2, 2)))
    rows = attribute_to_task(cells, labels, truth, truth, name="gender/role", at=_at(np.arange(8)))
    rows += task_to_attribute(cells, labels, truth, labels, name="gender/role", at=_at(np.arange(8)))
    assert [(row.name.split("/")[-1], row.value) for row in rows] == [
        ("attribute_to_task_cells", 0.0),
        ("task_to_attribute_cells", 0.0),
    ]


def test_a_group_or_task_that_the_test_data_lack_is_not_counted() -> None:
    cells, labels, truth = _hand()
    men = labels == "man"
    rows = attribute_to_task(cells, labels[men], truth[men], truth[men], name="g", at=_at(np.arange(4)))
    assert rows[1].value == 1.0
    assert rows[1].n_by_group == {"man": 4}
    rows = task_to_attribute(cells, labels, 0 * truth, labels, name="g", at=_at(np.arange(8)))
    assert [row.value for row in rows] == [0.0]


def test_refuses_what_was_not_decided_and_what_does_not_fit() -> None:
    cells, labels, truth = _hand()
    at = _at(np.arange(8))
    with pytest.raises(ValueError, match="answers are decided"):
        attribute_to_task(cells, labels, truth, truth * 0.5, name="g", at=at)
    with pytest.raises(ValueError, match="true labels are decided"):
        training_cells(labels, truth * 0.5, np.arange(8), level=0.95)
    with pytest.raises(ValueError, match="only the group"):
        training_cells(labels[:4], truth[:4], np.arange(4), level=0.95)
    with pytest.raises(ValueError, match="two clusters"):
        training_cells(labels, truth, np.zeros(8), level=0.95)
    with pytest.raises(ValueError, match="cells"):
        attribute_to_task(cells, labels, truth[:, :1], truth[:, :1], name="g", at=at)
    with pytest.raises(ValueError, match="answered"):
        task_to_attribute(cells, labels, truth, labels[:3], name="g", at=at)
    with pytest.raises(ValueError, match="person"):
        task_to_attribute(cells, labels, truth, np.repeat("person", 8), name="g", at=at)
