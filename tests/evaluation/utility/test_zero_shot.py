from __future__ import annotations

import numpy as np
import pytest

from evaluation.inference import Inference
from evaluation.results import Estimate
from evaluation.setting import Setting
from evaluation.utility.zero_shot import class_ranks, predictions, zero_shot, zero_shot_change

QUICK = Inference(resamples=200, permutations=199)


def _at(clusters: np.ndarray) -> Setting:
    return Setting(clusters=clusters, split="test", system="model", inference=QUICK)


def _rows(
    image: np.ndarray,
    prompts: np.ndarray,
    target: np.ndarray,
    clusters: np.ndarray | None = None,
    topk: tuple[int, ...] = (1, 5),
) -> dict[str, Estimate]:
    at = _at(np.arange(len(image)) if clusters is None else clusters)
    rows = zero_shot(class_ranks(image, prompts), target, name="task", at=at, topk=topk)
    return {row.name: row for row in rows}


def test_hand_worked_ranks() -> None:
    image = np.array([[3.0, 2.0, 1.0], [1.0, 3.0, 2.0], [2.0, 3.0, 1.0], [1.0, 2.0, 3.0]])
    rows = _rows(image, 5 * np.eye(3), np.array([0, 2, 2, 1]), topk=(1, 2, 3))
    assert list(rows) == ["zero_shot/task_top1", "zero_shot/task_top2"]
    assert rows["zero_shot/task_top1"].value == 1 / 4
    assert rows["zero_shot/task_top2"].value == 3 / 4


def test_two_classes_have_top1_only_and_a_constant_answer_equals_its_null() -> None:
    image, target = np.tile([1.0, 0.2], (40, 1)), np.repeat([0, 1], [30, 10])
    rows = _rows(image, np.eye(2), target)
    assert list(rows) == ["zero_shot/task_top1"]
    row = rows["zero_shot/task_top1"]
    assert (row.value, row.null, row.null_low, row.null_high, row.p_value) == (0.75, 0.75, 0.75, 0.75, 1.0)


def test_templates_are_averaged_at_unit_length() -> None:
    rng = np.random.default_rng(0)
    templates = rng.standard_normal((6, 3, 8)) * rng.uniform(0.1, 10, size=(6, 3, 1))
    unit = templates / np.linalg.norm(templates, axis=2, keepdims=True)
    image, target = rng.standard_normal((50, 8)), rng.integers(6, size=50)
    assert _rows(image, templates, target) == _rows(image, unit.mean(axis=1), target)
    assert _rows(image, templates, target) != _rows(image, templates.mean(axis=1), target)


def test_an_embedding_in_one_place_gets_no_credit() -> None:
    rng = np.random.default_rng(0)
    target = rng.integers(7, size=50)
    rows = _rows(rng.standard_normal((50, 8)), np.tile(rng.standard_normal(8), (7, 1)), target)
    assert [row.value for row in rows.values()] == [0.0, 0.0]


def test_a_planted_class_is_found_and_shuffled_targets_are_not() -> None:
    rng = np.random.default_rng(0)
    prompts, clusters = rng.standard_normal((8, 16)), np.repeat(np.arange(40), 3)
    target = rng.integers(8, size=40)[clusters]
    image = prompts[target] + rng.standard_normal((120, 16))
    found = _rows(image, prompts, target, clusters=clusters)["zero_shot/task_top1"]
    assert found.value > 0.7
    assert found.low > found.null_high
    assert (found.p_value, found.n, found.n_clusters) == (1 / 200, 120, 40)
    shuffled = []
    for _ in range(20):
        wrong = rng.permutation(target[::3])[clusters]
        shuffled.append(_rows(image, prompts, wrong, clusters=clusters)["zero_shot/task_top1"])
    assert np.mean([row.p_value for row in shuffled]) > 0.3
    assert np.mean([row.value for row in shuffled]) == pytest.approx(shuffled[0].null, abs=0.04)


def test_refuses_a_target_outside_the_classes() -> None:
    with pytest.raises(ValueError, match=r"classes 0..2"):
        _rows(np.eye(3), np.eye(3), np.array([0, 1, 3]))


@pytest.mark.parametrize("block_cells", [1, 100, 2**22])
def test_ranks_do_not_depend_on_the_block(block_cells: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    image, prompts = rng.standard_normal((30, 8)), rng.standard_normal((300, 8))
    cosine = (image / np.linalg.norm(image, axis=1)[:, None]) @ (
        prompts / np.linalg.norm(prompts, axis=1)[:, None]
    ).T
    monkeypatch.setattr("evaluation.utility.zero_shot.BLOCK_CELLS", block_cells)
    ranks = class_ranks(image, prompts)
    assert np.array_equal(ranks, (-cosine).argsort(axis=1).argsort(axis=1) + 1)
    assert ranks.dtype == np.uint16


def test_predictions_are_the_nearest_classes_and_a_tie_is_no_hit() -> None:
    image = np.array([[3.0, 2.0, 1.0], [0.0, 1.0, 2.0], [2.0, 2.0, 1.0]])
    ranks = class_ranks(image, np.eye(3))
    assert predictions(ranks).tolist() == [0, 2, 0]
    assert _rows(image, np.eye(3), np.array([0, 2, 0]))["zero_shot/task_top1"].value == 2 / 3


def test_change_is_paired_and_sees_a_loss_and_not_a_change_of_scale() -> None:
    rng = np.random.default_rng(0)
    prompts, target = rng.standard_normal((12, 16)), rng.integers(12, size=240)
    image, at = prompts[target] + rng.standard_normal((240, 16)), _at(np.repeat(np.arange(120), 2))
    before = class_ranks(image, prompts)

    def change(after: np.ndarray) -> list[Estimate]:
        return zero_shot_change(before, class_ranks(after, prompts), target, name="task", at=at)

    worse = change(image + 2 * rng.standard_normal(image.shape))
    assert [row.name for row in worse] == ["zero_shot/task_top1_change", "zero_shot/task_top5_change"]
    assert worse[0].low <= worse[0].value <= worse[0].high < 0
    assert worse[0].p_value == 1 / 200
    for row in change(2.0 * image):
        assert (row.value, row.low, row.high, row.p_value) == (0.0, 0.0, 0.0, 1.0)


def test_refuses_embeddings_that_are_not_finite() -> None:
    with pytest.raises(ValueError, match="not finite"):
        class_ranks(np.full((2, 2), np.nan), np.eye(2))
