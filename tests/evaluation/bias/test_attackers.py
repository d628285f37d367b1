from __future__ import annotations

import numpy as np
import pytest
from sklearn.neural_network import MLPClassifier
from sklearn.svm import SVC

from evaluation.bias import attackers as module
from evaluation.bias.attackers import ATTACKERS, Scorer, balanced_rows, trained


def _data(kind: str, seed: int, size: int = 480, width: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """Two groups told apart along one axis, by an exclusive or of two, or not at all."""
    rng = np.random.default_rng(seed)
    codes, sign = rng.integers(2, size=size), rng.choice([-1, 1], size=size)
    x = rng.standard_normal((size, width))
    if kind == "linear":
        x[:, 0] += 2.5 * (2 * codes - 1)
    if kind == "xor":
        x[:, 0] += 4 * sign
        x[:, 1] += 4 * sign * (2 * codes - 1)
    return x, codes


def _accuracy(scores: Scorer, x: np.ndarray, codes: np.ndarray) -> float:
    return float(np.mean(scores(x).argmax(axis=1) == codes))


@pytest.mark.parametrize("name", ATTACKERS)
def test_each_attacker_finds_what_its_kind_can_find_and_nothing_in_noise(name: str) -> None:
    found = {}
    for kind in ("linear", "xor", "none"):
        scores = trained(ATTACKERS[name], *_data(kind, 1), 0)
        found[kind] = _accuracy(scores, *_data(kind, 2, 2000))
        given = scores(_data(kind, 2, 50)[0])
        assert given.shape == (50, 2)
        assert np.isfinite(given).all()
        if name != "rbf_svm":
            np.testing.assert_allclose(given.sum(axis=1), 1.0)
    assert found["linear"] > 0.95
    assert found["xor"] < 0.6 if name == "logistic" else found["xor"] > 0.85
    assert abs(found["none"] - 0.5) < 0.05


@pytest.mark.parametrize("name", ATTACKERS)
def test_three_groups_of_which_one_is_rare_are_told_apart(name: str) -> None:
    rng = np.random.default_rng(0)
    codes = rng.choice(3, size=1200, p=[0.7, 0.26, 0.04])
    x = 2.0 * np.eye(3)[codes] + rng.standard_normal((1200, 3))
    scores = trained(ATTACKERS[name], x[:800], codes[:800], 0)(x[800:])
    said = scores.argmax(axis=1)
    recall = [np.mean(said[codes[800:] == group] == group) for group in range(3)]
    assert scores.shape == (400, 3)
    assert recall[2] > 0.4  # answering the commonest group alone gives 0
    assert np.mean(recall) > 0.6


def test_the_kernel_attacker_is_that_of_scikit_learn() -> None:
    x, codes = _data("xor", 1)
    test, _ = _data("xor", 2)
    scores = trained(ATTACKERS["rbf_svm"], x, codes, 0)(test)
    spread = x.std(axis=0)
    reference = SVC(C=1.0, class_weight="balanced").fit((x - x.mean(axis=0)) / spread, codes)
    expected = reference.decision_function((test - x.mean(axis=0)) / spread)
    np.testing.assert_allclose(scores[:, 1], expected, atol=1e-3)
    np.testing.assert_allclose(scores[:, 0], -scores[:, 1])


def test_neighbours_vote_by_hand() -> None:
    x = np.array([[1.0, 0.1], [1.0, -0.1], [1.1, 0.0], [-1.0, 0.1], [-1.0, -0.1], [-1.2, 0.0]])
    codes = np.array([0, 0, 1, 1, 1, 1])
    scores = trained(ATTACKERS["knn"], x, codes, 0)(np.array([[2.0, 0.0], [-2.0, 0.0]]))
    # three neighbours each: two of group 0 (of 2) and one of group 1 (of 4); three of group 1
    np.testing.assert_allclose(scores, [[1 / 1.25, 0.25 / 1.25], [0.0, 1.0]])


@pytest.mark.parametrize("name", ATTACKERS)
def test_same_seed_same_scores_and_blocks_change_none(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    x, codes = _data("linear", 1, 240)
    test, _ = _data("linear", 2, 100)
    first = trained(ATTACKERS[name], x, codes, 3)
    second = trained(ATTACKERS[name], x, codes, 3)(test)
    np.testing.assert_array_equal(first(test), second)
    monkeypatch.setattr(module, "BLOCK_ROWS", 7)
    np.testing.assert_allclose(first(test), second, atol=1e-9)


@pytest.mark.parametrize(
    ("name", "tolerance"), [("logistic", 0.02), ("rbf_svm", 0.02), ("knn", 0.02), ("mlp", 0.03)]
)
def test_a_rotation_of_the_embedding_changes_little(name: str, tolerance: float) -> None:
    x, codes = _data("linear", 1)
    test, truth = _data("linear", 2, 1000)
    turn, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((8, 8)))
    straight = _accuracy(trained(ATTACKERS[name], x, codes, 0), test, truth)
    turned = _accuracy(trained(ATTACKERS[name], x @ turn, codes, 0), test @ turn, truth)
    assert turned == pytest.approx(straight, abs=tolerance)


@pytest.mark.parametrize(("name", "tolerance"), [("logistic", 1e-4), ("rbf_svm", 5e-3), ("knn", 1e-12)])
def test_the_order_of_training_rows_and_of_groups_changes_nothing(name: str, tolerance: float) -> None:
    x, codes = _data("linear", 1)
    test, _ = _data("linear", 2)
    order = np.random.default_rng(0).permutation(len(x))
    scores = trained(ATTACKERS[name], x, codes, 0)(test)
    shuffled = trained(ATTACKERS[name], x[order], codes[order], 0)(test)
    renamed = trained(ATTACKERS[name], x, 1 - codes, 0)(test)
    np.testing.assert_allclose(shuffled, scores, atol=tolerance)
    np.testing.assert_allclose(renamed[:, ::-1], scores, atol=tolerance)


def test_thinned_rows_keep_rare_groups_whole_and_the_limit() -> None:
    codes = np.repeat([0, 1, 2], [900, 80, 20])
    kept = balanced_rows(codes, 300, seed=0)
    assert np.bincount(codes[kept]).tolist() == [200, 80, 20]
    assert (np.diff(kept) > 0).all()
    np.testing.assert_array_equal(kept, balanced_rows(codes, 300, seed=0))
    assert not np.array_equal(kept, balanced_rows(codes, 300, seed=1))
    np.testing.assert_array_equal(balanced_rows(codes, 1000, seed=0), np.arange(1000))
    assert np.bincount(codes[balanced_rows(codes, 30, seed=0)]).tolist() == [10, 10, 10]


@pytest.mark.parametrize(
    ("name", "limit"),
    [("rbf_svm", "SVM_ROWS"), ("gradient_boosting", "BOOSTING_ROWS"), ("knn", "NEIGHBOUR_ROWS")],
)
def test_costly_attackers_train_on_a_bounded_part(
    name: str, limit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, codes = _data("linear", 1)
    whole = trained(ATTACKERS[name], x, codes, 0)(x)
    monkeypatch.setattr(module, limit, 100)
    kept = balanced_rows(codes, 100, seed=0)
    part = trained(ATTACKERS[name], x, codes, 0)(x)
    np.testing.assert_array_equal(part, trained(ATTACKERS[name], x[kept], codes[kept], 0)(x))
    assert not np.array_equal(part, whole)


def test_the_mlp_sees_a_bounded_number_of_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    x, codes = _data("linear", 1)
    x, codes = x[:200], np.repeat([0, 1], 100)
    long = trained(ATTACKERS["mlp"], x, codes, 0)(x)
    monkeypatch.setattr(module, "MLP_VISITS", 200 * 60)
    np.testing.assert_array_equal(trained(ATTACKERS["mlp"], x, codes, 0)(x), long)
    monkeypatch.setattr(module, "MLP_VISITS", 200 * 5)
    short = trained(ATTACKERS["mlp"], x, codes, 0)(x)
    monkeypatch.setattr(module, "MLP_EPOCHS", 5)
    monkeypatch.setattr(module, "MLP_VISITS", 10**9)
    np.testing.assert_array_equal(trained(ATTACKERS["mlp"], x, codes, 0)(x), short)
    assert not np.array_equal(short, long)


def test_an_interrupted_network_is_no_attacker(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(MLPClassifier, "_update_no_improvement_count", interrupted)
    rng = np.random.default_rng(0)
    with pytest.raises(KeyboardInterrupt):
        ATTACKERS["mlp"](rng.standard_normal((60, 4)), np.arange(60) % 2, 0)
