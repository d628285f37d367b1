from __future__ import annotations

import numpy as np
import pytest

from evaluation.bias.ranking_shares import FirstPlaces, share_rows, worst_row
from evaluation.inference import Inference
from evaluation.results import Estimate
from evaluation.setting import Setting

QUICK = Inference(resamples=200, permutations=199)
DIM = 24
NAMES = ("nurse", "pilot", "judge")


def _at(size: int, inference: Inference = QUICK) -> Setting:
    return Setting(clusters=np.arange(size) // 2, split="test", system="eraser off", inference=inference)


def _planted(size: int = 400) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Queries, pictures and groups: pictures of women lie nearer to the first query, the others are blind."""
    rng = np.random.default_rng(0)
    images, groups = rng.standard_normal((size, DIM)), np.tile(["man", "man", "woman", "woman"], size // 4)
    images[groups == "woman", 0] += 4
    return np.eye(3, DIM), images, groups


def _measured(found: FirstPlaces, at: Setting) -> dict[str, Estimate]:
    rows = share_rows(found, NAMES, found.leading, name="gender/jobs", at=at)
    return {row.name.removeprefix("labelling/gender/jobs/"): row for row in rows}


def test_shares_of_the_first_places_are_what_counting_gives() -> None:
    queries, images, groups = _planted()
    at = _at(400)
    rows = _measured(FirstPlaces.of(queries, images, groups, k=40, at=at), at)
    unit = images / np.linalg.norm(images, axis=1, keepdims=True)
    for query, name in zip(queries, NAMES, strict=True):
        first = groups[np.argsort(-(unit @ query))[:40]]
        shares = {group: np.mean(first == group) for group in ("man", "woman")}
        row = rows[f"{name}_top_share"]
        assert row.group in [group for group, share in shares.items() if share == max(shares.values())]
        assert row.value == pytest.approx(shares[row.group])
        assert row.n == 40


def test_the_profession_that_shows_one_group_is_named_first_and_its_group_with_it() -> None:
    queries, images, groups = _planted()
    at = _at(400)
    found = FirstPlaces.of(queries, images, groups, k=40, at=at)
    rows, worst = _measured(found, at), worst_row(found, name="gender/jobs", at=at)
    first = next(iter(rows))
    row = rows[first]
    assert (first, row.group, row.value) == ("nurse_top_share", "woman", pytest.approx(1.0))
    assert row.low < 1 == row.high  # type: ignore[operator]
    assert row.value > row.null_high  # type: ignore[operator]
    assert row.null == pytest.approx(0.5, abs=0.03)
    assert row.p_value is None
    assert worst.name == "ranking/gender/jobs/worst_max_skew_40"
    assert worst.value == pytest.approx(np.log(2))
    assert worst.value > worst.null_high  # type: ignore[operator]
    assert worst.p_value == pytest.approx(1 / 200)
    assert worst.low <= worst.value <= worst.high  # type: ignore[operator]


def test_the_same_pictures_with_groups_dealt_at_random_stay_within_the_null_band() -> None:
    queries, images, groups = _planted()
    at, dealt = _at(400), np.random.default_rng(4).permutation(groups[::2]).repeat(2)
    worst = worst_row(FirstPlaces.of(queries, images, dealt, k=40, at=at), name="x", at=at)
    assert 0 < worst.value <= worst.null_high  # type: ignore[operator]


def test_pictures_that_tie_share_the_first_places_out() -> None:
    groups = np.tile(["a", "a", "a", "b"], 50)
    at = _at(200)
    found = FirstPlaces.of(np.eye(1, DIM), np.ones((200, DIM)), groups, k=20, at=at)
    np.testing.assert_allclose(found.observed.share[0, 0], [0.75, 0.25])
    assert worst_row(found, name="x", at=at).value == pytest.approx(0)


def test_the_group_that_is_picked_lies_above_its_band_no_more_often_than_it_says() -> None:
    """200 blind queries, 5 groups: a band for a group named beforehand would be left by one query in ten."""
    rng = np.random.default_rng(1)
    images, groups = rng.standard_normal((1000, 200)), rng.choice(list("abcde"), 1000)
    at = Setting(
        clusters=np.arange(1000),
        split="test",
        system="eraser off",
        inference=Inference(resamples=20, permutations=999),
    )
    found = FirstPlaces.of(np.eye(200), images, groups, k=100, at=at)
    rows = share_rows(found, [str(n) for n in range(200)], found.leading, name="x", at=at)
    above = [row.value > row.null_high for row in rows]  # type: ignore[operator]
    assert 0 < np.mean(above) < 0.08


def test_two_systems_show_the_group_that_led_before_the_edit() -> None:
    queries, images, groups = _planted()
    at, edited = _at(400), images.copy()
    edited[groups == "woman", 0] -= 8
    before, after = (FirstPlaces.of(queries, each, groups, k=40, at=at) for each in (images, edited))
    (row,) = [
        row
        for row in share_rows(after, NAMES, before.leading, name="x", at=at)
        if row.name.endswith("nurse_top_share")
    ]
    assert (row.group, row.value, row.low) == ("woman", 0.0, 0.0)
    assert row.high > 0  # type: ignore[operator]


def test_more_places_than_pictures_are_refused() -> None:
    with pytest.raises(ValueError, match="leave none from 1 to 7"):
        FirstPlaces.of(np.eye(1, DIM), np.ones((8, DIM)), np.array(list("aabbaabb")), k=8, at=_at(8))
