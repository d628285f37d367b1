from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from fairlearn import metrics as fairlearn
from scipy.stats import binomtest

from evaluation.bias.group_intervals import differences, limits_of_change, rate_limits, square_and_add
from evaluation.bias.group_rates import Answers, Rates
from evaluation.bias.groups import METRICS, group_changes, group_rows
from evaluation.inference import Inference, resampled_sums
from evaluation.results import Estimate
from evaluation.setting import Setting

QUICK = Inference(resamples=200, permutations=199)
REFERENCES = {
    "demographic_parity_difference": fairlearn.demographic_parity_difference,
    "demographic_parity_ratio": fairlearn.demographic_parity_ratio,
    "equalized_odds_difference": fairlearn.equalized_odds_difference,
    "equal_opportunity_difference": fairlearn.equal_opportunity_difference,
}


def _at(size: int, inference: Inference = QUICK) -> Setting:
    return Setting(clusters=np.arange(size) // 2, split="test", system="eraser off", inference=inference)


def _data(seed: int, size: int = 400, classes: int = 2, groups: str = "abc") -> tuple[np.ndarray, ...]:
    """Predictions right in 70% of the time whatever the group, targets and groups."""
    rng = np.random.default_rng(seed)
    target, group = rng.integers(classes, size=size), rng.choice(list(groups), size=size)
    return np.where(rng.random(size) < 0.7, target, rng.integers(classes, size=size)), target, group


def _rows(rows: list[Estimate]) -> dict[str, Estimate]:
    return {f"{row.name.removeprefix('groups/gender/')}{row.group}": row for row in rows}


def _by_fairlearn(said: np.ndarray, target: np.ndarray, groups: np.ndarray) -> dict[str, float]:
    found = {row: metric(target, said, sensitive_features=groups) for row, metric in REFERENCES.items()}
    correct = fairlearn.MetricFrame(
        metrics=lambda _, right: np.mean(right),
        y_true=target,
        y_pred=said == target,
        sensitive_features=groups,
    )
    return found | {"worst_group_accuracy": correct.group_min(), "accuracy_gap": correct.difference()}


def test_point_values_are_those_of_fairlearn() -> None:
    for seed in range(3):
        said, target, groups = _data(seed)
        rows = _rows(group_rows(said, target, groups, name="gender", at=_at(400), positive=1))
        for row, value in _by_fairlearn(said, target, groups).items():
            assert rows[row].value == pytest.approx(value, abs=1e-12)


def test_several_classes_give_the_most_extreme_of_each_against_the_rest() -> None:
    said, target, groups = _data(0, classes=4)
    rows = _rows(group_rows(said, target, groups, name="gender", at=_at(400)))
    for row, metric in REFERENCES.items():
        each = [metric(target == c, said == c, sensitive_features=groups) for c in range(4)]
        expected = min(each) if row.endswith("ratio") else max(each)
        assert rows[row].value == pytest.approx(expected, abs=1e-12)


def test_every_resample_and_permutation_is_what_fairlearn_says_of_it() -> None:
    said, target, groups = _data(1, size=80, groups="ab")
    clusters, few = np.arange(80) // 2, Inference(resamples=15, permutations=15)
    answers = Answers.of(said, target, groups, clusters, positive=1, least=1)
    tables = answers.resampled(few)
    for times, each in zip(resampled_sums(np.eye(40), np.arange(40), few), tables, strict=True):
        rows = np.repeat(np.arange(80), times[clusters].astype(int))
        for row, value in _by_fairlearn(said[rows], target[rows], groups[rows]).items():
            assert METRICS[row].of(each) == pytest.approx(value, abs=1e-12)
    moved = np.random.default_rng(0).permutation(answers.groups)
    for row, value in _by_fairlearn(said, target, moved).items():
        assert METRICS[row].of(answers.tables(moved)) == pytest.approx(value, abs=1e-12)


def test_a_planted_difference_is_found_in_the_group_that_has_it_and_not_where_there_is_none() -> None:
    said, target, groups = _data(2, size=800, groups="ab")
    unfair = np.where((groups == "b") & (np.random.default_rng(0).random(800) < 0.5), 0, said)
    none = _rows(group_rows(said, target, groups, name="gender", at=_at(800), positive=1))
    some = _rows(group_rows(unfair, target, groups, name="gender", at=_at(800), positive=1))
    assert list(none) == ["accuracya", "accuracyb", *METRICS, "classes_left_out"]
    for row in METRICS:
        better = none[row].higher_is_better
        assert none[row].p_value > 0.05
        assert none[row].null_low <= none[row].value <= none[row].null_high
        assert (none[row].high >= none[row].null) if better else (none[row].low == 0 < none[row].null)
        assert some[row].p_value == 1 / 200
        assert (some[row].high < some[row].null) if better else (some[row].low > some[row].null_high)
        assert some[row].n_by_group == {"a": np.sum(groups == "a"), "b": np.sum(groups == "b")}
    assert some["accuracyb"].high < some["accuracya"].low
    assert some["worst_group_accuracy"].value == some["accuracyb"].value


def test_an_intersection_shows_what_its_margins_hide() -> None:
    rng = np.random.default_rng(3)
    woman, dark, target = rng.integers(2, size=(3, 1600))
    wrong = rng.random(1600) < np.where(woman == dark, 0.35, 0.05)
    said = np.where(wrong, 1 - target, target)
    margins, crossed = np.array(["man", "woman"])[woman], np.array(["light", "dark"])[dark]
    both = np.char.add(np.char.add(margins, " & "), crossed)
    gap, hidden = (
        _rows(group_rows(said, target, groups, name="gender", at=_at(1600)))["accuracy_gap"]
        for groups in (both, margins)
    )
    assert gap.low > 0.2
    assert set(gap.n_by_group) == {"man & light", "man & dark", "woman & light", "woman & dark"}
    assert hidden.low == 0
    assert hidden.p_value > 0.05


def test_rare_classes_are_left_out_and_counted() -> None:
    said, target, groups = _data(4, classes=3)
    rare = np.flatnonzero((target == 2) & (groups == "a"))[6:]
    target[rare] = 0
    rows = _rows(group_rows(said, target, groups, name="gender", at=_at(400), least=7))
    assert rows["classes_left_out"].value == 1
    each = [
        fairlearn.demographic_parity_difference(target, said == c, sensitive_features=groups) for c in (0, 1)
    ]
    assert rows["demographic_parity_difference"].value == pytest.approx(max(each))
    assert (
        _rows(group_rows(said, target, groups, name="gender", at=_at(400), least=6))["classes_left_out"].value
        == 0
    )
    alone = _rows(group_rows(said, target, groups, name="gender", at=_at(400), least=1000))
    assert list(alone)[3:] == ["worst_group_accuracy", "accuracy_gap", "classes_left_out"]
    assert alone["classes_left_out"].value == 3


def test_a_class_that_is_one_cluster_is_not_compared() -> None:
    said, target, groups = _data(4, classes=3)
    at = replace(_at(400), clusters=np.where(target == 2, 1000, _at(400).clusters))
    assert _rows(group_rows(said, target, groups, name="gender", at=_at(400)))["classes_left_out"].value == 0
    assert _rows(group_rows(said, target, groups, name="gender", at=at))["classes_left_out"].value == 1


def test_a_class_that_is_never_predicted_has_no_ratio() -> None:
    _, target, groups = _data(5)
    rows = _rows(group_rows(np.zeros(400, dtype=int), target, groups, name="gender", at=_at(400), positive=1))
    assert rows["demographic_parity_difference"].value == 0
    assert "demographic_parity_ratio" not in rows


def test_names_of_groups_and_classes_and_the_order_of_rows_change_no_value() -> None:
    said, target, groups = _data(6)
    rows = _rows(group_rows(said, target, groups, name="gender", at=_at(400)))
    shuffle = np.random.default_rng(0).permutation(400)
    names, renamed = np.array(["no", "yes"]), {"a": "z", "b": "y", "c": "x"}
    other = _rows(
        group_rows(
            names[said][shuffle],
            names[target][shuffle],
            np.array([renamed[each] for each in groups[shuffle]]),
            name="gender",
            at=_at(400).where(shuffle),
        )
    )
    for row in METRICS:
        assert (other[row].value, other[row].low, other[row].high) == pytest.approx(
            (rows[row].value, rows[row].low, rows[row].high), abs=1e-12
        )


def test_small_groups_without_an_error_still_have_an_interval_with_width() -> None:
    target, groups = np.tile([0, 1], 20), np.repeat(["a", "b"], 20)
    rows = _rows(group_rows(target, target, groups, name="gender", at=_at(40), least=5))
    assert (rows["accuracya"].value, rows["accuracya"].high) == (1.0, 1.0)
    assert rows["accuracya"].low < 0.85
    assert rows["accuracy_gap"].value == rows["accuracy_gap"].low == 0
    assert rows["accuracy_gap"].high > 0.15
    assert rows["worst_group_accuracy"].low < 0.85


def test_limits_of_a_difference_are_newcombes() -> None:
    # 56 of 70 against 48 of 80: Newcombe (1998), method 10, table II
    limits = [binomtest(*each).proportion_ci(method="wilson") for each in ((56, 70), (48, 80))]
    (p, p_limits), (q, q_limits) = zip((np.array(0.8), np.array(0.6)), limits, strict=True)
    found = square_and_add(p, tuple(p_limits), q, tuple(q_limits), np.array(0.0))
    np.testing.assert_allclose(found, (0.0524, 0.3339), atol=5e-5)


def test_limits_of_a_rate_are_wilsons_where_observations_are_independent_and_wider_where_not() -> None:
    hits, size, many = 30, 200, Inference(resamples=4000)
    said = np.repeat(np.arange(size) < hits, 2).astype(int)
    groups, target = np.tile(["a", "b"], size), np.ones(2 * size, dtype=int)
    reference = binomtest(hits, size).proportion_ci(method="wilson")
    for clusters, wider in ((np.arange(2 * size), 1.0), (np.arange(2 * size) // 8, 2.0)):
        answers = Answers.of(said, target, groups, clusters, positive=None, least=1)
        low, high = rate_limits(answers.rates("accuracy", answers.resampled(many)), 0.025)
        width = (high - low) / (reference.high - reference.low)
        # four hits or none in a cluster: a quarter of the observations, twice the width
        np.testing.assert_allclose(width, wider, rtol=0.06)


def test_changes_see_a_fall_and_nothing_between_equal_predictions() -> None:
    said, target, groups = _data(7, size=800, groups="ab")
    unfair = np.where((groups == "b") & (np.random.default_rng(0).random(800) < 0.5), 0, said)
    fall = _rows(group_changes(said, unfair, target, groups, name="gender", at=_at(800), positive=1))
    rise = _rows(group_changes(unfair, said, target, groups, name="gender", at=_at(800), positive=1))
    none = _rows(group_changes(said, said, target, groups, name="gender", at=_at(800), positive=1))
    changed = [f"{row}_change" for row in METRICS if row != "demographic_parity_ratio"]
    assert list(fall) == ["accuracy_changea", "accuracy_changeb", *changed]
    for row in changed:
        gain, loss = (rise, fall) if fall[row].higher_is_better else (fall, rise)
        assert gain[row].high < 0 < loss[row].low
        assert (gain[row].p_value, loss[row].p_value) == (1 / 200, 1.0)
        assert fall[row].value == pytest.approx(-rise[row].value)
        assert (none[row].value, none[row].p_value, none[row].null) == (0, 1, 0)
        assert none[row].low <= 0 <= none[row].high


def test_interval_of_a_fall_to_no_difference_covers_and_its_percentiles_do_not() -> None:
    inference, samples = Inference(resamples=200), 400
    metric, held = METRICS["equalized_odds_difference"], np.zeros(2)
    for sample in range(samples):
        rng = np.random.default_rng(sample)
        groups, target, noise = np.tile([0, 1], 100), rng.integers(2, size=200), rng.random(200)
        rates: list[Rates] = []
        for true in ((0.7, 0.7), (0.9, 0.4)):
            said = (noise < np.where(target == 1, np.array(true)[groups], 0.2)).astype(int)
            answers = Answers.of(said, target, groups, np.arange(200), positive=1, least=1)
            rates.append(answers.rates(metric.kind, answers.resampled(inference)))
        low, high = limits_of_change(differences(rates[0]), differences(rates[1]), 0.95)
        ends = inference.interval(metric.statistic(rates[0].draws) - metric.statistic(rates[1].draws))
        held += [low <= -0.5 <= high, ends[0] <= -0.5 <= ends[1]]
    # 400 samples have a standard error of 1.1 points
    assert held[0] / samples >= 0.93
    assert held[1] / samples < 0.85


def test_refusals() -> None:
    said, target, groups = _data(8)

    def refused(match: str, changed: dict[str, np.ndarray] | None = None, **options: object) -> None:
        given = {"predictions": said, "target": target, "groups": groups} | (changed or {})
        with pytest.raises(ValueError, match=match):
            group_rows(**given, name="gender", at=_at(400), **options)  # type: ignore[arg-type]

    refused("differ in length", {"target": target[:-1]})
    refused("needs two groups", {"groups": np.full(400, "a")})
    refused("group 'z' lies in one cluster", {"groups": np.where(np.arange(400) < 2, "z", groups)})
    refused("positive class 7", positive=7)
    refused("least is 0", least=0)


def test_the_same_predictions_have_not_changed() -> None:
    said, target, groups = _data(4, classes=3)
    for change in group_changes(said, said, target, groups, name="gender", at=_at(400)):
        assert (change.value, change.low, change.high) == (0, 0, 0)
