from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from evaluation.inference import Inference, centred, resampled_counts
from evaluation.results import Estimate
from evaluation.setting import Setting
from evaluation.utility.average_precision import average_precision, map_change, mean_average_precision

QUICK = Inference(resamples=200, permutations=199)
CLASSES = ("cat", "dog", "cow")


def _at(clusters: np.ndarray) -> Setting:
    return Setting(clusters=clusters, split="test", system="model", inference=QUICK)


def _named(rows: list[Estimate]) -> dict[str, Estimate]:
    return {row.name: row for row in rows}


def _planted(signal: float = 1.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores, targets and clusters of 150 pictures of two views each."""
    rng = np.random.default_rng(seed)
    clusters = np.repeat(np.arange(150), 2)
    targets = np.where(rng.random((150, 3)) < (0.1, 0.3, 0.5), 1, -1)[clusters]
    return signal * targets + rng.standard_normal((300, 3)), targets, clusters


def test_hand_worked_table() -> None:
    scores = np.array([9.0, 8, 7, 6, 5, 4])[:, None]
    targets = np.array([1, -1, 1, -1, -1, 1])[:, None]
    # the three are found at precision 1/1, 2/3, 3/6, so recall 0 to .3 has 1, .4 to .6 has 2/3, the rest 1/2
    area, eleven = average_precision(scores, targets)[:, 0]
    assert area == pytest.approx((1 + 2 / 3 + 1 / 2) / 3)
    assert eleven == pytest.approx((4 * 1 + 3 * 2 / 3 + 4 * 1 / 2) / 11)


def test_a_later_precision_that_is_higher_counts_for_lower_recall() -> None:
    scores = np.array([4.0, 3, 2, 1])[:, None]
    area, eleven = average_precision(scores, np.array([-1, 1, 1, 1])[:, None])[:, 0]
    assert area == pytest.approx((1 / 2 + 2 / 3 + 3 / 4) / 3)
    assert eleven == pytest.approx(3 / 4)


def test_equal_scores_are_taken_together_and_a_difficult_one_is_left_out() -> None:
    scores = np.array([5.0, 5, 5, 1])[:, None]
    both = average_precision(scores, np.array([1, -1, -1, 1])[:, None])[:, 0]
    # at 5 precision is 1/3 and recall 1/2, at 1 it is 2/4 and 1
    assert both == pytest.approx([(1 / 3 + 1 / 2) / 2, 1 / 2])
    # without one of the two that are not of the class: 1/2 at recall 1/2, 2/3 at recall 1
    one_left = average_precision(scores, np.array([1, 0, -1, 1])[:, None])[:, 0]
    assert one_left == pytest.approx([(1 / 2 + 2 / 3) / 2, 2 / 3])
    with pytest.raises(ValueError, match="class 0 has no observation of another class"):
        average_precision(scores, np.array([1, 0, 0, 1])[:, None])


@pytest.mark.parametrize("decimals", [0, 12])
def test_area_agrees_with_scikit_learn_with_and_without_ties(decimals: int) -> None:
    scores, targets, _ = _planted()
    scores = scores.round(decimals)
    targets[::7, 1] = 0
    for index, found in enumerate(average_precision(scores, targets)[0]):
        kept = targets[:, index] != 0
        reference = average_precision_score(targets[kept, index] == 1, scores[kept, index])
        assert found == pytest.approx(reference, abs=1e-12)


def test_the_interval_is_that_of_every_resample_moved_to_the_value() -> None:
    scores, targets, clusters = _planted()
    scores = scores.round(1)
    rows = _named(mean_average_precision(scores, targets, CLASSES, name="voc", at=_at(clusters)))
    (counts,) = resampled_counts(150, QUICK)
    written_out = [np.repeat(np.arange(300), times[clusters]) for times in counts]
    drawn = np.array([average_precision(scores[each], targets[each]) for each in written_out])
    for name, draws in (
        ("probe/voc_map", drawn[:, 0].mean(axis=1)),
        ("probe/voc_map_11point", drawn[:, 1].mean(axis=1)),
        ("probe_ap/voc/dog", drawn[:, 0, 1]),
    ):
        row = rows[name]
        assert (row.low, row.high) == pytest.approx(centred(row.value, draws, QUICK), abs=1e-12)


def test_scores_that_know_the_classes_stand_out_and_others_are_at_the_null() -> None:
    scores, targets, clusters = _planted()
    rows = _named(mean_average_precision(scores, targets, CLASSES, name="voc", at=_at(clusters)))
    assert list(rows) == [
        *(f"probe/voc_{kind}" for kind in ("map", "map_11point")),
        *(f"probe_ap/voc/{label}" for label in CLASSES),
    ]
    for row in rows.values():
        assert row.low <= row.value <= row.high
        assert row.low > row.null_high
        assert (row.p_value, row.n, row.n_clusters) == (1 / 200, 300, 150)
    blind = [
        mean_average_precision(*_planted(0.0, seed)[:2], CLASSES, name="voc", at=_at(clusters))[0]
        for seed in range(30)
    ]
    assert np.mean([row.p_value for row in blind]) == pytest.approx(0.5, abs=0.2)
    assert np.mean([row.value - row.null for row in blind]) == pytest.approx(0, abs=0.02)


def test_a_difficult_observation_is_not_counted_in_the_row_of_its_class() -> None:
    scores, targets, clusters = _planted()
    targets[:30, 2] = 0
    rows = _named(mean_average_precision(scores, targets, CLASSES, name="voc", at=_at(clusters)))
    assert rows["probe_ap/voc/cow"].n == 270
    assert rows["probe_ap/voc/cow"].n_clusters == 135
    assert rows["probe/voc_map"].n == 300


def test_a_class_that_resamples_miss_leaves_the_mean_of_the_others() -> None:
    scores, targets, clusters = _planted()
    targets[:, 0] = -1
    targets[:2, 0] = 1
    scores[:2, 0] = 9
    row = mean_average_precision(scores, targets, CLASSES, name="voc", at=_at(clusters))[0]
    assert row.low <= row.value <= row.high
    assert row.low > row.value - 0.35


def test_change_is_paired() -> None:
    scores, targets, clusters = _planted()
    worse = scores + 2 * np.random.default_rng(1).standard_normal(scores.shape)
    fallen = map_change(scores, worse, targets, name="voc", at=_at(clusters))
    assert [row.name for row in fallen] == ["probe/voc_map_change", "probe/voc_map_11point_change"]
    plain = mean_average_precision(scores, targets, CLASSES, name="voc", at=_at(clusters))
    slight = map_change(scores, scores + 0.05 * worse, targets, name="voc", at=_at(clusters))
    for row, small, one in zip(fallen, slight, plain, strict=False):
        assert row.low <= row.value <= row.high < 0
        assert small.high - small.low < 0.5 * (one.high - one.low)
    for row in map_change(scores, 3 * scores, targets, name="voc", at=_at(clusters)):
        assert (row.value, row.low, row.high, row.null) == (0.0, 0.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("scores", "targets", "message"),
    [
        ([[1.0], [2.0]], [[1, -1], [1, 1]], "the same"),
        ([[np.nan], [2.0]], [[1], [-1]], "not finite"),
        ([[1.0], [2.0]], [[2], [-1]], "targets are 1"),
        ([[1.0], [2.0]], [[0], [-1]], "class 0 has no observation"),
    ],
)
def test_refuses_what_has_no_average_precision(
    scores: list[list[float]], targets: list[list[int]], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        average_precision(np.array(scores), np.array(targets))


def test_refuses_names_of_other_classes() -> None:
    scores, targets, clusters = _planted()
    with pytest.raises(ValueError, match="3 classes but 2 names"):
        mean_average_precision(scores, targets, CLASSES[:2], name="voc", at=_at(clusters))
