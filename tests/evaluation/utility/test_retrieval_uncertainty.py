"""Intervals cover and p-values are uniform: hits and ranks are simulated, embeddings are not needed."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
from scipy.stats import kstest

from evaluation.inference import Bootstrap, Inference, cluster_sums, resampled_counts, resampled_sums
from evaluation.results import Estimate
from evaluation.setting import Setting
from evaluation.utility.retrieval import retrieval
from evaluation.utility.retrieval_ranks import QueryRanks, Ranks

SIMULATIONS = 1000
CAPTIONS = 5


def _ranks(i2t: np.ndarray, t2i: np.ndarray) -> Ranks:
    """Ranks of ``(n,)`` images among ``CAPTIONS * n`` captions, and of those captions."""
    images, texts = len(i2t), len(t2i)
    owner = np.repeat(np.arange(images), CAPTIONS)
    return Ranks(
        QueryRanks("i2t", i2t, np.full(images, CAPTIONS), texts, np.arange(images)),
        QueryRanks("t2i", t2i, np.ones(texts, dtype=int), images, owner),
    )


def _rows(ranks: Ranks, inference: Inference, clusters: np.ndarray) -> dict[str, Estimate]:
    at = Setting(clusters=clusters, split="test", system="model", inference=inference)
    return {row.name.removeprefix("retrieval/"): row for row in retrieval(ranks, at=at)}


def _intervals(hits: np.ndarray, clusters: np.ndarray, inference: Inference) -> np.ndarray:
    """Interval of the mean of every column of hits ``(n, simulations)``, ``(simulations, 2)``.

    The sums of all simulations are one product; the rest is as for one row.
    """
    values = np.column_stack([hits, np.ones(len(hits))])
    drawn, each = resampled_sums(values, clusters, inference), cluster_sums(values, clusters)
    left = each.sum(axis=0) - each
    draws, left_out = drawn[:, :-1] / drawn[:, -1:], left[:, :-1] / left[:, -1:]
    columns = zip(hits.mean(axis=0), draws.T, left_out.T, strict=True)
    return np.array([Bootstrap(*column).interval(inference) for column in columns])


@pytest.mark.parametrize("kind", ["percentile", "bca"])
@pytest.mark.parametrize("images", [200, 2000])
def test_recall_intervals_cover_where_captions_of_an_image_go_together(
    images: int, kind: Literal["percentile", "bca"]
) -> None:
    rng, truth = np.random.default_rng(0), 0.2
    inference = Inference(resamples=600, permutations=1, interval_kind=kind)
    chance = rng.beta(truth * 2, (1 - truth) * 2, size=(images, 1, SIMULATIONS))
    hits = (rng.random((images, CAPTIONS, SIMULATIONS)) < chance).reshape(images * CAPTIONS, SIMULATIONS)
    low, high = _intervals(hits, np.repeat(np.arange(images), CAPTIONS), inference).T
    assert 0.93 <= np.mean((low <= truth) & (truth <= high)) <= 0.97
    ranks = _ranks(np.ones(images, dtype=int), np.where(hits[:, 0], 1, 2))
    row = _rows(ranks, inference, np.arange(images))["t2i_recall_1"]
    assert (row.low, row.high) == pytest.approx((low[0], high[0]))
    if images == 200:
        low, high = _intervals(hits, np.arange(len(hits)), inference).T
        assert np.mean((low <= truth) & (truth <= high)) < 0.85


def test_median_rank_intervals_cover_where_captions_of_an_image_go_together() -> None:
    rng, inference = np.random.default_rng(0), Inference(resamples=200, permutations=1)
    images, covered = 200, []
    for _ in range(SIMULATIONS):
        place = rng.standard_normal((images, 1)) + 0.7 * rng.standard_normal((images, CAPTIONS))
        rank = 1 + np.floor(100.5 * np.exp(place.ravel())).astype(int)  # 101 holds the middle
        row = _rows(_ranks(np.ones(images, dtype=int), rank), inference, np.arange(images))["t2i_median_rank"]
        covered.append(row.low <= 101 <= row.high)
    assert 0.93 <= np.mean(covered) <= 0.97


def test_the_median_rank_interval_is_that_of_the_medians_of_every_resample() -> None:
    inference = Inference(resamples=15, permutations=1)
    rank = np.random.default_rng(0).choice([1, 4, 20, 300], size=6)
    row = _rows(_ranks(rank, np.ones(30, dtype=int)), inference, np.arange(6))["i2t_median_rank"]
    (counts,) = resampled_counts(6, inference)
    medians = np.array([np.median(np.repeat(rank, times)) for times in counts])
    assert (row.value, (row.low, row.high)) == (np.median(rank), inference.interval(medians))


@pytest.mark.parametrize("together", [1, 3])
def test_p_values_are_uniform_under_random_rankings_and_small_under_better_ones(together: int) -> None:
    rng, images = np.random.default_rng(0), 150
    clusters = np.arange(images) // together
    found: dict[str, list[float]] = {}
    for seed in range(300):
        inference = Inference(resamples=2, permutations=99, seed=seed, interval_kind="percentile")
        uniform = rng.random(clusters.max() + 1)[clusters]
        rank = np.repeat(1 + np.floor(images * uniform).astype(int), CAPTIONS)
        rows = _rows(_ranks(np.ones(images, dtype=int), rank), inference, clusters)
        for name in ("t2i_recall_10", "t2i_median_rank"):
            found.setdefault(name, []).append(rows[name].p_value)
        if seed < 20:
            better = _rows(_ranks(np.ones(images, dtype=int), 1 + rank // 10), inference, clusters)
            assert max(better[name].p_value for name in found) <= 0.05
    assert kstest(found["t2i_median_rank"], "uniform").pvalue > 0.01
    # recall takes few values here, so equal ones make its p-value larger than uniform, never smaller
    for level in (0.05, 0.1, 0.2, 0.5):
        assert np.mean(np.array(found["t2i_recall_10"]) <= level) <= level + 2.6 * (level / 300) ** 0.5
