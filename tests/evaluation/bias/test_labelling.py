from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binomtest

from evaluation.bias import labelling as module
from evaluation.bias.labelling import given_categories, label_changes, label_rows
from evaluation.inference import Inference
from evaluation.prompt_file import PromptSet
from evaluation.results import Estimate
from evaluation.setting import Setting

QUICK = Inference(resamples=200, permutations=199)
LABELS = PromptSet(
    name="own",
    version="1",
    purpose="A test.",
    kind="classify",
    templates=("{}", "a {}"),
    labels={"person": ("man", "woman", "child"), "crime": ("thief", "criminal"), "non_human": ("animal",)},
    neutral="person",
    harmful=("crime", "non_human"),
)
PERSON, CRIME, NON_HUMAN, TIE = range(4)
DIM = 16


def _at(size: int, inference: Inference = QUICK) -> Setting:
    return Setting(clusters=np.arange(size) // 2, split="test", system="eraser off", inference=inference)


def _text(seed: int = 0) -> np.ndarray:
    """Two templates near each label's own axis, ``(labels, 2, d)``."""
    rng = np.random.default_rng(seed)
    return np.eye(len(LABELS.texts), DIM)[:, None] + rng.normal(0, 0.02, (len(LABELS.texts), 2, DIM))


def _pictures(size: int, shares: dict[str, float], seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings and groups: a share of each group lies near ``thief``, all others near a label of people."""
    rng = np.random.default_rng(seed)
    groups = np.repeat(list(shares), size // len(shares))
    label = np.where(rng.random(size) < [shares[g] for g in groups], 3, rng.integers(3, size=size))
    return np.eye(DIM)[label] + rng.normal(0, 0.05, (size, DIM)), groups


def _rows(rows: list[Estimate]) -> dict[str, Estimate]:
    return {
        f"{row.name.removeprefix('labelling/gender/own/')}{row.group and '/' + row.group}": row
        for row in rows
    }


def _measured(given: np.ndarray, groups: np.ndarray, inference: Inference = QUICK) -> dict[str, Estimate]:
    return _rows(label_rows(given, groups, LABELS, name="gender/own", at=_at(len(given), inference)))


def _changed(after: np.ndarray, before: np.ndarray, groups: np.ndarray) -> dict[str, Estimate]:
    return _rows(label_changes(after, before, groups, LABELS, name="gender/own", at=_at(len(after))))


def test_a_picture_counts_in_the_category_of_its_nearest_label() -> None:
    rng = np.random.default_rng(3)
    images, text = (
        rng.standard_normal((50, DIM)) * rng.uniform(0.1, 9, (50, 1)),
        rng.standard_normal((6, 2, DIM)),
    )
    given = given_categories(images, text, LABELS)
    for picture, category in zip(images, given, strict=True):
        cosines = []
        for templates in text:
            prompt = sum(each / np.linalg.norm(each) for each in templates)
            cosines.append(picture @ prompt / np.linalg.norm(picture) / np.linalg.norm(prompt))
        assert category == [PERSON, PERSON, PERSON, CRIME, CRIME, NON_HUMAN][int(np.argmax(cosines))]


def test_labels_that_tie_count_only_where_they_share_a_category() -> None:
    text = np.eye(6, DIM)[:, None].repeat(2, axis=1)
    images = np.stack([text[3, 0] + text[4, 0], text[2, 0] + text[3, 0], np.zeros(DIM), text[5, 0]])
    assert given_categories(images, text, LABELS).tolist() == [CRIME, TIE, TIE, NON_HUMAN]


def test_large_sets_are_read_in_blocks_with_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    images, _ = _pictures(100, {"man": 0.3, "woman": 0.1})
    whole = given_categories(images, _text(), LABELS)
    monkeypatch.setattr(module, "BLOCK_CELLS", 7 * DIM)
    np.testing.assert_array_equal(given_categories(images, _text(), LABELS), whole)


def test_rates_and_gaps_are_what_counting_gives() -> None:
    rng = np.random.default_rng(0)
    given, groups = rng.integers(4, size=300), rng.choice(["a", "b", "c"], 300)
    rows = _measured(given, groups)
    for category, name in enumerate(LABELS.categories):
        rates = {group: np.mean(given[groups == group] == category) for group in "abc"}
        for group, rate in rates.items():
            row = rows[f"{name}_rate/{group}"]
            assert row.value == pytest.approx(rate)
            assert row.n == np.count_nonzero(groups == group)
            assert row.n_clusters == len(set(np.flatnonzero(groups == group) // 2))
            assert row.low is not None
            assert row.high is not None
            assert row.low < rate < row.high
        if category != PERSON:
            assert rows[f"{name}_gap"].value == pytest.approx(max(rates.values()) - min(rates.values()))
    assert "person_gap" not in rows
    assert rows["person_rate/a"].higher_is_better
    assert not rows["crime_rate/a"].higher_is_better
    assert rows["crime_gap"].n_by_group == {group: np.count_nonzero(groups == group) for group in "abc"}


def test_a_group_that_lies_near_a_harmful_label_is_found() -> None:
    images, groups = _pictures(400, {"man": 0.25, "woman": 0.02})
    given = given_categories(images, _text(), LABELS)
    rows = _measured(given, groups)
    assert rows["crime_rate/man"].low > 0.15  # type: ignore[operator]
    assert rows["crime_rate/woman"].high < 0.08  # type: ignore[operator]
    found = rows["crime_gap"]
    assert found.low < 0.23 < found.high  # type: ignore[operator]
    assert found.value > found.null_high  # type: ignore[operator]
    assert found.p_value == pytest.approx(1 / 200)
    assert not found.higher_is_better


def test_the_same_pictures_with_groups_dealt_at_random_stay_within_the_null_band() -> None:
    images, groups = _pictures(400, {"man": 0.25, "woman": 0.02})
    given = given_categories(images, _text(), LABELS)
    dealt = np.random.default_rng(5).permutation(groups[::2]).repeat(2)
    found = _measured(given, dealt)["crime_gap"]
    assert found.value <= found.null_high  # type: ignore[operator]
    assert found.null > 0  # type: ignore[operator]
    assert found.low == 0


def test_a_gap_is_called_found_no_more_often_than_it_says() -> None:
    """Labels that hang on the cluster and not on the group: 5% of p-values lie below .05."""
    few, found, trials = Inference(resamples=20, permutations=99), 0, 150
    for seed in range(trials):
        rng = np.random.default_rng(seed)
        given = np.where(rng.random(60) < 0.2, CRIME, PERSON).repeat(2)
        groups = rng.choice(["a", "b", "c"], 60).repeat(2)
        p_value = _measured(given, groups, few)["crime_gap"].p_value
        assert p_value is not None
        found += p_value <= 0.05
    assert binomtest(found, trials, 0.05, alternative="greater").pvalue > 0.001


def test_a_label_nobody_got_is_rare_and_not_impossible() -> None:
    given, groups = np.full(200, PERSON), np.tile(["a", "a", "b", "b"], 50)
    rows = _measured(given, groups)
    rate = rows["crime_rate/a"]
    assert (rate.value, rate.low) == (0.0, 0.0)
    assert 3 / 200 < rate.high < 0.1  # type: ignore[operator]
    assert rows["crime_gap"].value == 0
    assert rows["crime_gap"].high > 3 / 200  # type: ignore[operator]
    assert rows["crime_gap"].p_value == 1
    other = given.copy()
    other[0] = NON_HUMAN
    change = _changed(other, given, groups)["crime_rate_change/b"]
    assert change.value == 0
    assert change.low < 0 < change.high  # type: ignore[operator]


def test_changes_are_paired_and_equal_the_difference_of_both_systems() -> None:
    rng = np.random.default_rng(2)
    groups = np.tile(["a", "a", "b", "b"], 100)
    before = np.where(rng.random(400) < 0.2, CRIME, PERSON)
    after = np.where((groups == "a") & (rng.random(400) < 0.7), PERSON, before)
    old, new, changes = _measured(before, groups), _measured(after, groups), _changed(after, before, groups)
    for name, change in changes.items():
        key = name.replace("_change", "")
        assert change.value == pytest.approx(new[key].value - old[key].value)
        assert change.null == 0
    fallen, kept = changes["crime_rate_change/a"], changes["crime_rate_change/b"]
    assert fallen.high < 0  # type: ignore[operator]
    assert fallen.p_value < 0.05  # type: ignore[operator]
    assert fallen.n == 200
    alone = new["crime_rate/a"], old["crime_rate/a"]
    assert fallen.high - fallen.low < sum(row.high - row.low for row in alone)  # type: ignore[operator,misc]
    assert kept.value == 0
    assert kept.p_value == 1
    assert changes["person_rate_change/a"].p_value == 1
    assert changes["crime_gap_change"].value > 0


def test_a_system_that_changes_no_label_changes_nothing() -> None:
    images, groups = _pictures(200, {"man": 0.25, "woman": 0.02})
    given = given_categories(images, _text(), LABELS)
    for change in _changed(given, given.copy(), groups).values():
        assert (change.value, change.low, change.high, change.p_value) == (0, 0, 0, 1)


def test_rows_are_the_same_for_the_same_seed_and_any_order_of_pictures() -> None:
    images, groups = _pictures(120, {"man": 0.25, "woman": 0.02})
    given, order = given_categories(images, _text(), LABELS), np.random.default_rng(0).permutation(120)
    at = _at(120)
    rows = label_rows(given, groups, LABELS, name="x", at=at)
    assert rows == label_rows(given, groups, LABELS, name="x", at=at)
    mixed = label_rows(given[order], groups[order], LABELS, name="x", at=at.where(order))
    for row, other in zip(rows, mixed, strict=True):
        assert (row.name, row.value) == (other.name, pytest.approx(other.value))
        assert (row.low, row.high) == pytest.approx((other.low, other.high))


def test_what_does_not_fit_is_refused() -> None:
    given, groups = np.zeros(8, dtype=int), np.array(list("aabbaabb"))

    def rows(said: np.ndarray = given, whose: np.ndarray = groups, size: int = 8) -> list[Estimate]:
        return label_rows(said, whose, LABELS, name="x", at=_at(size))

    with pytest.raises(ValueError, match="8 labels, 8 groups and 6 clusters"):
        rows(size=6)
    with pytest.raises(ValueError, match=r"outside 0\.\.3, where 3 stands for a tie"):
        rows(given + 4)
    with pytest.raises(ValueError, match=r"got only \['a'\]"):
        rows(whose=np.full(8, "a"))
    with pytest.raises(ValueError, match="'b' lies in one cluster"):
        rows(whose=np.array(list("aaaaaabb")))
    with pytest.raises(ValueError, match="5 label embeddings but 6 labels in own"):
        given_categories(np.ones((2, DIM)), _text()[:5], LABELS)
    with pytest.raises(ValueError, match="not finite"):
        given_categories(np.full((2, DIM), np.nan), _text(), LABELS)


def test_a_category_that_is_neither_neutral_nor_harmful_is_compared_too() -> None:
    prompts = replace(LABELS, harmful=("crime",))
    given, groups = np.tile([PERSON, NON_HUMAN], 20), np.tile(["a", "a", "b", "b"], 10)
    names = {row.name for row in label_rows(given, groups, prompts, name="x", at=_at(40))}
    assert {"labelling/x/non_human_gap", "labelling/x/non_human_rate"} <= names
