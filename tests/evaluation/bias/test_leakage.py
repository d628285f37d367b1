from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from evaluation.bias.leakage import ATTACKERS, Attack, Sample, attack, leakage_change
from evaluation.inference import Inference
from evaluation.results import Estimate

QUICK = Inference(resamples=300, permutations=299)
GROUPS = np.array(["man", "woman"])


def _sample(kind: str, seed: int, size: int = 480, width: int = 12) -> Sample:
    """Clusters of four, two of each group, with the attribute planted linearly, as XOR, or not at all."""
    rng = np.random.default_rng(seed)
    clusters = np.repeat(np.arange(size // 4), 4)
    code = np.tile([0, 1, 0, 1], size // 4)
    x = 0.5 * rng.standard_normal((size // 4, width))[clusters] + rng.standard_normal((size, width))
    sign = rng.choice([-1, 1], size=size)
    if kind == "linear":
        x[:, 0] += 2.5 * (2 * code - 1)
    if kind == "xor":
        x[:, 0] += 4 * sign
        x[:, 1] += 4 * sign * (2 * code - 1)
    return Sample(x, GROUPS[code], np.char.add("stem ", clusters.astype(str)))


def _attack(kind: str, seed: int = 0) -> Attack:
    return attack(_sample(kind, 2 * seed + 1), {"test": _sample(kind, 2 * seed + 2)}, seed=0)


def _rows(made: Attack, split: str = "test") -> dict[str, Estimate]:
    rows = made.estimates("gender/embedding", split, "eraser off", QUICK)
    return {row.name.removeprefix("leakage/gender/embedding/"): row for row in rows}


def test_every_attacker_reads_a_linear_leak() -> None:
    rows = _rows(_attack("linear"))
    assert list(rows) == [*ATTACKERS, "max"]
    for row in rows.values():
        assert row.value > 0.9
        assert row.low > row.null_high
        assert (row.p_value, row.n, row.n_clusters, row.higher_is_better) == (1 / 300, 480, 120, False)
    assert rows["max"].value == max(rows[name].value for name in ATTACKERS)


def test_xor_is_missed_by_the_linear_attacker_and_found_by_the_others() -> None:
    rows = _rows(_attack("xor"))
    assert rows["logistic"].p_value > 0.05
    assert rows["logistic"].low <= 0.5 <= rows["logistic"].high
    assert rows["rbf_svm"].value > 0.85
    assert rows["mlp"].value > 0.85
    assert rows["max"].p_value == 1 / 300


def test_without_leak_the_maximum_is_biased_up_and_its_null_with_it() -> None:
    made = [_rows(_attack("none", seed)) for seed in range(6)]
    best = [rows["max"] for rows in made]
    assert min(row.p_value for row in best) > 0.01
    assert np.mean([row.p_value for row in best]) > 0.2
    assert all(row.low <= row.null <= row.high for row in best)
    assert np.mean([row.value for row in best]) > 0.505
    assert all(row.null > rows["logistic"].null + 0.005 for row, rows in zip(best, made, strict=True))
    assert made[0]["logistic"].null == pytest.approx(0.5, abs=0.01)


def test_the_logistic_attacker_does_not_mind_a_rotation() -> None:
    train, test = _sample("linear", 1), _sample("linear", 2)
    turn, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((12, 12)))
    turned = {"test": replace(test, x=test.x @ turn)}
    only = {"logistic": ATTACKERS["logistic"]}
    before = attack(train, {"test": test}, seed=0, attackers=only)
    after = attack(replace(train, x=train.x @ turn), turned, seed=0, attackers=only)
    assert _rows(after)["max"].value == pytest.approx(_rows(before)["max"].value, abs=0.015)


def test_erasing_the_leaking_coordinate_is_seen_and_a_random_direction_changes_little() -> None:
    train, test = _sample("linear", 1), _sample("linear", 2)
    random = np.random.default_rng(0).standard_normal(12)

    def without(direction: np.ndarray) -> Attack:
        keep = np.eye(12) - np.outer(direction, direction) / (direction @ direction)
        return attack(replace(train, x=train.x @ keep), {"test": replace(test, x=test.x @ keep)}, seed=0)

    before, erased, control = attack(train, {"test": test}, seed=0), without(np.eye(12)[0]), without(random)
    fell, kept = (
        leakage_change(before, after, name="gender", split="test", system="eraser on", inference=QUICK)
        for after in (erased, control)
    )
    assert fell.name == "leakage/gender/max_change"
    assert _rows(before)["max"].value > 0.9
    assert _rows(erased)["max"].value < 0.56
    assert fell.value == _rows(erased)["max"].value - _rows(before)["max"].value
    assert fell.low <= fell.value <= fell.high < -0.3
    assert (fell.null, fell.p_value) == (0.0, 1 / 300)
    assert abs(kept.value) < 0.1
    assert kept.high - kept.low < fell.high - fell.low


def test_a_change_is_paired() -> None:
    first, second = _attack("linear"), _attack("linear", seed=0)
    same = leakage_change(first, second, name="gender", split="test", system="again", inference=QUICK)
    assert (same.value, same.low, same.high, same.p_value) == (0.0, 0.0, 0.0, 1.0)
    with pytest.raises(ValueError, match="cannot be paired"):
        leakage_change(first, _attack_of(200), name="gender", split="test", system="on", inference=QUICK)


def _attack_of(size: int) -> Attack:
    only = {"logistic": ATTACKERS["logistic"]}
    return attack(_sample("linear", 1), {"test": _sample("linear", 2, size)}, seed=0, attackers=only)


def test_same_seed_same_answers_on_every_split_and_three_unequal_groups() -> None:
    rng = np.random.default_rng(0)
    labels = rng.choice(["a", "b", "c"], size=300, p=[0.8, 0.1, 0.1])
    x = 3 * (labels[:, None] == np.array(["a", "b", "c"])) + rng.standard_normal((300, 3))
    train = Sample(x, labels, np.arange(300).astype(str))
    tests = {"test": train, "pair": Sample(*(each[labels != "b"] for each in (x, labels, train.clusters)))}
    first, second = (attack(train, tests, seed=3) for _ in range(2))
    for split in tests:
        np.testing.assert_array_equal(first.answers[split].predictions, second.answers[split].predictions)
    assert first.groups == ("a", "b", "c")
    rows = _rows(first)
    assert all(rows[name].value > 0.85 for name in ATTACKERS)
    assert rows["logistic"].null == pytest.approx(1 / 3, abs=0.03)
    assert _rows(first, "pair")["logistic"].n == np.count_nonzero(labels != "b")


def test_every_attacker_reads_a_rare_group() -> None:
    rng = np.random.default_rng(0)
    labels = np.where(rng.random(1600) < 0.1, "woman", "man")
    x = rng.standard_normal((1600, 3)) + 1.2 * (labels == "woman")[:, None] * np.eye(3)[0]
    halves = [Sample(x[rows], labels[rows], np.arange(800)) for rows in (slice(800), slice(800, None))]
    rows = _rows(attack(halves[0], {"test": halves[1]}, seed=0))
    assert all(rows[name].value > 0.65 for name in ATTACKERS)  # answering "man" scores 1/2


def test_the_svm_takes_a_bounded_number_of_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evaluation.bias.leakage.SVM_ROWS", 60)
    train = _sample("linear", 1)
    model = ATTACKERS["rbf_svm"](train.x, (train.labels == "woman").astype(int), 0)
    assert model[0].n_samples_seen_ == 60
    assert model.score(train.x, (train.labels == "woman").astype(int)) > 0.8


def test_refuses_one_group_and_unknown_groups() -> None:
    train = _sample("linear", 1, 40)
    men = Sample(*(each[train.labels == "man"] for each in (train.x, train.labels, train.clusters)))
    with pytest.raises(ValueError, match="'openmoji' holds only"):
        attack(train, {"test": train, "openmoji": men}, seed=0)
    with pytest.raises(ValueError, match="'train' holds only"):
        attack(men, {"test": train}, seed=0)
    other = replace(train, labels=np.where(train.labels == "man", "person", train.labels))
    with pytest.raises(ValueError, match=r"'test' holds .*person"):
        attack(train, {"test": other}, seed=0)
