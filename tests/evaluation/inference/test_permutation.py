from __future__ import annotations

from collections import Counter
from itertools import permutations, product

import numpy as np
import pytest
from scipy.stats import chisquare

from evaluation.inference import Inference, null_fields, paired_swaps, permutation_p, permuted_labels

QUICK = Inference(resamples=200, permutations=199)


def test_permutation_p_counts_the_observed_value_and_ties() -> None:
    assert permutation_p(3.0, np.array([1.0, 2.0, 3.0, 4.0])) == 3 / 5
    assert permutation_p(9.0, np.zeros(99)) == 1 / 100


def test_mixed_clusters_swap_whole_and_single_ones_trade_labels() -> None:
    labels = np.array(["m", "m", "w", "m", "w", "w", "m", "w"])
    clusters = np.array(["a", "a", "a", "b", "b", "x", "y", "z"])
    drawn = np.stack(list(permuted_labels(labels, clusters, Inference(permutations=2000))))
    assert {tuple(row) for row in drawn[:, :3]} == {("m", "m", "w"), ("w", "w", "m")}
    assert {tuple(row) for row in drawn[:, 3:5]} == {("m", "w"), ("w", "m")}
    assert {tuple(row) for row in drawn[:, 5:]} == {("m", "w", "w"), ("w", "m", "w"), ("w", "w", "m")}
    swapped = drawn[:, [0, 3]] == "w"
    np.testing.assert_allclose(swapped.mean(axis=0), 0.5, atol=0.05)
    assert np.mean(swapped[:, 0] & swapped[:, 1]) == pytest.approx(0.25, abs=0.05)
    np.testing.assert_allclose((drawn[:, 5:] == "m").mean(axis=0), 1 / 3, atol=0.05)


def test_three_groups_in_a_cluster_take_every_order() -> None:
    labels, clusters = np.array(["m", "p", "w", "m", "w"]), np.array([0, 0, 0, 1, 1])
    drawn = list(permuted_labels(labels, clusters, QUICK))
    assert len({tuple(row[:3]) for row in drawn}) == 6
    assert {tuple(row[3:]) for row in drawn} == {("m", "w"), ("w", "m")}


def _every_relabelling(labels: np.ndarray, clusters: np.ndarray) -> Counter[tuple[str, ...]]:
    """How often each relabelling occurs when all exchanges of ``permuted_labels`` are written out."""
    groups = {each: sorted(set(labels[clusters == each])) for each in dict.fromkeys(clusters)}
    alone = [each for each, held in groups.items() if len(held) == 1]
    mixed = [each for each, held in groups.items() if len(held) > 1]
    counted: Counter[tuple[str, ...]] = Counter()
    for singles, *orders in product(
        permutations(groups[each][0] for each in alone), *(permutations(groups[each]) for each in mixed)
    ):
        to = {(each, groups[each][0]): new for each, new in zip(alone, singles, strict=True)}
        for each, order in zip(mixed, orders, strict=True):
            to |= {(each, old): new for old, new in zip(groups[each], order, strict=True)}
        counted[tuple(to[pair] for pair in zip(clusters, labels, strict=True))] += 1
    return counted


@pytest.mark.parametrize(
    ("labels", "clusters"),
    [("mmwwp", "abcde"), ("mmmwwp", "aabbcd"), ("mwmwp", "aabbb"), ("mwwmpmw", "aaabcde")],
    ids=["singletons", "one group a cluster", "all mixed", "some mixed"],
)
def test_labels_are_drawn_uniformly_from_all_exchanges(labels: str, clusters: str) -> None:
    names, owner = np.array(list(labels)), np.array(list(clusters))
    expected = _every_relabelling(names, owner)
    draws = 6000
    drawn = Counter(tuple(each) for each in permuted_labels(names, owner, Inference(permutations=draws)))
    assert set(drawn) == set(expected)
    share = draws / sum(expected.values())
    assert chisquare([drawn[e] for e in expected], [n * share for n in expected.values()]).pvalue > 0.01


def test_swaps_move_whole_clusters_and_each_one_half_the_time() -> None:
    clusters = np.array(["a", "b", "a", "c", "b", "a"])
    masks = np.stack(list(paired_swaps(clusters, Inference(permutations=2000))))
    assert len({tuple(mask) for mask in masks}) == 8
    assert (masks[:, 0] == masks[:, 2]).all()
    assert (masks[:, 1] == masks[:, 4]).all()
    np.testing.assert_allclose(masks.mean(axis=0), 0.5, atol=0.05)


def test_null_fields_hold_mean_and_band_of_the_draws() -> None:
    null = np.linspace(0, 1, 999)
    fields = null_fields(0.9, null, QUICK)
    assert fields["null"] == pytest.approx(0.5)
    assert (fields["null_low"], fields["null_high"]) == pytest.approx((0.025, 0.975), abs=0.002)
    assert fields["p_value"] == permutation_p(0.9, null) == pytest.approx(0.1, abs=0.002)
