from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import f1_score

from evaluation.bias.amplification import Task, corrupted, decided, leakage_amplification
from evaluation.inference import Inference
from evaluation.results import Estimate
from evaluation.setting import Setting

QUICK = Inference(resamples=300, permutations=299)
CLASSES = 4


def _truth(rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Groups, and a class that goes with them a little: 0 and 1 are commoner among women."""
    woman = rng.random(size) < 0.5
    leaning = rng.random(size) < np.where(woman, 0.65, 0.35)
    return np.where(woman, "woman", "man"), np.where(leaning, 0, 2) + rng.integers(2, size=size)


def _one_class(seed: int, *, biased: bool, size: int = 2000) -> Task:
    """A third of the answers are wrong: at random, or by the leaning of the observation's group."""
    rng = np.random.default_rng(seed)
    labels, classes = _truth(rng, size)
    guess = (
        np.where(labels == "woman", 0, 2) + rng.integers(2, size=size) if biased else rng.permutation(classes)
    )
    answers = np.where(rng.random(size) < 0.4, guess, classes)
    onehot = np.eye(CLASSES, dtype=int)
    return Task(onehot[answers], onehot[classes], labels, np.arange(size) // 2)


def _rows(train: Task, test: Task) -> dict[str, Estimate]:
    at = Setting(clusters=test.clusters, split="test", system="eraser off", inference=QUICK)
    rows = leakage_amplification(train, test, name="gender/role", at=at)
    return {row.name.removeprefix("amplification/gender/role/"): row for row in rows}


def test_answers_that_lean_on_the_group_amplify_and_random_errors_do_not() -> None:
    biased, plain = (_rows(*(_one_class(seed, biased=biased) for seed in (1, 2))) for biased in (True, False))
    assert list(biased) == ["leakage", "matched_label_leakage", "leakage_amplification", "task_score"]
    for rows in (biased, plain):
        found = rows["leakage_amplification"]
        assert found.value == pytest.approx(rows["leakage"].value - rows["matched_label_leakage"].value)
        assert found.low <= found.value <= found.high
        assert (found.null, found.n, found.n_clusters) == (0.0, 2000, 1000)
        assert sum(found.n_by_group.values()) == 2000
        # labels with a third in error still tell of the group, as the task does
        assert 0.53 < rows["matched_label_leakage"].value < 0.65
        assert rows["matched_label_leakage"].p_value == 1 / 300
    assert biased["leakage_amplification"].low > 0.05
    assert plain["leakage_amplification"].low < 0 < plain["leakage_amplification"].high
    assert abs(plain["leakage_amplification"].value) < 0.04


def test_a_task_that_says_nothing_of_the_group_leaks_nothing_and_amplifies_nothing() -> None:
    tasks = [_one_class(seed, biased=False) for seed in (1, 2)]
    rng = np.random.default_rng(0)
    rows = _rows(*(replace(task, labels=rng.permutation(task.labels)) for task in tasks))
    assert rows["leakage"].p_value > 0.02
    assert rows["leakage"].value == pytest.approx(0.5, abs=0.04)
    assert rows["leakage_amplification"].value == pytest.approx(0.0, abs=0.04)


def _several(seed: int, *, biased: bool, size: int = 2000) -> Task:
    rng = np.random.default_rng(seed)
    labels = np.where(rng.random(size) < 0.5, "woman", "man")
    truth = (rng.random((size, 3)) < np.where(labels == "woman", 0.5, 0.3)[:, None]).astype(int)
    wrong = rng.random((size, 3)) < 0.2
    towards = np.where(labels == "woman", 1, 0)[:, None] if biased else rng.permuted(truth, axis=0)
    return Task(np.where(wrong, towards, truth), truth, labels, np.arange(size))


def test_several_answers_for_each_observation_are_compared_likewise() -> None:
    biased, plain = (_rows(*(_several(seed, biased=biased) for seed in (1, 2))) for biased in (True, False))
    assert biased["leakage_amplification"].low > 0.02
    assert plain["leakage_amplification"].low < 0.01
    assert abs(plain["leakage_amplification"].value) < 0.03


@pytest.mark.parametrize("make", [_one_class, _several], ids=["one class", "several"])
def test_corrupted_labels_have_the_models_score_and_are_as_common_as_before(make: object) -> None:
    task = make(3, biased=True, size=6000)
    assert task.score == pytest.approx(f1_score(task.truth, task.answers, average="micro"))
    drawn = corrupted(task, np.random.default_rng(0))
    assert replace(task, answers=drawn).score == pytest.approx(task.score, abs=0.015)
    np.testing.assert_array_equal(drawn.sum(axis=0), task.truth.sum(axis=0))
    assert not np.array_equal(drawn, corrupted(task, np.random.default_rng(1)))
    # the errors say nothing of the group
    wrong = (drawn != task.truth).any(axis=1)
    assert wrong[task.labels == "man"].mean() == pytest.approx(wrong[task.labels == "woman"].mean(), abs=0.05)
    np.testing.assert_array_equal(
        corrupted(replace(task, answers=task.truth), np.random.default_rng(0)), task.truth
    )


def test_answers_below_chance_corrupt_no_more_than_everything() -> None:
    classes = np.arange(400) % CLASSES
    onehot = np.eye(CLASSES, dtype=int)
    labels = np.tile(["man", "man", "woman", "woman"], 100)
    task = Task(onehot[(classes + 1) % CLASSES], onehot[classes], labels, np.arange(400))
    drawn = corrupted(task, np.random.default_rng(0))
    np.testing.assert_array_equal(drawn.sum(axis=0), [100] * CLASSES)
    assert replace(task, answers=drawn).score == pytest.approx(0.25, abs=0.08)


def test_the_task_score_is_accuracy_of_decided_scores() -> None:
    scores = np.array([[0.1, 0.9], [0.6, 0.4], [0.5, 0.5], [0.2, 0.8]])
    np.testing.assert_array_equal(decided(scores), [[0, 1], [1, 0], [1, 0], [0, 1]])
    truth = np.array([[0, 1], [1, 0], [0, 1], [0, 1]])
    assert Task(decided(scores), truth, np.array(["a", "b"] * 2), np.arange(4)).score == 0.75
    rows = _rows(_one_class(1, biased=False), test := _one_class(2, biased=False))
    assert rows["task_score"].value == pytest.approx((test.answers * test.truth).sum(axis=1).mean())
    assert rows["task_score"].higher_is_better


def test_refuses_scores_shapes_and_other_clusters() -> None:
    task = _one_class(1, biased=False, size=100)
    with pytest.raises(ValueError, match="decided"):
        replace(task, answers=task.answers * 0.5)
    with pytest.raises(ValueError, match="answers are"):
        replace(task, answers=task.answers[:, :2])
    at = Setting(clusters=np.arange(100), split="test", system="eraser off", inference=QUICK)
    with pytest.raises(ValueError, match="other clusters"):
        leakage_amplification(task, task, name="gender/role", at=at)
