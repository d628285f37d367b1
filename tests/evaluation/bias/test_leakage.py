from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import kstest

from evaluation.bias.attackers import ATTACKERS
from evaluation.bias.leakage import Attack, Sample, attack, leakage_change
from evaluation.bias.leakage_scores import balanced_accuracy
from evaluation.inference import Inference, paired_swaps, permutation_p
from evaluation.results import Estimate
from evaluation.setting import Setting

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


def _at(made: Attack, split: str = "test", system: str = "eraser off") -> Setting:
    return Setting(clusters=made.answers[split].clusters, split=split, system=system, inference=QUICK)


def _rows(made: Attack, split: str = "test", family: str = "leakage") -> dict[str, Estimate]:
    rows = made.estimates("gender/embedding", at=_at(made, split))
    start = f"{family}/gender/embedding/"
    return {row.name.removeprefix(start): row for row in rows if row.name.startswith(start)}


@pytest.mark.parametrize("family", ["leakage", "leakage_auc"])
def test_every_attacker_reads_a_linear_leak(family: str) -> None:
    rows = _rows(_attack("linear"), family=family)
    assert list(rows) == [*ATTACKERS, "max"]
    for row in rows.values():
        assert row.value > 0.9
        assert row.low > row.null_high
        assert (row.p_value, row.n, row.n_clusters, row.higher_is_better) == (1 / 300, 480, 120, False)
        assert row.n_by_group == {"man": 240, "woman": 240}
        assert row.null_low < row.null < row.null_high
    assert rows["max"].value == max(rows[name].value for name in ATTACKERS)


@pytest.mark.parametrize("family", ["leakage", "leakage_auc"])
def test_xor_is_missed_by_the_linear_attacker_and_found_by_the_others(family: str) -> None:
    rows = _rows(_attack("xor"), family=family)
    assert rows["logistic"].p_value > 0.05
    assert rows["logistic"].low <= 0.5 <= rows["logistic"].high
    for name in ("rbf_svm", "mlp", "gradient_boosting", "knn"):
        assert rows[name].value > 0.85
    assert rows["max"].p_value == 1 / 300


def test_without_leak_the_maximum_is_biased_up_and_its_null_with_it() -> None:
    attacks = [_attack("none", seed) for seed in range(6)]
    for family in ("leakage", "leakage_auc"):
        made = [_rows(each, family=family) for each in attacks]
        best = [rows["max"] for rows in made]
        assert min(row.p_value for row in best) > 0.01
        assert np.mean([row.p_value for row in best]) > 0.2
        assert np.mean([row.value for row in best]) > 0.505
        assert all(row.null > rows["logistic"].null + 0.005 for row, rows in zip(best, made, strict=True))
        assert made[0]["logistic"].null == pytest.approx(0.5, abs=0.01)
        assert sum(row.low <= row.null <= row.high for row in best) >= 5


def test_p_of_the_maximum_is_uniform_under_labels_that_say_nothing() -> None:
    p_values: dict[str, list[float]] = {"leakage": [], "leakage_auc": []}
    two = {name: ATTACKERS[name] for name in ("logistic", "knn")}
    for seed in range(80):
        rng = np.random.default_rng(seed)
        clusters = np.repeat(np.arange(40), 3)
        x = rng.standard_normal((40, 4))[clusters] + 0.5 * rng.standard_normal((120, 4))
        labels = GROUPS[rng.permutation(np.arange(40) % 2)[clusters]]
        own = [Sample(x[part], labels[part], clusters[part]) for part in (clusters < 16, clusters >= 16)]
        made = attack(own[0], {"test": own[1]}, seed=0, attackers=two)
        draws = Inference(resamples=2, permutations=99, seed=seed)
        for row in made.estimates("g/x", at=replace(_at(made), inference=draws)):
            family, *_, attacker = row.name.split("/")
            if attacker == "max":
                p_values[family].append(row.p_value)
    assert kstest(p_values["leakage_auc"], "uniform").pvalue > 0.01
    # accuracies tie, and ties count against a finding
    assert np.mean(np.array(p_values["leakage"]) <= 0.05) <= 0.1
    assert np.mean(p_values["leakage"]) == pytest.approx(0.5, abs=0.15)


def test_erasing_the_leaking_coordinate_is_seen_and_a_random_direction_changes_little() -> None:
    train, test = _sample("linear", 1), _sample("linear", 2)
    random = np.random.default_rng(0).standard_normal(12)

    def without(direction: np.ndarray) -> Attack:
        keep = np.eye(12) - np.outer(direction, direction) / (direction @ direction)
        return attack(replace(train, x=train.x @ keep), {"test": replace(test, x=test.x @ keep)}, seed=0)

    before, erased, control = attack(train, {"test": test}, seed=0), without(np.eye(12)[0]), without(random)

    def changes(after: Attack) -> list[Estimate]:
        rows = leakage_change(before, after, name="gender", at=_at(before, system="eraser on"))
        found = {row.name: row for row in rows}
        for attacker in after.attackers:
            own = found[f"leakage/gender/{attacker}_change"]
            assert own.value == pytest.approx(_rows(after)[attacker].value - _rows(before)[attacker].value)
            assert own.low <= own.value <= own.high
            assert own.p_value is None
        assert len(found) == 2 * (len(after.attackers) + 1)
        return [found[f"{family}/gender/max_change"] for family in ("leakage", "leakage_auc")]

    (fell, fell_area), (kept, kept_area) = changes(erased), changes(control)
    assert _rows(before)["max"].value > 0.9
    assert _rows(erased)["max"].value < 0.56
    assert fell.value == pytest.approx(_rows(erased)["max"].value - _rows(before)["max"].value)
    for row, control_row in ((fell, kept), (fell_area, kept_area)):
        assert row.low <= row.value <= row.high < -0.3
        assert abs(control_row.value) < 0.1
        assert control_row.high - control_row.low < row.high - row.low
        assert (row.null, row.n_by_group) == (0.0, {"man": 240, "woman": 240})
    assert (fell.p_value, fell_area.p_value) == (1 / 300, None)
    assert kept.p_value > 1 / 300


def _attack_of(size: int) -> Attack:
    only = {"logistic": ATTACKERS["logistic"]}
    return attack(_sample("linear", 1), {"test": _sample("linear", 2, size)}, seed=0, attackers=only)


def test_a_change_is_paired() -> None:
    first, second = _attack_of(480), _attack_of(480)
    for same in leakage_change(first, second, name="gender", at=_at(first)):
        assert (same.value, same.low, same.high) == (0.0, 0.0, 0.0)
        assert same.p_value in (1.0, None)
    with pytest.raises(ValueError, match="other clusters"):
        leakage_change(first, _attack_of(200), name="gender", at=_at(first))
    held = first.answers["test"]
    other = replace(first, answers={"test": replace(held, labels=1 - held.labels)})
    with pytest.raises(ValueError, match="cannot be paired"):
        leakage_change(first, other, name="gender", at=_at(first))


def test_p_of_a_change_agrees_with_swapping_the_answers_themselves() -> None:
    before, after = _attack("linear"), _attack("linear")
    held = after.answers["test"]
    rng = np.random.default_rng(0)
    worse = np.where(rng.random(held.scores.shape[:2])[..., None] < 0.03, -held.scores, held.scores)
    after = replace(after, answers={"test": replace(held, scores=worse)})
    rows = leakage_change(before, after, name="gender", at=_at(before))
    row = next(row for row in rows if row.name == "leakage/gender/max_change")
    old, new = before.answers["test"].predictions, after.answers["test"].predictions

    def change(first: np.ndarray, second: np.ndarray) -> float:
        return balanced_accuracy(second, held.labels).max() - balanced_accuracy(first, held.labels).max()

    null = [
        change(np.where(swap, new, old), np.where(swap, old, new))
        for swap in paired_swaps(held.clusters, QUICK)
    ]
    assert row.value == pytest.approx(change(old, new))
    assert row.p_value == permutation_p(-row.value, -np.array(null))


def test_an_edit_of_text_alone_leaves_image_leakage_bit_equal_and_test_rows_may_come_in_any_order() -> None:
    train, test = _sample("linear", 1), _sample("linear", 2)
    made = attack(train, {"test": test}, seed=0)
    again = attack(replace(train, x=train.x.copy()), {"test": replace(test, x=test.x.copy())}, seed=0)
    assert made.estimates("gender", at=_at(made)) == again.estimates("gender", at=_at(again))
    order = np.random.default_rng(0).permutation(len(test.x))
    turned = Sample(test.x[order], test.labels[order], test.clusters[order])
    mixed = attack(train, {"test": turned}, seed=0)
    for row, other in zip(
        made.estimates("gender", at=_at(made)), mixed.estimates("gender", at=_at(mixed)), strict=True
    ):
        assert (row.name, row.n_by_group) == (other.name, other.n_by_group)
        assert (row.value, row.low, row.high) == pytest.approx((other.value, other.low, other.high))


def test_renaming_groups_changes_no_number() -> None:
    train, test = _sample("linear", 1), _sample("linear", 2)
    same_order = {"man": "a man", "woman": "b woman"}
    other_order = {"man": "z", "woman": "a"}
    made = {}
    for key, names in (("plain", None), ("same", same_order), ("other", other_order)):
        own = [
            each if names is None else replace(each, labels=np.array([names[g] for g in each.labels]))
            for each in (train, test)
        ]
        made[key] = _rows(attack(own[0], {"test": own[1]}, seed=0))
    for name, row in made["plain"].items():
        assert made["same"][name].value == row.value
        # an MLP starts from other weights, and trees round other sums
        slack = 0.02 if name in ("mlp", "gradient_boosting", "max") else 1e-9
        assert made["other"][name].value == pytest.approx(row.value, abs=slack)


def test_same_seed_same_answers_on_every_split_and_three_unequal_groups() -> None:
    rng = np.random.default_rng(0)
    labels = rng.choice(["a", "b", "c"], size=300, p=[0.8, 0.1, 0.1])
    x = 3 * (labels[:, None] == np.array(["a", "b", "c"])) + rng.standard_normal((300, 3))
    train = Sample(x, labels, np.arange(300).astype(str))
    tests = {"test": train, "pair": Sample(*(each[labels != "b"] for each in (x, labels, train.clusters)))}
    first, second = (attack(train, tests, seed=3) for _ in range(2))
    for split in tests:
        np.testing.assert_array_equal(first.answers[split].scores, second.answers[split].scores)
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
